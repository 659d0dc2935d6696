//! One run: what it did and what that cost, how near it came to its limits, what it asks, and what can be done with it.

mod asks;
mod context;
mod rows;

use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::{Redirect, Response};

use self::asks::Ask;
use self::context::Request;
use self::rows::{Row, Timeline};
use super::chart::share;
use super::form::{Fields, bad};
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::live::{Seen, watch};
use super::text::{labels, link, moment, whole};
use crate::api::{CancelRequest, ResumeRequest};
use crate::domain::access::Scope;
use crate::domain::event::RunState;
use crate::domain::report::{CostDocument, LimitStanding, RunDocument, Trace};
use crate::ids::RunId;
use crate::units::{Millis, Money};
use crate::words::entry::{self, Texts};
use crate::words::text::count;

/// The whole of a limit, in basis points.
const WHOLE: u64 = 10_000;
/// From this share of a limit on a bar is drawn as near it.
const NEAR: u64 = 8_000;

#[derive(Template)]
#[template(path = "run/run.html")]
struct RunPage {
    shell: Shell,
    run: String,
    agent: String,
    state: &'static str,
    state_words: String,
    /// Why it stands so: the limit, or the error.
    why: Option<String>,
    facts: Vec<(&'static str, String)>,
    labels: Vec<String>,
    cost: Cost,
    asks: Vec<Ask>,
    may: May,
    timeline: Timeline,
    requests: Vec<Request>,
    limits: Vec<Limit>,
    off: String,
    has_answer: bool,
    /// Nothing where messages aren't shown, as below.
    answer: Option<String>,
    input: Option<String>,
    /// Where messages are shown; nothing where they are.
    with_messages: Option<String>,
    live: Option<String>,
}

/// What whoever looks may do.
struct May {
    cancel: bool,
    resume: bool,
    approve: bool,
    /// Who does it, where a key says so; else they say it.
    who: Option<String>,
}

/// The run's money.
struct Cost {
    settled: String,
    unknown: Option<String>,
    held: Option<String>,
    load_line: String,
    /// Thousandths of the load line.
    settled_share: u64,
    held_share: u64,
}

impl Cost {
    fn of(head: &RunDocument) -> Self {
        let CostDocument { settled_usd, unknown_usd, held_usd } = head.cost;
        let some = |amount: Money| (!amount.is_zero()).then(|| amount.to_string());
        let of_line = |amount: Money| share(amount.pico(), head.load_line_usd.pico());
        let settled_share = of_line(settled_usd);
        Self {
            settled: settled_usd.to_string(),
            unknown: some(unknown_usd),
            held: some(held_usd),
            load_line: head.load_line_usd.to_string(),
            settled_share,
            held_share: of_line(settled_usd.plus(held_usd)).saturating_sub(settled_share),
        }
    }
}

/// A limit's bar.
struct Limit {
    name: &'static str,
    stood_at: String,
    value: String,
    declared: String,
    stopped: bool,
    /// Thousandths; nothing where it has no share.
    share: Option<u64>,
    percent: Option<String>,
    class: &'static str,
}

impl Limit {
    fn of(standing: &LimitStanding) -> Option<Self> {
        let used = standing.used_basis_points;
        Some(Self {
            name: standing.limit.name(),
            stood_at: standing.stood_at.clone(),
            value: standing.value.clone()?,
            declared: standing.declared.to_string(),
            stopped: standing.stopped,
            share: used.map(|used| share(used.into(), WHOLE.into())),
            percent: used.map(crate::words::text::percent),
            class: match used {
                _ if standing.stopped => "stopped",
                Some(used) if used >= NEAR => "near",
                Some(_) | None => "far",
            },
        })
    }
}

/// A run, and what it did.
pub(super) async fn page(
    visitor: Visitor,
    Path(run): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let with_messages = Fields::of(query.as_deref())?.get("messages").is_some();
    let texts = if with_messages { Texts::Excerpts } else { Texts::Hidden };
    // A long run's page takes a while to write: not on a thread that others wait for.
    let service = visitor.service.clone();
    let page = service.read(move |books| {
        let trace = books.trace(books.find(&run)?.id)?;
        html(&RunPage::of(&visitor, &trace, texts)).map_err(|told| told.0)
    });
    Ok(page.await?)
}

impl RunPage {
    fn of(visitor: &Visitor, trace: &Trace, texts: Texts) -> Self {
        let with_messages = texts == Texts::Excerpts;
        let (head, run) = (&trace.head, trace.head.run.to_string());
        let off = trace.limits.iter().filter(|standing| standing.value.is_none());
        let may = |scope: Scope| visitor.caller().may(scope).is_ok();
        let is_open = !head.state.is_ended();
        let seen = seen(head);
        Self {
            shell: visitor.shell(Section::Runs, &format!("{} {run}", head.agent)),
            agent: head.agent.to_string(),
            state: head.state.name(),
            state_words: entry::state(head),
            why: trace.refusal.as_ref().map(ToString::to_string).or_else(|| head.error.clone()),
            facts: facts(trace),
            labels: labels(&trace.labels),
            cost: Cost::of(head),
            asks: head.asks.iter().map(Ask::of).collect(),
            may: May {
                cancel: is_open && may(Scope::Run),
                resume: waits(head.state) && may(Scope::Run),
                approve: may(Scope::Approve),
                who: visitor.caller().key().map(|(name, _)| name.to_owned()),
            },
            timeline: Timeline::of(trace, texts),
            requests: context::requests(trace),
            limits: trace.limits.iter().filter_map(Limit::of).collect(),
            off: off.map(|standing| standing.limit.name()).collect::<Vec<_>>().join(", "),
            has_answer: head.output.is_some(),
            answer: head.output.as_ref().filter(|_| with_messages).map(whole),
            input: with_messages.then(|| whole(&trace.input)),
            with_messages: (!with_messages).then(|| link(&format!("/runs/{run}"), &[("messages", "all")])),
            live: is_open.then(|| link(&format!("/runs/{run}/live"), &[("seen", &seen.print)])),
            run,
        }
    }
}

/// What goes on when somebody says so. Runs that wait for people go on with the answer.
const fn waits(state: RunState) -> bool {
    matches!(state, RunState::Interrupted | RunState::AwaitingBudget)
}

fn facts(trace: &Trace) -> Vec<(&'static str, String)> {
    let head = &trace.head;
    let mut facts = vec![("Created", moment(trace.created))];
    facts.extend(trace.ended.map(|ended| ("Ended", moment(ended))));
    facts.push(("Active time", head.wall_ms.to_string()));
    facts.push(("Steps", head.steps.to_string()));
    facts.push(("Model calls", format!("{} in {}", head.model_calls, count(head.attempts.into(), "attempt"))));
    facts.push(("Tool calls", head.tool_calls.to_string()));
    facts.push(("Tokens", entry::tokens(&head.tokens)));
    facts.extend(head.sub_agents.as_ref().map(|below| {
        let (runs, steps) = (count(below.runs.into(), "run"), count(below.steps.into(), "step"));
        ("Sub-agents", format!("{} of it by {runs}, in {steps}", below.settled_usd))
    }));
    facts.push(("Prompt", trace.prompt_version.clone()));
    facts.push(("Plan", trace.plan.as_str().chars().take(12).collect()));
    facts.extend(trace.expected_usd.map(|expected| ("Expected cost", expected.to_string())));
    facts.extend(trace.foreseen_usd.map(|foreseen| ("Foreseen cost", foreseen.to_string())));
    facts.extend(trace.erased.then(|| ("Texts", "taken out of the store".to_owned())));
    facts.extend(trace.key.clone().map(|key| ("Caller's key", key)));
    facts
}

/// What of a run changes: time that goes by alone doesn't.
fn seen(head: &RunDocument) -> Seen {
    Seen::of(&RunDocument { wall_ms: Millis::ZERO, ..head.clone() }, head.state.is_ended())
}

/// Says when the run is another.
pub(super) async fn live(
    visitor: Visitor,
    Path(run): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let fields = Fields::of(query.as_deref())?;
    watch(visitor.service, fields.get("seen"), move |books| Ok(seen(&books.document(books.find(&run)?.id)?))).await
}

/// Asks it to end.
pub(super) async fn cancel(visitor: Visitor, Path(run): Path<String>, body: String) -> Result<Redirect, Told> {
    visitor.may(Scope::Run)?;
    let fields = Fields::sent(&body, &visitor.token)?;
    let reason = fields.get("reason").unwrap_or("cancelled on its page");
    let by = who(&visitor, &fields).map_or(String::new(), |by| format!(" (by {by})"));
    let request = CancelRequest { reason: format!("{reason}{by}"), ..CancelRequest::default() };
    let head = visitor.service.cancel(run, &request).await?;
    Ok(back(head.run))
}

/// Has it go on.
pub(super) async fn resume(visitor: Visitor, Path(run): Path<String>, body: String) -> Result<Redirect, Told> {
    visitor.may(Scope::Run)?;
    Fields::sent(&body, &visitor.token)?;
    let head = visitor.service.resume(run, &ResumeRequest::default()).await?;
    Ok(back(head.run))
}

/// Answers one of its questions, or one of a run below it.
pub(super) async fn answer(visitor: Visitor, Path(run): Path<String>, body: String) -> Result<Redirect, Told> {
    visitor.may(Scope::Approve)?;
    let fields = Fields::sent(&body, &visitor.token)?;
    let by = who(&visitor, &fields);
    let request = asks::request(&fields, by.ok_or_else(|| bad("nobody is named; say who decides"))?)?;
    let of = fields.get("of").unwrap_or(&run).to_owned();
    let _: RunDocument = visitor.service.answer(of, &request).await?;
    Ok(Redirect::to(&format!("/runs/{run}")))
}

/// Who does it: whoever the key is of, and else who they say they are.
fn who(visitor: &Visitor, fields: &Fields) -> Option<String> {
    let key = visitor.caller().key().map(|(name, id)| format!("{name} (key {id})"));
    key.or_else(|| fields.get("by").map(str::to_owned))
}

fn back(run: RunId) -> Redirect {
    Redirect::to(&format!("/runs/{run}"))
}
