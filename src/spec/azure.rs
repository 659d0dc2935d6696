//! The keys of a provider at Azure, resolved.

use std::collections::BTreeMap;

use crate::spec::fault::{Faults, code};
use crate::spec::names::is_label;
use crate::spec::project::{Azure, AzureApi, AzureAuth, Deployment, DeploymentScope, Wire};
use crate::spec::reader::{At, Node};

/// How Azure is reached; `None` on other wires, which take none of its keys.
pub(crate) fn resolve(node: &Node<'_>, wire: Wire, faults: &mut Faults) -> Option<Azure> {
    if wire != Wire::AzureOpenAi {
        return None;
    }
    Some(Azure {
        api_version: api_version(node, faults),
        api: match node.text("api").map(|word| word.value).as_deref() {
            Some("responses") => AzureApi::Responses,
            Some(_) | None => AzureApi::Chat,
        },
        auth: match node.text("auth").map(|word| word.value).as_deref() {
            Some("entra") => AzureAuth::Entra,
            Some(_) | None => AzureAuth::ApiKey,
        },
        deployments: deployments(node, faults),
    })
}

fn api_version(node: &Node<'_>, faults: &mut Faults) -> Option<String> {
    let version = node.text("api_version")?;
    if !is_label(&version.value) {
        let message = format!("`{}` is no version of an API", version.value);
        let help = "expected such as `2024-10-21`; leave it out for the v1 path";
        node.fault(faults, code::BAD_VALUE, &version.span, message, help);
    }
    Some(version.value)
}

fn deployments(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, Deployment> {
    let named = node.sections_by_name("deployments");
    if named.is_empty() && !node.has("deployments") {
        let message = "the provider names no deployment: what it costs depends on its model and its scope".to_owned();
        let help = "add `[providers.NAME.deployments.DEPLOYMENT]` with `model` and `scope`";
        node.fault(faults, code::MISSING_KEY, &node.key_span("wire"), message, help);
    }
    named.iter().filter_map(|(name, node)| deployment(name, node, faults)).collect()
}

fn deployment(name: &At<String>, node: &Node<'_>, faults: &mut Faults) -> Option<(String, Deployment)> {
    if !is_label(&name.value) {
        let message = format!("`{}` is no name of a deployment", name.value);
        node.fault(faults, code::BAD_NAME, &name.span, message, "expected 1 to 64 letters, digits, `_`, `-` and `.`");
    }
    let word = node.text("scope")?.value;
    let scope = DeploymentScope::ALL.into_iter().find(|scope| scope.name() == word)?;
    Some((name.value.clone(), Deployment { model: node.text("model")?.value, scope }))
}
