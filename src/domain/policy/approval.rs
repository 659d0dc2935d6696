//! Who may be asked at all, as configured now: a run keeps its plan, and a model that is denied meanwhile is refused.
//!
//! Deliberately absent: which model comes first. A denial only takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::domain::limits::Declared;
use crate::domain::plan::ModelPlan;
use crate::ids::{ModelName, PolicyName};

/// What the project denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals {
    /// Models that nobody may ask, in the order of the file; those of other environments are left out.
    pub denied: Vec<DeniedModels>,
    /// Models of each policy that its environment takes out.
    pub narrowed: BTreeMap<PolicyName, Narrowed>,
}

/// Models that nobody may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedModels {
    /// A model, or the beginning of several with a `*` behind it.
    pub model: String,
    /// Why, in the words of whoever decided it.
    pub reason: Option<String>,
    /// Who may change it.
    pub owner: Option<String>,
    /// Where it was declared.
    pub declared: Declared,
}

/// What an environment takes out of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// The models that are approved elsewhere, and not here.
    pub models: BTreeSet<ModelName>,
    /// The environment.
    pub environment: String,
    /// Who may change it.
    pub owner: Option<String>,
    /// Where the environment's list was declared.
    pub declared: Declared,
}

/// A model may not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub why: String,
    /// Who may change it.
    pub owner: Option<String>,
    /// Where it was declared.
    pub declared: Declared,
}

impl Approvals {
    /// Why a model may not be asked by an agent of this policy; `None` where it may.
    #[must_use]
    pub fn denial(&self, policy: Option<&PolicyName>, model: &ModelName) -> Option<Denial> {
        let denied = self.denied.iter().find(|denied| denied.covers(model)).map(|denied| Denial {
            why: denied.reason.as_ref().map_or_else(|| "denied".to_owned(), |reason| format!("denied ({reason})")),
            owner: denied.owner.clone(),
            declared: denied.declared.clone(),
        });
        denied.or_else(|| {
            let policy = policy?;
            let narrowed = self.narrowed.get(policy).filter(|narrowed| narrowed.models.contains(model))?;
            Some(Denial {
                why: format!("not approved by policy {policy} in {}", narrowed.environment),
                owner: narrowed.owner.clone(),
                declared: narrowed.declared.clone(),
            })
        })
    }
}

impl Approvals {
    /// Why a model may not be asked by this plan: each of its policies that lists it has a say, and one that approves is enough.
    #[must_use]
    pub fn denial_in(&self, plan: &ModelPlan, model: &ModelName) -> Option<Denial> {
        let own = self.denial(plan.policy.as_ref(), model)?;
        let downgrade = plan.downgrade.as_ref().filter(|to| to.candidates.contains(model));
        match downgrade {
            Some(to) => self.denial(Some(&to.policy), model),
            None => Some(own),
        }
    }
}

impl DeniedModels {
    fn covers(&self, model: &ModelName) -> bool {
        match self.model.strip_suffix('*') {
            Some(beginning) => model.as_str().starts_with(beginning),
            None => self.model == model.as_str(),
        }
    }
}

impl fmt::Display for Denial {
    /// `denied (too dear) at plimsoll.toml:31; platform-team may change that`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.owner.as_deref().unwrap_or("whoever keeps that file");
        write!(f, "{} at {}; {who} may change that", self.why, self.declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(line: u32) -> Declared {
        Declared::At { file: "plimsoll.toml".into(), line }
    }

    fn approvals() -> Approvals {
        let denied = |model: &str, owner: Option<&str>| DeniedModels {
            model: model.to_owned(),
            reason: Some("no contract".to_owned()),
            owner: owner.map(str::to_owned),
            declared: declared(3),
        };
        let narrowed = Narrowed {
            models: BTreeSet::from(["openai/b".into()]),
            environment: "production".to_owned(),
            owner: Some("platform-team".to_owned()),
            declared: declared(9),
        };
        Approvals {
            denied: vec![denied("groq/*", None), denied("openai/a", Some("legal"))],
            narrowed: BTreeMap::from([("standard".into(), narrowed)]),
        }
    }

    #[test]
    fn a_denial_says_why_where_and_who_may_change_it() {
        let told = |policy: Option<&str>, model: &str| {
            approvals().denial(policy.map(PolicyName::from).as_ref(), &model.into()).map(|denial| denial.to_string())
        };
        let legal = "denied (no contract) at plimsoll.toml:3; legal may change that";
        assert_eq!(told(None, "openai/a").as_deref(), Some(legal));
        let file = "denied (no contract) at plimsoll.toml:3; whoever keeps that file may change that";
        assert_eq!(told(Some("standard"), "groq/llama").as_deref(), Some(file));
        let narrowed =
            "not approved by policy standard in production at plimsoll.toml:9; platform-team may change that";
        assert_eq!(told(Some("standard"), "openai/b").as_deref(), Some(narrowed));
        assert_eq!(told(Some("economy"), "openai/b"), None, "another policy's narrowing");
        assert_eq!(told(None, "openai/aa"), None, "a name is whole without a star");
    }
}
