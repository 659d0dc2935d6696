//! What requests have in common, measured and rendered once: forms of stages, texts of conversations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::domain::context::{self, Documents};
use crate::domain::event::{Call, Place, Purpose, Reserved};
use crate::domain::message::{Message, OutputSchema, Sent, ToolDefinition};
use crate::domain::plan::{CallView, ModelPlan, Plan, StageKind, StagePlan, ToolPlan};
use crate::domain::run::{ModelIntent, Run};
use crate::domain::template::{self, TemplateError};
use crate::ids::{ReservationId, StageName};
use crate::tokenize::{Prepared as Fixed, message_bytes};
use crate::units::Tokens;

/// What every request of one stage has in common, measured once: tool definitions and the answer's form.
#[derive(Clone, Debug)]
pub struct Form {
    pub(super) tools: Arc<[ToolDefinition]>,
    pub(super) output: Option<Arc<OutputSchema>>,
    pub(super) with_tools: Fixed,
    pub(super) without_tools: Fixed,
}

impl Form {
    /// Takes it from a plan: of a single loop, or of a workflow's own last answer.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let tools = match plan.stages.as_slice() {
            [stage] if !plan.is_workflow() => stage.kind.tools(),
            _ => &[],
        };
        Self::with(plan, &CallView { model: &plan.model, prompt: &plan.prompt, output: plan.output.as_ref(), tools })
    }

    fn with(plan: &Plan, call: &CallView<'_>) -> Self {
        let names = call.tools;
        let definition = |tool: &ToolPlan| ToolDefinition {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: tool.input.clone(),
        };
        let tools: Arc<[ToolDefinition]> =
            names.iter().filter_map(|name| plan.tools.get(name)).map(definition).collect();
        let output = |schema: &serde_json::Value| OutputSchema { name: "answer".into(), schema: schema.clone() };
        let output = call.output.map(|schema| Arc::new(output(schema)));
        let extra = &call.model.sampling.extra;
        Self {
            with_tools: Fixed::new(&tools, output.as_deref(), extra),
            without_tools: Fixed::new(&[], output.as_deref(), extra),
            tools,
            output,
        }
    }
}

/// The forms of a plan's requests, measured once: its own, and each stage's.
#[derive(Clone, Debug)]
pub struct Forms {
    /// Of a single loop, or of a workflow's own last answer.
    pub own: Arc<Form>,
    stages: BTreeMap<StageName, Arc<Form>>,
}

impl Forms {
    /// Takes them from a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let form = |stage: &StagePlan| {
            let item = matches!(stage.kind, StageKind::Map { .. }).then_some(0);
            let place = Place { stage: stage.id.clone(), item };
            (stage.id.clone(), Arc::new(Form::with(plan, &plan.call_of(&place))))
        };
        let stages = plan.stages.iter().filter(|_| plan.is_workflow()).map(form).collect();
        Self { own: Arc::new(Form::of(plan)), stages }
    }
}

/// What is asked for in the same write before a call: its number and its limits come after theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    asks: u32,
    pub(super) input: Tokens,
    pub(super) output: Tokens,
}

impl Beside {
    /// One more.
    pub fn count(&mut self, reserved: &Reserved) {
        self.asks = self.asks.saturating_add(1);
        self.count_below(reserved);
    }

    /// One more of a run below: only its tokens count here.
    pub fn count_below(&mut self, reserved: &Reserved) {
        if let Call::Model(call) = &reserved.call {
            self.input = self.input.plus(call.bound.tokens);
            self.output = self.output.plus(call.output_at_most());
        }
    }

    /// Input and output at worst.
    #[must_use]
    pub const fn tokens(&self) -> (Tokens, Tokens) {
        (self.input, self.output)
    }

    /// The id of the run's next reservation after these.
    #[must_use]
    pub fn next_reservation(&self, run: &Run) -> ReservationId {
        let next = run.next_reservation();
        ReservationId { number: next.number.saturating_add(self.asks), ..next }
    }
}

/// What every request of a conversation has in common: the form, and the rendered texts.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The rendered system text, if there is one.
    system: Option<Sent>,
    /// The rendered user text.
    pub(super) user: Sent,
    /// What was said in its thread before.
    earlier: Arc<[Sent]>,
    /// The files of the run.
    files: Arc<[Sent]>,
    /// The user text behind the run's documents, if it has some.
    attached: Option<(Arc<Documents>, Sent)>,
    pub(super) form: Arc<Form>,
    /// The stage whose way of asking it is; `None` for the agent's own.
    stage: Option<StageName>,
}

impl Rendered {
    /// Renders a plan's prompt over an input; `form` is the plan's.
    ///
    /// # Errors
    /// A template that can't be rendered over this input.
    pub fn of(plan: &Plan, form: Arc<Form>, input: &serde_json::Value) -> Result<Self, TemplateError> {
        let context = json!({ "input": input });
        Ok(Self {
            system: system(template::render(&plan.prompt.system, &context)?),
            user: user(template::render(&plan.prompt.user, &context)?),
            earlier: [].into(),
            files: [].into(),
            attached: None,
            form,
            stage: None,
        })
    }

    /// Renders the prompt of a workflow's stage over what the run has by now.
    ///
    /// # Errors
    /// A template that can't be rendered over this.
    pub fn at(run: &Run, forms: &Forms, place: &Place) -> Result<Self, TemplateError> {
        let (prompt, context) = (run.plan.call_of(place).prompt, run.names_at(place));
        Ok(Self {
            system: system(template::render(&prompt.system, &context)?),
            user: user(template::render(&prompt.user, &context)?),
            earlier: [].into(),
            files: [].into(),
            attached: None,
            form: forms.stages.get(&place.stage).unwrap_or(&forms.own).clone(),
            stage: Some(place.stage.clone()),
        }
        .with_input_of(run))
    }

    /// With what was said in its thread before.
    #[must_use]
    pub fn with_earlier(mut self, earlier: Vec<Sent>) -> Self {
        self.earlier = earlier.into();
        self
    }

    /// The same as another conversation of the run has it.
    #[must_use]
    pub fn with_earlier_of(mut self, other: &Self) -> Self {
        self.earlier = other.earlier.clone();
        self
    }

    /// With what its run has beside the input's text: documents and files.
    #[must_use]
    pub fn with_input_of(mut self, run: &Run) -> Self {
        self.attached = run.documents.clone().map(|documents| {
            let message = documents.before(&self.user);
            (documents, message)
        });
        self.files = run.files.clone();
        self
    }

    /// The models of this conversation.
    pub(crate) fn model<'a>(&self, run: &'a Run) -> &'a ModelPlan {
        let stage = self.stage.as_ref().and_then(|stage| run.plan.stage(stage));
        let call = stage.and_then(|stage| stage.kind.call());
        call.and_then(|call| call.model.as_ref()).unwrap_or(&run.plan.model)
    }

    /// True where the conversation is longer in bytes than one of its pots allows in tokens, or what a landing tells
    /// whatever it was longer than its limit: then tokens are counted.
    pub(super) fn may_count(&self, run: &Run, intent: &ModelIntent) -> bool {
        let (context, landing) = (&run.plan.context, Tokens(run.plan.limits.landing_tokens.into()));
        let smallest = context.history.min(context.tool_output).min(context.tokens);
        let user = self.attached.as_ref().map_or(&self.user, |(_, message)| message);
        let texts = self.system.iter().chain([user]).chain(&*self.earlier).map(|sent| sent.text().len()).sum::<usize>();
        let texts = Tokens(u64::try_from(texts).unwrap_or(u64::MAX));
        let fixed = texts.plus(self.form.with_tools.bytes());
        let files = self.files.iter().map(|file| file.bytes(message_bytes)).sum();
        let whole = fixed.plus(files).plus(run.bytes(&intent.step));
        let landed = if intent.purpose == Purpose::Landing { whole } else { fixed.plus(files) };
        whole > smallest || landed > landing
    }

    pub(super) fn draft<'a>(&'a self, turns: &'a [Sent], summary: Option<&'a Sent>) -> context::Draft<'a> {
        let attached = self.attached.as_ref();
        let documents = attached.map(|(documents, message)| context::Attached { documents, message });
        context::Draft {
            system: self.system.as_ref(),
            earlier: &self.earlier,
            user: &self.user,
            files: &self.files,
            documents,
            summary,
            turns,
        }
    }
}

fn system(text: String) -> Option<Sent> {
    (!text.is_empty()).then(|| Sent::from(Message::System { text }))
}

fn user(text: String) -> Sent {
    Sent::from(Message::User { text })
}
