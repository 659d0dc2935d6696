//! The folders that a tool may read, and the paths of files in them as a model sees them.
//!
//! A path is relative to its folder; with several folders it begins with the folder's own name.
//! Deliberately absent: hidden files, and symbolic links that lead out of a folder.

use std::path::{Component, Path, PathBuf};

/// Folders in the order of the tool file.
pub(super) struct Folders(Vec<Folder>);

/// One folder.
pub(super) struct Folder {
    /// The folder itself, without symbolic links.
    pub(super) root: PathBuf,
    /// What paths of its files begin with: empty, or its name.
    prefix: PathBuf,
}

impl Folders {
    /// Finds the folders on disk.
    pub(super) fn open(folders: &[String]) -> Result<Self, String> {
        let several = folders.len() > 1;
        let open = |folder: &String| {
            let root =
                Path::new(folder).canonicalize().map_err(|error| format!("the folder can't be read: {error}"))?;
            let prefix = root.file_name().filter(|_| several).map(PathBuf::from).unwrap_or_default();
            Ok(Folder { root, prefix })
        };
        folders.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// The folders.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Folder> {
        self.0.iter()
    }

    /// The file that a model names, if it is one of these folders'. What lies outside looks like what doesn't exist.
    pub(super) fn find(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let plain = |part: Component| match part {
            Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
            Component::CurDir => true,
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => false,
        };
        if !path.components().all(plain) {
            return None;
        }
        self.0.iter().find_map(|folder| folder.find(path))
    }
}

impl Folder {
    /// How a model sees a file of this folder.
    pub(super) fn shown(&self, file: &Path) -> String {
        let relative = file.strip_prefix(&self.root).unwrap_or(file);
        self.prefix.join(relative).to_string_lossy().into_owned()
    }

    fn find(&self, path: &Path) -> Option<PathBuf> {
        let relative = path.strip_prefix(&self.prefix).ok()?;
        let file = self.root.join(relative).canonicalize().ok()?;
        (file.starts_with(&self.root) && file.is_file()).then_some(file)
    }
}
