//! `[[providers.NAME.accounts]]`: who pays for which runs.

use std::path::Path;

use crate::domain::account::Account;
use crate::domain::rate::OWN_KEY;
use crate::ids::AccountName;
use crate::spec::configuration::{check_label, headers, key};
use crate::spec::fault::{Faults, code};
use crate::spec::names::{check_name, is_label_value, unique};
use crate::spec::project::{KeySource, ProviderAccount};
use crate::spec::reader::{At, Node};

/// The most accounts of a provider.
const ACCOUNTS_MAX: usize = 1_000;

/// A provider's accounts, and whether they are strict.
pub(crate) fn accounts(root: &Path, node: &Node<'_>, faults: &mut Faults) -> (Vec<ProviderAccount>, bool) {
    let nodes = node.sections("accounts");
    if nodes.len() > ACCOUNTS_MAX {
        let message = format!("the provider has {} accounts", nodes.len());
        node.fault(faults, code::TOO_MANY, &node.span_of("accounts"), message, format!("at most {ACCOUNTS_MAX}"));
    }
    let named: Vec<At<String>> = nodes.iter().filter_map(|node| node.text("name")).collect();
    unique(node, &named, "the account", faults);
    let strict = node.boolean("strict").unwrap_or(false);
    if strict && nodes.is_empty() {
        let message = "`strict` refuses every run: there are no accounts".to_owned();
        node.fault(faults, code::CONFLICT, &node.span_of("strict"), message, "add `[[providers.NAME.accounts]]`");
    }
    (nodes.iter().filter_map(|node| account(root, node, faults)).collect(), strict)
}

fn account(root: &Path, node: &Node<'_>, faults: &mut Faults) -> Option<ProviderAccount> {
    let labels = node.texts_by_name("labels");
    for (label, value) in &labels {
        check_label(node, label, faults);
        if !is_label_value(&value.value) {
            let message = format!("`{}` has a value that no label can have", label.value);
            node.fault(faults, code::BAD_VALUE, &value.span, message, "expected 1 to 256 printable characters");
        }
    }
    if labels.is_empty() && node.has("labels") {
        let message = "the account is for every run: those after it pay for none".to_owned();
        let help = "name labels, such as `labels = { tenant = \"acme\" }`; the provider's own key is the default";
        node.fault(faults, code::CONFLICT, &node.span_of("labels"), message, help);
    }
    let (key, headers) = (key(root, node, faults), headers(node, faults));
    let name = node.text("name")?;
    check_name(node, "an account", &name, faults);
    if name.value == OWN_KEY {
        let message = format!("`{OWN_KEY}` stands for the provider's own key");
        node.fault(faults, code::BAD_NAME, &name.span, message, "give the account another name");
    }
    if key == KeySource::None && headers.is_empty() {
        let message = format!("the account `{}` has neither a key nor headers of its own", name.value);
        let help = "add `key_env`, `key_file`, `key_command` or `headers`";
        node.fault(faults, code::MISSING_KEY, &node.span, message, help);
    }
    let labels = labels.into_iter().map(|(label, value)| (label.value, value.value)).collect();
    Some(ProviderAccount { account: Account { name: AccountName::from(name.value), labels }, key, headers })
}
