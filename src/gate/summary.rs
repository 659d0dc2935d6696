//! A summary of what doesn't fit, in the place of the turn that it is for: admitted, priced and bounded like any other call.

use super::form::Rendered;
use super::prepare::{Chosen, Draft, Priced, held_for_landing};
use crate::domain::context::{self, Fitted, Split, Window};
use crate::domain::event::{Call, Purpose};
use crate::domain::message::{Request, Sampling, ToolChoice};
use crate::domain::plan::Overflow;
use crate::domain::run::{ModelIntent, Run};
use crate::ids::ModelName;
use crate::tokenize::{Prepared as Fixed, RequestSizer};
use crate::units::{Money, Tokens};

/// The longest summary.
const OUTPUT_TOKENS_MAX: u32 = 1_024;
/// The shortest that is worth asking for.
const OUTPUT_TOKENS_MIN: u32 = 64;

impl Priced<'_> {
    /// The call that sums up what this turn has no room for; why there is none where it would be wanted; `None` where it
    /// isn't.
    pub(super) fn summed_up(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        chosen: &Chosen,
        window: Window,
        sizer: &RequestSizer<'_>,
    ) -> Option<Result<Box<Draft>, String>> {
        let plan = &run.plan.context;
        let is_turn = matches!(intent.purpose, Purpose::Turn | Purpose::Repair);
        if plan.overflow != Overflow::Summarise || !is_turn {
            return None;
        }
        let split = context::split(&rendered.draft(self.turns, self.summary), plan, window, sizer)?;
        let why_not = || {
            if self.with.effort.trim {
                return Some("the money for it isn't there");
            }
            if intent.attempt > 1 { Some("this turn was tried before") } else { run.why_no_summary(&intent.step) }
        };
        Some(match why_not() {
            Some(why) => Err(why.to_owned()),
            None => self.summary_draft(run, rendered, intent, chosen, split).map(Box::new),
        })
    }

    fn summary_draft(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        chosen: &Chosen,
        split: Split,
    ) -> Result<Draft, String> {
        let model = self.summary_model(run, rendered, chosen);
        let (row, terms) =
            self.desk.row(&model, self.with.now).ok_or_else(|| format!("model `{model}` has no price"))?;
        let plan = &run.plan.context;
        let pot = u32::try_from(plan.history.0 / 4).unwrap_or(u32::MAX);
        // Never longer than an answer: the load line counts with that.
        let most = rendered.model(run).max_output_tokens.min(row.max_output.unwrap_or(u32::MAX));
        let max_output = OUTPUT_TOKENS_MAX.min(pot).max(OUTPUT_TOKENS_MIN).min(most);
        let fixed = Fixed::new(&[], None, &serde_json::Map::new());
        let sizer = RequestSizer::new(&self.desk.counter, &model, &fixed);
        let window = row.context_window.map_or(plan.tokens, |window| window.left_after(Tokens(max_output.into())));
        let draft = rendered.draft(self.turns, self.summary);
        let (messages, pots, method) = context::summary_request(&draft, split, window.min(plan.tokens), &sizer)
            .ok_or("it would be longer than `context.tokens`")?;
        let fitted = Fitted { messages: Vec::new(), pots, cuts: Vec::new(), method };
        let asked = (self.with.beside.input, self.with.beside.output);
        run.judge_tokens_after(asked, Purpose::Summary, fitted.bound().tokens, Tokens(max_output.into()))
            .map_err(|refusal| refusal.to_string())?;
        let landing = match run.can_land() {
            _ if run.plan.is_workflow() => held_for_landing(run),
            // The last answer is still for the model that answers.
            true => self.landing_amount(run, rendered, &chosen.model),
            false => Money::ZERO,
        };
        let request = Request {
            model: model.clone(),
            messages,
            tools: [].into(),
            tool_choice: ToolChoice::None,
            parallel_calls: true,
            output: None,
            max_output_tokens: max_output,
            sampling: Sampling::default(),
            stream: false,
            cache: None,
            web_search: None,
        };
        let intent = ModelIntent { purpose: Purpose::Summary, remark: None, ..intent.clone() };
        let priced = Self { row, terms, turns: self.turns, ..*self };
        let draft =
            priced.draft(run, rendered, &intent, Chosen { model, instead: None }, request, fitted, landing, false);
        let mut draft = draft.map_err(|refusal| refusal.to_string())?;
        if let Call::Model(call) = &mut draft.reserved.call {
            let kept = run.turn_count(&intent.step).saturating_sub(split.turns_kept);
            call.sums_up = Some(u32::try_from(kept).unwrap_or(u32::MAX));
        }
        Ok(draft)
    }

    /// The agent's `summary_model`, else the cheapest that it may fall to, else the one that is asked anyway.
    fn summary_model(&self, run: &Run, rendered: &Rendered, chosen: &Chosen) -> ModelName {
        let down = rendered.model(run).downgrade.as_ref().and_then(|downgrade| downgrade.candidates.last());
        run.plan.context.summary_model.as_ref().or(down).unwrap_or(&chosen.model).clone()
    }
}
