//! The limits that the run itself can judge, in the gate's order (DESIGN §4): time, counts, repeats, errors, tokens.
//! Money comes after them, and is the ledger's.

use sha2::{Digest, Sha256};

use super::{AttemptKind, Counters, Run};
use crate::domain::event::Purpose;
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::plan::{ToolPlan, hex};
use crate::ids::ToolName;
use crate::units::{Millis, Timestamp, Tokens};

/// What names a call for `repeats`: tool and arguments, 16 hexadecimal digits.
#[must_use]
pub fn hash_call(tool: &ToolName, arguments: &str) -> String {
    // The same arguments in another order or spacing are the same call.
    let canonical = serde_json::from_str::<serde_json::Value>(arguments).map(|value| value.to_string());
    let mut hasher = Sha256::new();
    hasher.update(tool.as_str());
    hasher.update([0]);
    hasher.update(canonical.as_deref().unwrap_or(arguments));
    hex(hasher.finalize().get(..8).unwrap_or_default())
}

/// What a run has used, with what was asked for since the look over its lanes began.
pub(super) struct Tally<'a> {
    counters: &'a Counters,
    steps: u32,
    model_calls: u32,
    tool_calls: u32,
    attempts: u32,
    repeats: Vec<String>,
}

impl<'a> Tally<'a> {
    pub(super) const fn of(counters: &'a Counters) -> Self {
        Self { counters, steps: 0, model_calls: 0, tool_calls: 0, attempts: 0, repeats: Vec::new() }
    }

    pub(super) const fn steps(&self) -> u32 {
        self.counters.steps + self.steps
    }

    fn repeats(&self, hash: &str) -> u32 {
        let asked = self.repeats.iter().filter(|asked| *asked == hash).count();
        let used = self.counters.repeats.get(hash).copied().unwrap_or_default();
        used.saturating_add(u32::try_from(asked).unwrap_or(u32::MAX))
    }

    pub(super) fn count_model(&mut self, new_step: bool) {
        self.steps += u32::from(new_step);
        self.model_calls += u32::from(new_step);
        self.attempts += 1;
    }

    pub(super) fn count_tool(&mut self, new_step: bool) {
        self.steps += u32::from(new_step);
        self.tool_calls += u32::from(new_step);
    }

    /// A call that a person was asked about: allowed, it is one more. Its step has no number before it is made.
    pub(super) fn count_asked(&mut self, hash: &str) {
        self.tool_calls += 1;
        self.repeats.push(hash.to_owned());
    }

    pub(super) fn count_repeat(&mut self, hash: &str, new_step: bool) {
        if new_step {
            self.repeats.push(hash.to_owned());
        }
    }
}

impl Run {
    /// The time limit of a model call, or the limit that refuses it.
    pub(super) fn judge_model(
        &self,
        now: Timestamp,
        tally: &Tally<'_>,
        tool_errors: u32,
        purpose: Purpose,
        new_step: bool,
    ) -> Result<Millis, Refusal> {
        let kept = self.keeps_back(purpose);
        let time = self.judge_time(now, kept)?;
        let limits = &self.plan.limits;
        if new_step {
            self.judge_count(LimitKind::Steps, limits.steps, tally.steps(), kept)?;
            self.judge_count(
                LimitKind::ModelCalls,
                limits.model_calls,
                tally.counters.model_calls + tally.model_calls,
                kept,
            )?;
        }
        self.judge_count(LimitKind::Attempts, limits.attempts, tally.counters.attempts + tally.attempts, kept)?;
        if purpose != Purpose::Landing {
            self.judge_errors(tool_errors)?;
        }
        Ok(time.min(limits.model_call_time))
    }

    /// The time limit of a tool call, or the limit that refuses it.
    pub(super) fn judge_tool(
        &self,
        now: Timestamp,
        tally: &Tally<'_>,
        tool_errors: u32,
        tool: &ToolPlan,
        hash: &str,
        new_step: bool,
    ) -> Result<Millis, Refusal> {
        let kept = self.keeps_back(Purpose::Turn);
        let time = self.judge_time(now, kept)?;
        let limits = &self.plan.limits;
        if new_step {
            self.judge_count(LimitKind::Steps, limits.steps, tally.steps(), kept)?;
            self.judge_count(
                LimitKind::ToolCalls,
                limits.tool_calls,
                tally.counters.tool_calls + tally.tool_calls,
                false,
            )?;
            let repeats = tally.repeats(hash);
            if repeats >= limits.repeats {
                let mut refusal =
                    self.refusal(LimitKind::Repeats, limits.repeats, format!("{repeats} such calls made"));
                refusal.subject = Some(tool.name.to_string());
                return Err(refusal);
            }
        }
        self.judge_errors(tool_errors)?;
        Ok(time.min(limits.tool_call_time).min(tool.timeout))
    }

    /// Whether the run's token limits leave room for a model call.
    ///
    /// # Errors
    /// The limit that refuses it.
    pub fn judge_tokens(&self, purpose: Purpose, input: Tokens, output: Tokens) -> Result<(), Refusal> {
        self.judge_tokens_after((Tokens::ZERO, Tokens::ZERO), purpose, input, output)
    }

    /// The same, with the input and output at worst of calls that are asked for in the same write.
    ///
    /// # Errors
    /// The limit that refuses it.
    pub fn judge_tokens_after(
        &self,
        asked: (Tokens, Tokens),
        purpose: Purpose,
        input: Tokens,
        output: Tokens,
    ) -> Result<(), Refusal> {
        let limits = &self.plan.limits;
        let (mut used_in, mut used_out) = (self.counters.input.plus(asked.0), self.counters.output.plus(asked.1));
        for attempt in self.open.values() {
            if let AttemptKind::Model { input, output, .. } = attempt.kind {
                (used_in, used_out) = (used_in.plus(input), used_out.plus(output));
            }
        }
        let (after_in, after_out) = (used_in.plus(input), used_out.plus(output));
        let kept = self.keeps_back(purpose);
        let kept_in = if kept { Tokens(limits.landing_tokens.into()) } else { Tokens::ZERO };
        let kept_out = if kept { Tokens(limits.landing_output_tokens.into()) } else { Tokens::ZERO };
        for (kind, limit, after) in [
            (LimitKind::Tokens, limits.tokens, after_in.plus(after_out).plus(kept_in).plus(kept_out)),
            (LimitKind::InputTokens, limits.input_tokens, after_in.plus(kept_in)),
            (LimitKind::OutputTokens, limits.output_tokens, after_out.plus(kept_out)),
        ] {
            if let Some(limit) = limit.filter(|limit| after > *limit) {
                return Err(self.refusal(kind, limit, format!("{after} would be reached at worst")));
            }
        }
        Ok(())
    }

    /// A refusal of one of the run's own limits.
    pub fn refusal(&self, limit: LimitKind, value: impl std::fmt::Display, observed: String) -> Refusal {
        let declared = self.plan.limits.declared(limit);
        Refusal { limit, subject: None, value: value.to_string(), observed, declared }
    }

    /// True where a landing call's share of steps, attempts, time and tokens must be left over.
    fn keeps_back(&self, purpose: Purpose) -> bool {
        self.can_land() && matches!(purpose, Purpose::Turn | Purpose::Repair | Purpose::Summary)
    }

    fn judge_time(&self, now: Timestamp, kept: bool) -> Result<Millis, Refusal> {
        let limits = &self.plan.limits;
        let share = if kept { limits.model_call_time.min(Millis(limits.wall_time.0 / 5)) } else { Millis::ZERO };
        let left = self.time_left(now, share);
        if left == Millis::ZERO {
            let observed = format!("{} of active time passed", self.active(now));
            return Err(self.refusal(LimitKind::WallTime, limits.wall_time, observed));
        }
        let Some(deadline) = limits.deadline else { return Ok(left) };
        let until = deadline.since(now).left_after(share);
        if until == Millis::ZERO {
            return Err(self.refusal(LimitKind::Deadline, deadline, format!("it is {now}")));
        }
        Ok(left.min(until))
    }

    fn judge_count(&self, kind: LimitKind, limit: u32, used: u32, kept: bool) -> Result<(), Refusal> {
        if used.saturating_add(1).saturating_add(u32::from(kept)) <= limit {
            return Ok(());
        }
        let kept = if kept && used < limit { ", 1 kept for landing" } else { "" };
        Err(self.refusal(kind, limit, format!("{used} used{kept}")))
    }

    fn judge_errors(&self, tool_errors: u32) -> Result<(), Refusal> {
        let limit = self.plan.limits.tool_errors;
        if tool_errors < limit {
            return Ok(());
        }
        Err(self.refusal(LimitKind::ToolErrors, limit, format!("{tool_errors} tool errors in a row")))
    }
}
