//! `init`: a small project that works as it stands, without a key.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Context;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::current_folder;

/// The files, relative to the project.
const FILES: [(&str, &str); 4] = [
    ("plimsoll.toml", include_str!("init/plimsoll.toml")),
    ("agents/hello.toml", include_str!("init/hello.toml")),
    ("tools/lookup_order.toml", include_str!("init/lookup_order.toml")),
    (".gitignore", include_str!("init/gitignore")),
];

pub(super) fn init(context: &Context<'_>) -> Result<Exit, CliError> {
    let folder = folder(context.project)?;
    let wanted: Vec<(PathBuf, &str)> = FILES
        .iter()
        .map(|(name, text)| (folder.join(name), *text))
        // A repository's own list of ignored files stays as it is.
        .filter(|(path, _)| !(path.ends_with(".gitignore") && path.exists()))
        .collect();
    if let Some((path, _)) = wanted.iter().find(|(path, _)| path.exists()) {
        let message = format!("`{}` exists, and is not written over", path.display());
        return Err(Problem::usage(code::EXISTS, message)
            .help("name another folder: `plimsoll --project DIR init`")
            .into());
    }
    for (path, text) in &wanted {
        write_new(path, text)?;
    }
    let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    context.output.talk(&format!("made {} in {}", names.join(", "), folder.display()));
    let place = context.project.map_or(String::new(), |named| format!("--project {} ", named.display()));
    context.output.talk(&format!(
        "\nnext:  plimsoll {place}run hello --input 'Where is order 4711?'\nthen:  plimsoll {place}trace last\n\nWithout a provider in plimsoll.toml the simulated one answers, and nothing is spent."
    ));
    Ok(Exit::Finished)
}

/// `--project`, `PLIMSOLL_HOME`, or the current folder: not one upwards, where another project may lie.
fn folder(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let current = current_folder()?;
    let home = std::env::var_os("PLIMSOLL_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    Ok(named.map(Path::to_owned).or(home).map_or(current.clone(), |folder| current.join(folder)))
}

fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| Problem::file("make", parent, &error))?;
    }
    let mut file = File::create_new(path).map_err(|error| Problem::file("write", path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| Problem::file("write", path, &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::load::{LoadOptions, load_project};

    #[test]
    fn the_project_that_init_makes_has_no_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in FILES {
            write_new(&folder.path().join(name), text).expect("written");
        }
        let (project, plans) =
            load_project(folder.path(), &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(project.providers.is_empty());
        assert_eq!(plans.keys().map(ToString::to_string).collect::<Vec<_>>(), ["hello"]);
    }
}
