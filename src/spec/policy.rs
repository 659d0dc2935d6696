//! `[policies]` and `[[denied]]` of `plimsoll.toml`: which models are approved for which quality, what an environment takes
//! out of that, and when a cheaper policy is enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::limits::Declared;
use crate::domain::policy::{Approvals, DeniedModels, DowngradeRules, Hours, Narrowed, Priority, Share};
use crate::ids::{ModelName, PolicyName};
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::limits::declared;
use crate::spec::names::{self, Providers, check_name, unique};
use crate::spec::reader::{At, Node};

/// The tiers of quality of a project that names none, the lowest first.
const QUALITIES: [&str; 3] = ["basic", "standard", "high"];

/// A model policy, as its project's environment has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its key under `[policies]`.
    pub name: PolicyName,
    /// The tier of quality that it is good for: one of the project's.
    pub quality: Option<Quality>,
    /// Who may change it.
    pub owner: Option<String>,
    /// Approved models: the first is primary, the rest are fallbacks.
    pub models: Vec<ModelName>,
    /// Who may take over what a content filter or a refusal stopped.
    pub content_filter_fallbacks: Vec<ModelName>,
    /// Who takes over, after `models`, where a request was too long.
    pub context_fallbacks: Vec<ModelName>,
    /// The policy to fall to, and when.
    pub downgrade: Option<Downgrade>,
    /// Where it was declared.
    pub declared: Declared,
}

/// A tier of quality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Its name.
    pub name: String,
    /// Its place among the project's tiers; 0 is the lowest.
    pub rank: usize,
}

/// Where a policy falls to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downgrade {
    /// The policy.
    pub to: PolicyName,
    /// What else than missing money sends a run there.
    pub rules: DowngradeRules,
}

/// The lowest policy that is good enough for a tier; two of the same tier are told apart by their names only.
///
/// # Errors
/// The names of several that are equally good.
pub(crate) fn for_quality(policies: &BTreeMap<PolicyName, Policy>, rank: usize) -> Result<Option<&Policy>, Vec<&str>> {
    let rank_of = |policy: &Policy| policy.quality.as_ref().map(|quality| quality.rank);
    let least = policies.values().filter_map(rank_of).filter(|at| *at >= rank).min();
    let fit: Vec<&Policy> = policies.values().filter(|policy| least.is_some() && rank_of(policy) == least).collect();
    match fit.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(several.iter().map(|policy| policy.name.as_str()).collect()),
    }
}

/// The tiers of quality, the lowest first.
pub(crate) fn qualities(head: Option<&Node<'_>>, faults: &mut Faults) -> Vec<String> {
    let Some((node, named)) = head.and_then(|node| Some((node, node.texts("qualities")?))) else {
        return QUALITIES.map(str::to_owned).to_vec();
    };
    unique(node, &named.value, "the quality", faults);
    named.value.into_iter().map(|name| name.value).collect()
}

/// What the resolution of policies rests on.
pub(crate) struct Around<'a> {
    pub(crate) providers: &'a Providers,
    pub(crate) qualities: &'a [String],
    pub(crate) environment: &'a str,
}

/// Resolves all policies, narrowed for the environment, with what is denied there.
pub(crate) fn resolve(
    node: &Node<'_>,
    around: &Around<'_>,
    faults: &mut Faults,
) -> (BTreeMap<PolicyName, Policy>, Approvals) {
    let entries = node.sections_by_name("policies");
    let known: Vec<String> = entries.iter().map(|(name, _)| name.value.clone()).collect();
    let (mut policies, mut narrowed) = (BTreeMap::new(), BTreeMap::new());
    let mut downgrades = Vec::new();
    for (name, node) in &entries {
        check_name(node, "a policy", name, faults);
        let mut policy = policy(name, node, around, faults);
        if let Some(downgrade) = node.section("downgrade") {
            policy.downgrade = self::downgrade(&name.value, &downgrade, &known, faults);
            downgrades.push((policy.name.clone(), downgrade));
        }
        if let Some(taken) = narrow(&mut policy, node, around, faults) {
            narrowed.insert(policy.name.clone(), taken);
        }
        policies.insert(policy.name.clone(), policy);
    }
    for (name, node) in &downgrades {
        check_direction(&policies, name, node, faults);
    }
    (policies, Approvals { denied: denied(node, around.environment, faults), narrowed })
}

fn policy(name: &At<String>, node: &Node<'_>, around: &Around<'_>, faults: &mut Faults) -> Policy {
    Policy {
        name: PolicyName::from(name.value.as_str()),
        quality: node.text("quality").and_then(|word| quality(node, &word, around.qualities, faults)),
        owner: node.text("owner").map(|owner| owner.value),
        models: names::models(node, "models", around.providers, faults),
        content_filter_fallbacks: names::models(node, "content_filter_fallbacks", around.providers, faults),
        context_fallbacks: names::models(node, "context_fallbacks", around.providers, faults),
        downgrade: None,
        declared: declared(node.source, &name.span),
    }
}

/// A tier of the project by its name.
pub(crate) fn quality(
    node: &Node<'_>,
    word: &At<String>,
    qualities: &[String],
    faults: &mut Faults,
) -> Option<Quality> {
    let rank = qualities.iter().position(|name| *name == word.value);
    if rank.is_none() {
        let help = suggest(&word.value, qualities.iter().map(String::as_str), "");
        let message = format!("no quality `{}` among the project's `qualities`", word.value);
        node.fault(faults, code::UNKNOWN_NAME, &word.span, message, help);
    }
    rank.map(|rank| Quality { name: word.value.clone(), rank })
}

fn downgrade(name: &str, node: &Node<'_>, known: &[String], faults: &mut Faults) -> Option<Downgrade> {
    let to = node.text("to")?;
    if to.value == name {
        let message = format!("the policy `{name}` downgrades to itself");
        node.fault(faults, code::CONFLICT, &to.span, message, "name another policy");
    } else if !known.contains(&to.value) {
        let help = suggest(&to.value, known.iter().map(String::as_str), "");
        node.fault(faults, code::UNKNOWN_NAME, &to.span, format!("no policy `{}`", to.value), help);
    }
    Some(Downgrade { to: PolicyName::from(to.value), rules: rules(node, faults) })
}

fn rules(node: &Node<'_>, faults: &mut Faults) -> DowngradeRules {
    let mut bad = |at: &At<String>, key: &str, help: &str| {
        node.fault(faults, code::BAD_VALUE, &at.span, format!("`{key}` is `{}`", at.value), help);
    };
    let at = node.text("at").and_then(|text| {
        let share = Share::parse(&text.value);
        if share.is_none() {
            bad(&text, "at", "expected a share of the budget such as `\"90%\"`: above 0%, at most 100%");
        }
        share
    });
    let mut hours = Vec::new();
    for text in node.texts("hours").map(|texts| texts.value).unwrap_or_default() {
        match Hours::parse(&text.value) {
            Some(stretch) => hours.push(stretch),
            None => bad(&text, "hours", "expected a part of the day such as `\"20:00-06:00\"`"),
        }
    }
    let time_zone = node.text("time_zone").map(|zone| zone.value);
    if time_zone.is_some() {
        names::time_zone(node, faults);
        if hours.is_empty() {
            let message = "`time_zone` is set, and no `hours`".to_owned();
            node.fault(faults, code::CONFLICT, &node.key_span("time_zone"), message, "add `hours`, or take it out");
        }
    }
    let priority = node.text("priority").and_then(|word| word.value.parse::<Priority>().ok());
    DowngradeRules { at, priority, hours, time_zone }
}

/// Reports a downgrade that leads to a higher quality.
fn check_direction(policies: &BTreeMap<PolicyName, Policy>, name: &PolicyName, node: &Node<'_>, faults: &mut Faults) {
    let Some(from) = policies.get(name) else { return };
    let to = from.downgrade.as_ref().and_then(|downgrade| policies.get(&downgrade.to));
    let ranks = from.quality.as_ref().zip(to.and_then(|to| to.quality.as_ref()));
    if let (Some((own, above)), Some(to)) = (ranks.filter(|(own, above)| above.rank > own.rank), to) {
        let message =
            format!("the policy `{name}` of quality `{}` downgrades to `{}` of `{}`", own.name, to.name, above.name);
        let help = "name a policy of the same or a lower quality";
        node.fault(faults, code::CONFLICT, &node.key_span("to"), message, help);
    }
}

/// Takes out what the environment doesn't approve; every environment's lists are checked, whichever is this one.
fn narrow(policy: &mut Policy, node: &Node<'_>, around: &Around<'_>, faults: &mut Faults) -> Option<Narrowed> {
    let whole = policy.clone();
    let mut taken = None;
    for (name, node) in node.sections_by_name("environments") {
        let kept = [
            kept(&whole.models, &node, "models", (&policy.name, &name.value), around, faults),
            kept(
                &whole.content_filter_fallbacks,
                &node,
                "content_filter_fallbacks",
                (&policy.name, &name.value),
                around,
                faults,
            ),
            kept(&whole.context_fallbacks, &node, "context_fallbacks", (&policy.name, &name.value), around, faults),
        ];
        if name.value != around.environment {
            continue;
        }
        let [models, mut after_filter, mut after_overflow] = kept;
        // What the environment takes out of `models` comes back by no other list.
        let is_out = |model: &ModelName| whole.models.contains(model) && !models.contains(model);
        after_filter.retain(|model| !is_out(model));
        after_overflow.retain(|model| !is_out(model));
        let approved: BTreeSet<&ModelName> = models.iter().chain(&after_filter).chain(&after_overflow).collect();
        let all = whole.models.iter().chain(&whole.content_filter_fallbacks).chain(&whole.context_fallbacks);
        taken = Some(Narrowed {
            models: all.filter(|model| !approved.contains(model)).cloned().collect(),
            environment: name.value.clone(),
            owner: whole.owner.clone(),
            declared: declared(node.source, &name.span),
        });
        (policy.models, policy.content_filter_fallbacks, policy.context_fallbacks) =
            (models, after_filter, after_overflow);
    }
    taken
}

/// What an environment leaves of a list: its own, in its order, where it has one.
fn kept(
    whole: &[ModelName],
    node: &Node<'_>,
    key: &str,
    (policy, environment): (&PolicyName, &str),
    around: &Around<'_>,
    faults: &mut Faults,
) -> Vec<ModelName> {
    if !node.has(key) {
        return whole.to_vec();
    }
    let listed = names::models(node, key, around.providers, faults);
    let spans = node.texts(key).map(|texts| texts.value).unwrap_or_default();
    for name in spans.iter().filter(|name| !whole.iter().any(|model| model.as_str() == name.value)) {
        let message = format!(
            "the environment `{environment}` of policy `{policy}` names `{}`, which the policy's `{key}` doesn't",
            name.value
        );
        let help = format!("an environment only narrows: add it to the policy's `{key}` and list there who keeps it");
        node.fault(faults, code::CONFLICT, &name.span, message, help);
    }
    listed
}

/// The models that nobody may ask in this environment.
fn denied(node: &Node<'_>, environment: &str, faults: &mut Faults) -> Vec<DeniedModels> {
    let mut denied = Vec::new();
    for node in node.sections("denied") {
        let Some(model) = node.text("model") else { continue };
        let name = model.value.strip_suffix('*').unwrap_or(&model.value);
        if name.contains('*') || !name.contains('/') || name.starts_with('/') {
            let message = format!("`{}` names no model", model.value);
            let help = "expected `provider/model`, or the beginning of several such as `groq/*`";
            node.fault(faults, code::BAD_VALUE, &model.span, message, help);
        }
        let environments = node.texts("environments").map(|texts| texts.value);
        let is_here = environments.is_none_or(|names| names.iter().any(|name| name.value == environment));
        if is_here {
            denied.push(DeniedModels {
                reason: node.text("reason").map(|reason| reason.value),
                owner: node.text("owner").map(|owner| owner.value),
                declared: declared(node.source, &model.span),
                model: model.value,
            });
        }
    }
    denied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(tiers: &[(&str, Option<usize>)]) -> BTreeMap<PolicyName, Policy> {
        let policy = |(name, rank): &(&str, Option<usize>)| {
            let quality = rank.map(|rank| Quality { name: format!("tier {rank}"), rank });
            let policy = Policy {
                name: (*name).into(),
                quality,
                owner: None,
                models: vec![],
                content_filter_fallbacks: vec![],
                context_fallbacks: vec![],
                downgrade: None,
                declared: Declared::Default,
            };
            (policy.name.clone(), policy)
        };
        tiers.iter().map(policy).collect()
    }

    #[test]
    fn the_lowest_policy_that_is_good_enough_is_taken() {
        let some = policies(&[("a", Some(0)), ("b", Some(2)), ("c", None)]);
        let found = |rank| for_quality(&some, rank).map(|found| found.map(|policy| policy.name.to_string()));
        assert_eq!(found(0), Ok(Some("a".to_owned())), "a cheaper one is enough");
        assert_eq!(found(1), Ok(Some("b".to_owned())), "nobody has exactly this tier");
        assert_eq!(found(3), Ok(None), "nobody is good enough");
        let two = policies(&[("a", Some(1)), ("b", Some(1))]);
        assert_eq!(for_quality(&two, 0), Err(vec!["a", "b"]));
    }
}
