//! What a run would do first, and what that could cost; nothing is written or sent.

use serde::Serialize;

use super::{NewRun, Runtime, RuntimeError};
use crate::domain::caching::CacheChoice;
use crate::domain::event::{Cut, InputBound, Place};
use crate::domain::limits::Refusal;
use crate::domain::message::{Message, Pots, Request};
use crate::domain::run::{Intent, Next, Run};
use crate::gate::{Beside, Circumstances, Effort, Prepared, Rendered};
use crate::ids::{ModelName, PriceId};
use crate::units::{Money, grouped};

/// The first call of a run, as it would go out.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// The model that would be asked.
    pub model: Option<ModelName>,
    /// Its price version.
    pub price: Option<PriceId>,
    /// The request, provider-neutral.
    pub request: Option<Request>,
    /// The request on the wire.
    pub wire: Option<serde_json::Value>,
    /// Upper bound of the input.
    pub bound: Option<InputBound>,
    /// The request by pot.
    pub pots: Option<Pots>,
    /// What was cut to make it fit.
    pub cuts: Vec<Cut>,
    /// Whether the provider is asked to keep the request's beginning, and why.
    pub prompt_cache: Option<CacheChoice>,
    /// What the call could cost at worst.
    pub worst_case: Money,
    /// What would be kept back for the last answer.
    pub landing_reserve: Money,
    /// The most that the run could cost.
    pub load_line: Money,
    /// The limit that would refuse it.
    pub refusal: Option<Refusal>,
    /// Why it can't be made, in words.
    pub error: Option<String>,
}

impl Runtime {
    /// What a run would do first.
    ///
    /// # Errors
    /// As [`Runtime::create`].
    pub fn dry_run(&self, new: &NewRun) -> Result<DryRun, RuntimeError> {
        let (id, mut created, known) = self.created(new)?;
        created.thread = self.thread(&created, &new.bound)?;
        let earlier = self.earlier(&created)?;
        let now = self.0.clock.now();
        let mut run = Run::new(id, known.plan.clone(), &created, now);
        while let Next::Note(facts) = run.next(now, &self.0.checks) {
            facts.iter().for_each(|fact| run.apply(now, fact));
        }
        let render = |place: Option<Place>| {
            let rendered = match &place {
                Some(place) => Rendered::at(&run, &known.forms, place),
                None => Rendered::of(&known.plan, known.forms.own.clone(), &created.input)
                    .map(|rendered| rendered.with_input_of(&run)),
            };
            let goes_on = |rendered: Rendered| {
                let stage = place.as_ref().map(|place| &place.stage);
                let has_history = stage.is_none_or(|stage| run.plan.goes_on_with_thread(stage));
                if has_history { rendered.with_earlier(earlier.clone()) } else { rendered }
            };
            rendered.map(goes_on).map_err(|fault| RuntimeError::Prompt { agent: new.agent.clone(), fault })
        };
        let mut dry = DryRun {
            model: None,
            price: None,
            request: None,
            wire: None,
            bound: None,
            pots: None,
            cuts: vec![],
            prompt_cache: None,
            worst_case: Money::ZERO,
            landing_reserve: Money::ZERO,
            load_line: created.load_line,
            refusal: None,
            error: None,
        };
        let Next::Do(intents) = run.next(now, &self.0.checks) else { return Ok(dry) };
        match intents.into_iter().next() {
            Some(Intent::Model(intent)) => {
                let place = known.plan.is_workflow().then(|| intent.step.place());
                let asked = place.as_ref().map_or(&run.plan.model, |place| run.plan.call_of(place).model);
                let rule = self.0.rule(asked, &run.labels, now);
                let effort = Effort { tight: true, rule, ..Effort::default() };
                let rendered = render(place)?;
                let closed = self.0.gate.closed(&run, rendered.model(&run), now);
                let with = Circumstances { effort: &effort, beside: Beside::default(), closed: &closed, now };
                let prepared = self.0.gate.appraiser().prepare(&run, &rendered, &intent, with);
                self.fill(&mut dry, prepared);
            }
            Some(Intent::Land(refusal)) => dry.refusal = Some(refusal),
            Some(_) | None => {}
        }
        Ok(dry)
    }

    fn fill(&self, dry: &mut DryRun, prepared: Prepared) {
        match prepared {
            Prepared::Ready(draft) => {
                if let crate::domain::event::Call::Model(call) = &draft.reserved.call {
                    dry.model = Some(call.model.clone());
                    dry.price = Some(call.price.clone());
                    dry.bound = Some(call.bound);
                    dry.pots = Some(call.pots);
                    dry.cuts.clone_from(&call.cuts);
                }
                dry.prompt_cache = Some(draft.caching);
                dry.worst_case = draft.reserved.amount;
                dry.landing_reserve = draft.reserved.landing;
                dry.wire = self.0.answers.wire(&draft.request).map(|wire| without_files(wire, &draft.request));
                dry.request = Some(draft.request);
            }
            Prepared::Refused(refusal) => dry.refusal = Some(*refusal),
            Prepared::GiveUp(error) => dry.error = Some(error),
            Prepared::Later(_) => {}
        }
    }
}

/// A request as people see it: a note stands in the place of each file's bytes.
fn without_files(mut wire: serde_json::Value, request: &Request) -> serde_json::Value {
    let files =
        request.messages.iter().filter_map(|sent| if let Message::File(file) = &**sent { Some(file) } else { None });
    let notes: Vec<(&str, String)> =
        files.map(|file| (file.data(), format!("<{} bytes in base64>", grouped(file.bytes())))).collect();
    if !notes.is_empty() {
        shorten(&mut wire, &notes);
    }
    wire
}

fn shorten(value: &mut serde_json::Value, notes: &[(&str, String)]) {
    match value {
        serde_json::Value::String(text) => {
            for (data, note) in notes.iter().filter(|(data, _)| !data.is_empty()) {
                if text.len() >= data.len() && text.ends_with(data) {
                    text.replace_range(text.len() - data.len().., note);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, notes)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| shorten(field, notes)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}
