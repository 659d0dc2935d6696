//! What is changed of a run before it is told again.

use std::sync::Arc;

use crate::domain::limits::{AtLimit, Limits};
use crate::domain::plan::{ModelPlan, Plan, StageKind, StagePlan};
use crate::domain::pricing::{PriceRow, Rates};
use crate::ids::ModelName;
use crate::spec::limits::{LimitValue, SETTABLE, set, value};
use crate::units::TokenPrice;

/// See [`super::what_if`]. Nothing, where it is empty.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The root's limits, all of them. Those of its sub-agents stay, and so do those that a stage sets for itself.
    pub limits: Option<Limits>,
    /// Prices over those that were pinned.
    pub prices: Vec<PriceRow>,
    /// Who is asked instead: the first that speaks of a model holds.
    pub models: Vec<Instead>,
}

/// A model that stands for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// The other; `None` for all.
    pub of: Option<ModelName>,
    /// Who is asked.
    pub model: ModelName,
}

impl Change {
    /// Who is asked where this model was.
    #[must_use]
    pub fn model(&self, model: &ModelName) -> ModelName {
        let speaks = |instead: &&Instead| instead.of.as_ref().is_none_or(|of| of == model);
        self.models.iter().find(speaks).map_or_else(|| model.clone(), |instead| instead.model.clone())
    }

    /// What is changed, in words.
    pub(super) fn told(&self, had: &Limits) -> Vec<String> {
        let shown = |value: Option<LimitValue>| value.map_or_else(|| "off".to_owned(), |value| value.to_string());
        let limits = self.limits.iter().flat_map(|limits| {
            let changed = SETTABLE.into_iter().filter(|kind| value(limits, *kind) != value(had, *kind));
            let kinds =
                changed.map(|kind| format!("{kind} {}, not {}", shown(value(limits, kind)), shown(value(had, kind))));
            let lands = (limits.at_limit != had.at_limit).then(|| match limits.at_limit {
                AtLimit::Land => "at_limit land, not stop".to_owned(),
                AtLimit::Stop => "at_limit stop, not land".to_owned(),
            });
            kinds.chain(lands).collect::<Vec<_>>()
        });
        let prices = self.prices.iter().map(|row| {
            let Rates { input, output, .. } = row.price.rates;
            let rate = |rate: TokenPrice| format!("${}", rate.usd_per_million());
            format!("{} at {} in and {} out for 1,000,000 tokens", row.model, rate(input), rate(output))
        });
        let models = self.models.iter().map(|instead| {
            let of = instead.of.as_ref().map_or("all models", ModelName::as_str);
            format!("{} in the place of {of}", instead.model)
        });
        limits.chain(prices).chain(models).collect()
    }

    /// The plan of the root, changed.
    pub(super) fn plan(&self, plan: &Plan) -> Plan {
        let mut changed = self.with_models(plan);
        if let Some(limits) = &self.limits {
            for stage in &mut changed.stages {
                inherit(stage, &plan.limits, limits);
            }
            changed.limits = limits.clone();
        }
        changed
    }

    fn with_models(&self, plan: &Plan) -> Plan {
        let mut changed = plan.clone();
        if self.models.is_empty() {
            return changed;
        }
        self.change_models(&mut changed.model);
        changed.stages.iter_mut().for_each(|stage| self.change_kind(&mut stage.kind));
        changed.context.summary_model = plan.context.summary_model.as_ref().map(|model| self.model(model));
        let below = plan.agents.iter().map(|(name, below)| (name.clone(), Arc::new(self.with_models(below))));
        changed.agents = below.collect();
        changed
    }

    fn change_kind(&self, kind: &mut StageKind) {
        match kind {
            StageKind::Loop { call, .. } | StageKind::Model { call } => {
                call.iter_mut().filter_map(|call| call.model.as_mut()).for_each(|model| self.change_models(model));
            }
            StageKind::Map { each, .. } => self.change_kind(each),
            StageKind::Tool { .. } | StageKind::Approval { .. } | StageKind::Agent { .. } => {}
        }
    }

    fn change_models(&self, plan: &mut ModelPlan) {
        let downgrade = plan.downgrade.iter_mut().map(|downgrade| &mut downgrade.candidates);
        for list in
            [&mut plan.candidates, &mut plan.after_filter, &mut plan.after_overflow].into_iter().chain(downgrade)
        {
            let mut changed: Vec<ModelName> = Vec::new();
            for model in list.iter().map(|model| self.model(model)) {
                if !changed.contains(&model) {
                    changed.push(model);
                }
            }
            *list = changed;
        }
    }
}

/// A stage that has some limits of its own keeps a copy of the agent's others: that one changes with them.
fn inherit(stage: &mut StagePlan, old: &Limits, new: &Limits) {
    let Some(limits) = stage.limits.as_deref_mut() else { return };
    for kind in SETTABLE {
        let is_agents = (value(limits, kind), limits.declared(kind)) == (value(old, kind), old.declared(kind));
        if let Some(value) = value(new, kind).filter(|_| is_agents) {
            set(limits, kind, value, new.declared(kind));
        }
    }
}
