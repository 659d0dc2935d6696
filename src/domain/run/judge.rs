//! The limits that the runs of a tree can judge, in the gate's order (DESIGN §4): time, counts, repeats, errors, tokens.
//! Money comes after them, and is the ledger's. A step needs the yes of its stage, its run, and all above it; who says no
//! is who ends.

use sha2::{Digest, Sha256};

use super::stage::Stage;
use super::{AttemptKind, Counters, Run};
use crate::domain::event::{Purpose, Spent};
use crate::domain::limits::{LimitKind, Limits, Refusal};
use crate::domain::plan::hex;
use crate::ids::{RunId, StageName, ToolName};
use crate::units::{Millis, Timestamp, Tokens};

/// What names a call for `repeats`: tool and arguments, 16 hexadecimal digits.
#[must_use]
pub fn hash_call(tool: &ToolName, arguments: &str) -> String {
    // The same arguments in another order or spacing are the same call.
    let canonical = serde_json::from_str::<serde_json::Value>(arguments).map(|mut value| {
        value.sort_all_objects();
        value.to_string()
    });
    let mut hasher = Sha256::new();
    hasher.update(tool.as_str());
    hasher.update([0]);
    hasher.update(canonical.as_deref().unwrap_or(arguments));
    hex(hasher.finalize().get(..8).unwrap_or_default())
}

/// What counts against the counts of a run or a stage, with all that runs below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    steps: u32,
    model_calls: u32,
    tool_calls: u32,
    attempts: u32,
}

impl Used {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps.saturating_add(other.steps),
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tool_calls: self.tool_calls.saturating_add(other.tool_calls),
            attempts: self.attempts.saturating_add(other.attempts),
        }
    }
}

impl From<&Spent> for Used {
    fn from(spent: &Spent) -> Self {
        Self {
            steps: spent.steps,
            model_calls: spent.model_calls,
            tool_calls: spent.tool_calls,
            attempts: spent.attempts,
        }
    }
}

/// What a run has used, with what was asked for since the look over its lanes began, by itself and below it.
pub(super) struct Tally<'a> {
    counters: &'a Counters,
    /// What it has used, and the runs below it.
    used: Used,
    asked: Used,
    /// The part of `asked` since the look at the present stage began.
    in_stage: Used,
    /// Steps of its own among what was asked for.
    own_steps: u32,
    children: u32,
    /// How many of them for the present stage.
    children_in_stage: u32,
    repeats: Vec<String>,
    /// How many of them were there when the look at the present stage began.
    repeats_before: usize,
}

impl<'a> Tally<'a> {
    /// `below` is what the open runs below it have used.
    pub(super) fn of(run: &'a Run, below: &Spent) -> Self {
        Self {
            counters: &run.counters,
            used: Used::from(&run.spent().plus(below)),
            asked: Used::default(),
            in_stage: Used::default(),
            own_steps: 0,
            children: 0,
            children_in_stage: 0,
            repeats: Vec::new(),
            repeats_before: 0,
        }
    }

    /// The number of its latest step.
    pub(super) const fn steps(&self) -> u32 {
        self.counters.steps + self.own_steps
    }

    /// Sub-agents asked for.
    pub(super) const fn children(&self) -> u32 {
        self.children
    }

    /// Those of the present stage.
    pub(super) const fn children_in_stage(&self) -> u32 {
        self.children_in_stage
    }

    pub(super) const fn asked(&self) -> Used {
        self.asked
    }

    /// What counts for its limits; `below` was asked for below it in the same look.
    pub(super) const fn used(&self, below: Used) -> Used {
        self.used.plus(self.asked).plus(below)
    }

    /// What counts for the limits of the present stage, which has used `stage`.
    pub(super) const fn used_in_stage(&self, stage: Used, below: Used) -> Used {
        stage.plus(self.in_stage).plus(below)
    }

    pub(super) fn begin_stage(&mut self) {
        self.in_stage = Used::default();
        self.children_in_stage = 0;
        self.repeats_before = self.repeats.len();
    }

    /// What a run below it asked for.
    pub(super) const fn count_below(&mut self, asked: Used) {
        self.asked = self.asked.plus(asked);
        self.in_stage = self.in_stage.plus(asked);
    }

    pub(super) fn repeats(&self, hash: &str) -> u32 {
        let asked = self.repeats.iter().filter(|asked| *asked == hash).count();
        let used = self.counters.repeats.get(hash).copied().unwrap_or_default();
        used.saturating_add(u32::try_from(asked).unwrap_or(u32::MAX))
    }

    /// The same of the present stage, which made `used` such calls.
    pub(super) fn repeats_in_stage(&self, used: u32, hash: &str) -> u32 {
        let asked = self.repeats.iter().skip(self.repeats_before).filter(|asked| *asked == hash).count();
        used.saturating_add(u32::try_from(asked).unwrap_or(u32::MAX))
    }

    pub(super) fn count_model(&mut self, new_step: bool) {
        let new = u32::from(new_step);
        self.own_steps += new;
        self.count_below(Used { steps: new, model_calls: new, tool_calls: 0, attempts: 1 });
    }

    pub(super) fn count_tool(&mut self, new_step: bool) {
        let new = u32::from(new_step);
        self.own_steps += new;
        self.count_below(Used { steps: new, model_calls: 0, tool_calls: new, attempts: 0 });
    }

    pub(super) const fn count_child(&mut self) {
        self.children += 1;
        self.children_in_stage += 1;
    }

    /// A call that a person was asked about: allowed, it is one more. Its step has no number before it is made.
    pub(super) fn count_asked(&mut self, hash: &str) {
        self.count_below(Used { steps: 0, model_calls: 0, tool_calls: 1, attempts: 0 });
        self.repeats.push(hash.to_owned());
    }

    pub(super) fn count_repeat(&mut self, hash: &str, new_step: bool) {
        if new_step {
            self.repeats.push(hash.to_owned());
        }
    }
}

/// One of those who must agree to a step: a stage with limits of its own, a run, or what is above it.
pub(super) struct Link<'a> {
    pub(super) node: NodeRef,
    pub(super) run: &'a Run,
    pub(super) limits: &'a Limits,
    pub(super) used: Used,
    /// Active time, of the run or since the stage began.
    pub(super) active: Millis,
}

impl Link<'_> {
    /// The time that is left for a model call, or the limit that refuses it.
    pub(super) fn model(&self, now: Timestamp, purpose: Purpose, new_step: bool) -> Result<Millis, Refused> {
        let kept = self.keeps_back(purpose);
        let time = self.time(now, kept)?;
        if new_step {
            self.count(LimitKind::Steps, self.limits.steps, self.used.steps, kept)?;
            self.count(LimitKind::ModelCalls, self.limits.model_calls, self.used.model_calls, kept)?;
        }
        self.count(LimitKind::Attempts, self.limits.attempts, self.used.attempts, kept)?;
        Ok(time)
    }

    /// The time that is left for a tool call, or the limit that refuses it.
    pub(super) fn tool(&self, now: Timestamp, new_step: bool) -> Result<Millis, Refused> {
        let kept = self.keeps_back(Purpose::Turn);
        let time = self.time(now, kept)?;
        if new_step {
            self.count(LimitKind::Steps, self.limits.steps, self.used.steps, kept)?;
            self.count(LimitKind::ToolCalls, self.limits.tool_calls, self.used.tool_calls, false)?;
        }
        Ok(time)
    }

    /// Such a call of this tool was made or asked for `repeats` times.
    pub(super) fn repeats(&self, tool: &ToolName, repeats: u32) -> Result<(), Refused> {
        if repeats < self.limits.repeats {
            return Ok(());
        }
        let observed = format!("{repeats} such calls made");
        let mut refused = self.refuses(LimitKind::Repeats, self.limits.repeats, observed);
        refused.refusal.subject = Some(match &self.node {
            NodeRef::Run(_) => tool.to_string(),
            NodeRef::Stage(_, stage) => format!("{tool} in stage {stage}"),
        });
        Err(refused)
    }

    pub(super) fn errors(&self, tool_errors: u32) -> Result<(), Refused> {
        if tool_errors < self.limits.tool_errors {
            return Ok(());
        }
        let observed = format!("{tool_errors} tool errors in a row");
        Err(self.refuses(LimitKind::ToolErrors, self.limits.tool_errors, observed))
    }

    /// `children` sub-agents were begun or asked for.
    pub(super) fn children(&self, children: u32) -> Result<(), Refused> {
        self.count(LimitKind::Children, self.limits.children, children, false)
    }

    /// A sub-agent that many levels below.
    pub(super) fn depth(&self, depth: u32) -> Result<(), Refused> {
        if depth <= self.limits.depth {
            return Ok(());
        }
        let observed = format!("the sub-agent would be {depth} levels below");
        Err(self.refuses(LimitKind::Depth, self.limits.depth, observed))
    }

    /// Whether token limits leave room; `used` are input and output with what is in flight, at worst.
    pub(super) fn tokens(&self, purpose: Purpose, (used_in, used_out): (Tokens, Tokens)) -> Result<(), Refused> {
        let limits = self.limits;
        let kept = self.keeps_back(purpose);
        let kept_in = if kept { Tokens(limits.landing_tokens.into()) } else { Tokens::ZERO };
        let kept_out = if kept { Tokens(limits.landing_output_tokens.into()) } else { Tokens::ZERO };
        for (kind, limit, after) in [
            (LimitKind::Tokens, limits.tokens, used_in.plus(used_out).plus(kept_in).plus(kept_out)),
            (LimitKind::InputTokens, limits.input_tokens, used_in.plus(kept_in)),
            (LimitKind::OutputTokens, limits.output_tokens, used_out.plus(kept_out)),
        ] {
            if let Some(limit) = limit.filter(|limit| after > *limit) {
                return Err(self.refuses(kind, limit, format!("{after} would be reached at worst")));
            }
        }
        Ok(())
    }

    /// What is left of its `wall_time`.
    pub(super) const fn time_left(&self) -> Millis {
        self.limits.wall_time.left_after(self.active)
    }

    /// True where a landing call's share must be left over: only a root keeps one.
    fn keeps_back(&self, purpose: Purpose) -> bool {
        matches!(self.node, NodeRef::Run(_)) && self.run.keeps_back(purpose)
    }

    fn time(&self, now: Timestamp, kept: bool) -> Result<Millis, Refused> {
        let limits = self.limits;
        let share = if kept { limits.model_call_time.min(Millis(limits.wall_time.0 / 5)) } else { Millis::ZERO };
        let left = limits.wall_time.left_after(self.active).left_after(share);
        if left == Millis::ZERO {
            let observed = format!("{} of active time passed", self.active);
            return Err(self.refuses(LimitKind::WallTime, limits.wall_time, observed));
        }
        let Some(deadline) = limits.deadline else { return Ok(left) };
        let until = deadline.since(now).left_after(share);
        if until == Millis::ZERO {
            return Err(self.refuses(LimitKind::Deadline, deadline, format!("it is {now}")));
        }
        Ok(left.min(until))
    }

    fn count(&self, kind: LimitKind, limit: u32, used: u32, kept: bool) -> Result<(), Refused> {
        if used.saturating_add(1).saturating_add(u32::from(kept)) <= limit {
            return Ok(());
        }
        let kept = if kept && used < limit { ", 1 kept for landing" } else { "" };
        Err(self.refuses(kind, limit, format!("{used} used{kept}")))
    }

    fn refuses(&self, limit: LimitKind, value: impl std::fmt::Display, observed: String) -> Refused {
        let declared = self.limits.declared(limit);
        let subject = match &self.node {
            NodeRef::Run(_) => None,
            NodeRef::Stage(_, stage) => Some(format!("stage {stage}")),
        };
        let refusal = Refusal { limit, subject, value: value.to_string(), observed, declared };
        Refused { node: self.node.clone(), refusal: Box::new(refusal) }
    }
}

/// Who refused: what ends by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeRef {
    /// A run: a root lands, a sub-agent's run stops.
    Run(RunId),
    /// A stage: what its end means is its `on_error`'s to say.
    Stage(RunId, StageName),
}

/// A limit's no, and whose limit it is.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Whose.
    pub node: NodeRef,
    /// The limit.
    pub refusal: Box<Refusal>,
}

impl Run {
    /// What it has come to by itself and by the sub-agents that have ended.
    #[must_use]
    pub fn spent(&self) -> Spent {
        let counters = &self.counters;
        let own = Spent {
            steps: counters.steps,
            model_calls: counters.model_calls,
            tool_calls: counters.tool_calls,
            attempts: counters.attempts,
            children: self.children_begun,
            input: counters.input,
            output: counters.output,
            usage: counters.usage,
            settled: counters.settled,
            unknown: counters.unknown,
        };
        own.plus(&self.children_spent)
    }

    /// The run as one of those who must agree.
    pub(super) fn link(&self, now: Timestamp, used: Used) -> Link<'_> {
        Link { node: NodeRef::Run(self.id), run: self, limits: &self.plan.limits, used, active: self.active(now) }
    }

    /// A stage as one of those who must agree, where it has limits of its own.
    pub(super) fn stage_link(
        &self,
        now: Timestamp,
        id: &StageName,
        used: impl FnOnce(&Stage) -> Used,
    ) -> Option<Link<'_>> {
        let limits = self.plan.stage(id)?.limits.as_deref()?;
        let stage = self.stage(id)?;
        let active = stage.began.map_or(Millis::ZERO, |began| self.active(now).left_after(began));
        Some(Link { node: NodeRef::Stage(self.id, id.clone()), run: self, limits, used: used(stage), active })
    }

    /// Input and output of its own calls in flight, at worst; of one stage, or of all.
    pub(super) fn tokens_in_flight(&self, stage: Option<&StageName>) -> (Tokens, Tokens) {
        let there = self.open.values().filter(|attempt| stage.is_none_or(|stage| attempt.step.stage == *stage));
        there.fold((Tokens::ZERO, Tokens::ZERO), |(sum_in, sum_out), attempt| match attempt.kind {
            AttemptKind::Model { input, output, .. } => (sum_in.plus(input), sum_out.plus(output)),
            AttemptKind::Tool { .. } => (sum_in, sum_out),
        })
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
        let spent = self.spent();
        let (open_in, open_out) = self.tokens_in_flight(None);
        let after_in = spent.input.plus(asked.0).plus(open_in).plus(input);
        let after_out = spent.output.plus(asked.1).plus(open_out).plus(output);
        let link = self.link(self.last_at, Used::default());
        link.tokens(purpose, (after_in, after_out)).map_err(|refused| *refused.refusal)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_arguments_in_another_order_are_the_same_call() {
        let hash = |arguments| hash_call(&ToolName::from("look"), arguments);
        let call = hash(r#"{"a": 1, "b": {"c": [1, {"d": 2, "e": 3}], "f": null}}"#);
        assert_eq!(call, hash(r#"{"b":{"f":null,"c":[1,{"e":3,"d":2}]},"a":1}"#));
        assert_ne!(call, hash(r#"{"b":{"f":null,"c":[{"e":3,"d":2},1]},"a":1}"#), "lists have an order");
        assert_eq!(hash("not json"), hash("not json"));
    }
}
