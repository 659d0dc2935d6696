//! What a provider is asked to keep of a request.

use super::form::Rendered;
use super::prepare::Priced;
use crate::domain::caching::{self, CacheChoice, Expected};
use crate::domain::context::Fitted;
use crate::domain::event::{Pot, Purpose};
use crate::domain::message::CacheMarks;
use crate::domain::run::{ModelIntent, Run};

impl Priced<'_> {
    /// Whether the provider is asked to keep the beginning of a turn's request, and which.
    pub(super) fn caching(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        fitted: &Fitted,
    ) -> (CacheChoice, Option<CacheMarks>) {
        let context = &run.plan.context;
        let Some(longest) = self.terms.marks else { return (CacheChoice::NoMarks, None) };
        let Some(stage) = run.plan.stage(&intent.step.stage) else { return (CacheChoice::Off, None) };
        let ttl = context.cache_ttl.min(longest);
        let items = run.map_items(&stage.id).and_then(|items| u64::try_from(items.len()).ok());
        let system = &run.plan.call_of(&intent.step.place()).prompt.system;
        let is_last = intent.purpose == Purpose::Last;
        let expected = Expected::of(&run.plan, &stage.kind, system, items, is_last);
        let (prices, size) = (self.row.cache_prices(ttl), fitted.bound().tokens);
        let choice = expected.judge(context.cache, &prices, size);
        let was_cut = fitted.cuts.iter().any(|cut| cut.pot != Pot::Documents);
        let turns = expected.whole.is_some_and(|whole| caching::judge(context.cache, &prices, size, whole).asks());
        let has_tools = !rendered.form.tools.is_empty();
        let marks = choice.asks().then(|| caching::marks(&fitted.messages, has_tools, ttl, turns, was_cut)).flatten();
        // Without instructions, tools and turns there is nothing that another call sends too.
        let choice = if choice.asks() && marks.is_none() { CacheChoice::NOTHING_SHARED } else { choice };
        (choice, marks)
    }
}
