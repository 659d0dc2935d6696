//! What a policy's rules for cheaper models are judged by: budgets as they stand on disk, and the clock.

use super::Shared;
use crate::domain::event::Labels;
use crate::domain::plan::ModelPlan;
use crate::domain::policy::{BudgetUse, Circumstances, DowngradeRules, DowngradeWhy, Priority, Share};
use crate::units::Timestamp;

impl Shared {
    /// The rule that sends calls of this plan to cheaper models now, if one does.
    pub(crate) fn rule(&self, plan: &ModelPlan, labels: &Labels, now: Timestamp) -> Option<DowngradeWhy> {
        let downgrade = plan.downgrade.as_ref().filter(|to| !to.candidates.is_empty() && !to.rules.is_empty())?;
        let rules = &downgrade.rules;
        rules.judge(&Circumstances {
            // Read only where it is asked for: it costs a look at the disk for each budget.
            tightest: rules.at.and_then(|_| self.tightest(labels, now)),
            priority: Priority::of(labels),
            minute: minute(rules, now),
        })
    }

    /// The budget that counts runs with these labels and is used the most. One that can't be read says nothing here: the
    /// ledger has the last word on money.
    fn tightest(&self, labels: &Labels, now: Timestamp) -> Option<BudgetUse> {
        // What only watches sends nobody anywhere.
        let used = self.budgets.iter().filter(|budget| !budget.shadow).filter_map(|budget| {
            let key = budget.account(labels, now).ok().flatten()?;
            let account = self.gate.store().budget(&key).ok()?.unwrap_or_default();
            let used = Share::of(account.settled.plus(account.held).pico(), budget.cap.pico());
            Some(BudgetUse { budget: key.to_string(), used })
        });
        used.max_by_key(|use_of| use_of.used)
    }
}

/// The minute of the day on the rules' clock.
fn minute(rules: &DowngradeRules, now: Timestamp) -> Option<u16> {
    if rules.hours.is_empty() {
        return None;
    }
    let zone =
        rules.time_zone.as_deref().map_or(Some(jiff::tz::TimeZone::UTC), |name| jiff::tz::TimeZone::get(name).ok());
    let instant = jiff::Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
    let clock = zone?.to_datetime(instant).time();
    u16::try_from(i32::from(clock.hour()) * 60 + i32::from(clock.minute())).ok()
}
