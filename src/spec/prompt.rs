//! The `[prompt]` of an agent, and the prompts of its stages.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::domain::plan::{PromptPlan, hex};
use crate::spec::fault::{Faults, code};
use crate::spec::files;
use crate::spec::reader::Node;
use crate::spec::template::{self, Exact, Names, Place};

/// The texts of a prompt that leaves them out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    /// The system text.
    pub(crate) system: &'a str,
    /// The user text.
    pub(crate) user: &'a str,
}

/// Reads a prompt; what is left out is what stands there by default. `None` after a fault that leaves no text.
pub(crate) fn resolve(
    root: &Path,
    node: Option<&Node<'_>>,
    names: &Names,
    default: Texts<'_>,
    faults: &mut Faults,
) -> Option<PromptPlan> {
    let (system, user) = match node {
        Some(node) => {
            let mut text = |key, file_key| text(root, node, (key, file_key), names, faults);
            (text("system", "system_file"), text("user", "user_file"))
        }
        None => (Ok(None), Ok(None)),
    };
    let system = system.ok()?.unwrap_or_else(|| default.system.to_owned());
    let user = user.ok()?.unwrap_or_else(|| default.user.to_owned());
    let version = node.and_then(|node| node.text("version")).map(|version| version.value);
    // Lengths keep the two texts apart: no shift of words between them gives the same hash.
    let hashed = Sha256::new().chain_update(system.len().to_le_bytes()).chain_update(&system).chain_update(&user);
    let hash = hex(&hashed.finalize()).chars().take(16).collect();
    Some(PromptPlan { version, hash, system, user })
}

/// A text of the prompt, in the file itself or in one that it names. `Err` after a fault that leaves no text.
fn text(
    root: &Path,
    node: &Node<'_>,
    (key, file_key): (&str, &str),
    names: &Names,
    faults: &mut Faults,
) -> Result<Option<String>, ()> {
    let (text, file) = (node.text(key), node.text(file_key));
    if text.is_some()
        && let Some(file) = &file
    {
        let message = format!("`{file_key}` and `{key}` are both there");
        node.fault(faults, code::CONFLICT, &file.span, message, "keep one of them");
    }
    if let Some(text) = text {
        let place = Place { source: node.source, span: text.span.clone(), exact: Exact::No };
        template::check(&text.value, &place, names, faults);
        return Ok(Some(text.value));
    }
    let Some(file) = file else { return Ok(None) };
    let path = files::named(root, node, &file, faults).ok_or(())?;
    let source = files::read(root, &path).map_err(|fault| faults.push(fault))?;
    let place = Place { source: &source, span: 0..source.text().len(), exact: Exact::Yes };
    template::check(source.text(), &place, names, faults);
    Ok(Some(source.text().to_owned()))
}
