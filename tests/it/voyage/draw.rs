//! What a voyage is made of, drawn from its seed: prices, budgets, agents as files, roots, weather, people, crashes.
//!
//! To draw more of the world, add it here, or in `agents.rs` as text of an agent's file, and teach the crew to answer what
//! it asks; the judge learns its facts.

mod agents;

use plimsoll::store::memory::{Crash, Failpoint};
use plimsoll::units::{Millis, Timestamp};

use super::dice::Dice;
use super::orders::{self, Order};

/// An agent calls those of higher numbers: trees are three levels deep at most.
const AGENTS_MAX: u64 = 4;

/// A model and what it costs, in pico-dollars.
#[derive(Clone, Debug)]
pub(super) struct Tariff {
    pub(super) model: &'static str,
    pub(super) input: u128,
    pub(super) output: u128,
    pub(super) per_call: u128,
}

#[derive(Clone, Debug)]
pub(super) struct BudgetDraw {
    pub(super) name: &'static str,
    each: Option<&'static str>,
    per: &'static str,
    /// In micro-dollars.
    pub(super) cap: u64,
}

/// A run that somebody starts.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) agent: usize,
    pub(super) at: Millis,
    pub(super) tenant: &'static str,
    /// Made first, and driven then.
    pub(super) in_two_steps: bool,
    pub(super) cancel: Option<Millis>,
    pub(super) hang_up: Option<Millis>,
    pub(super) person: Person,
}

/// What the person does that a run asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Person {
    Answers { after: Millis },
    Cancels { after: Millis },
    Forgets,
}

/// How a life of the process ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// `kill -9`, right after this many commits.
    KilledAfter(u64),
    /// `kill -9` at a time of this life.
    KilledAt(Millis),
    /// A commit fails and the power goes.
    PowerCut { commits: u64, point: Failpoint, crash: Crash },
    /// A clean stop.
    Stopped(Millis),
}

/// How likely faults are, in percent.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) throttled: u64,
    pub(super) broken: u64,
    pub(super) odd: u64,
    pub(super) slow: u64,
    pub(super) overrun: u64,
    pub(super) tool_errors: u64,
    /// Longest ways to the store and back.
    pub(super) ways: u64,
}

/// A voyage, before it begins.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) start: Timestamp,
    pub(super) tariffs: Vec<Tariff>,
    pub(super) budgets: Vec<BudgetDraw>,
    /// Model calls at once, and tokens in a minute for each tenant.
    pub(super) rates: (Option<u64>, Option<u64>),
    /// The agents' files, in each edition that a life may find.
    pub(super) editions: Vec<Vec<String>>,
    pub(super) roots: Vec<Root>,
    pub(super) weather: Weather,
    /// How each life but the last ends.
    pub(super) ends: Vec<End>,
    /// When a budget gets another cap, in micro-dollars.
    pub(super) caps: Vec<(Millis, usize, u64)>,
    /// What people order, and when.
    pub(super) orders: Vec<(Millis, Order)>,
}

impl BudgetDraw {
    /// True where it has an account for each tenant.
    pub(super) fn has_tenants(&self) -> bool {
        self.each.is_some()
    }
}

/// Free and harmless; paid; with effects; with effects and paid; after a person's yes; a question to a person.
pub(super) const TOOLS: [(&str, &str); 6] = [
    ("look", "kind = 'builtin'\nbuiltin = 'template'\ntemplate = 'all is well'\n"),
    ("fetch", "kind = 'http'\nurl = 'https://tools.example.com/fetch'\nidempotent = true\nprice = '$0.0007'\n"),
    ("write", "kind = 'http'\nurl = 'https://tools.example.com/write'\ntimeout = '2s'\n"),
    ("order", "kind = 'http'\nurl = 'https://tools.example.com/order'\nprice = '$0.002'\n"),
    ("sign", "kind = 'http'\nurl = 'https://tools.example.com/sign'\napproval = 'always'\nprice = '$0.0005'\n"),
    (QUESTION, "kind = 'builtin'\nbuiltin = 'ask_user'\n"),
];

/// The tool that is a question to a person.
const QUESTION: &str = "ask";

/// Every other tool's file goes on like this.
const TOOL_INPUT: &str =
    "description = 'A tool'\n[input]\ntype = 'object'\nrequired = ['n']\nproperties.n = { type = 'integer' }\n";

/// The file of a tool.
pub(super) fn tool_file(name: &str, text: &str) -> String {
    if name == QUESTION { text.to_owned() } else { format!("{text}{TOOL_INPUT}") }
}

impl Sheet {
    pub(super) fn draw(seed: u64) -> Self {
        let dice = &mut Dice::of(seed, &[1]);
        let crowd = dice.chance(35);
        let budgets = draw_budgets(dice, crowd);
        let agents = dice.between(1, AGENTS_MAX).max(dice.between(1, AGENTS_MAX));
        let editions = (0..2).map(|_| agents::draw(dice, agents, crowd)).collect();
        let roots = (0..dice.between(if crowd { 5 } else { 1 }, 12)).map(|_| draw_root(dice, agents)).collect();
        let lives = if dice.chance(25) { 0 } else { dice.between(1, 3) };
        let caps = if budgets.is_empty() || dice.chance(60) { 0 } else { dice.between(1, 3) };
        let budget_count = u64::try_from(budgets.len()).expect("few");
        let caps = (0..caps)
            .map(|_| {
                let budget = usize::try_from(dice.next() % budget_count).expect("few");
                (Millis(dice.between(100, 30_000)), budget, draw_cap(dice))
            })
            .collect();
        // Apart, so that what else is drawn doesn't depend on it.
        let apart = &mut Dice::of(seed, &[4]);
        let rates =
            (apart.chance(30).then(|| apart.between(1, 4)), apart.chance(30).then(|| apart.between(4_000, 80_000)));
        Self {
            // Some minutes or seconds before an hour begins.
            start: Timestamp(1_700_002_800_000 - dice.pick(&[600_000, 20_000, 4_000])),
            tariffs: ["p/amber", "q/birch", "r/cedar"].into_iter().map(|model| draw_tariff(dice, model)).collect(),
            orders: orders::draw(seed, &budgets),
            budgets,
            rates,
            editions,
            roots,
            weather: draw_weather(dice),
            ends: (0..lives).map(|_| draw_end(dice)).collect(),
            caps,
        }
    }

    /// `plimsoll.toml`.
    pub(super) fn project(&self) -> String {
        let mut text = String::from(
            "[policies.good]\nmodels = ['p/amber', 'q/birch']\ncontent_filter_fallbacks = ['r/cedar']\ndowngrade = { to = 'cheap' }\n\
             [policies.cheap]\nmodels = ['r/cedar']\n",
        );
        for Tariff { model, input, output, per_call } in &self.tariffs {
            let (input, output) = (decimal(input * 1_000_000), decimal(output * 1_000_000));
            let per_call = decimal(*per_call);
            text += &format!(
                "[[prices]]\nmodel = '{model}'\ninput = '{input}'\noutput = '{output}'\nper_call = '${per_call}'\n"
            );
        }
        for BudgetDraw { name, each, per, cap } in &self.budgets {
            let each = each.map_or_else(String::new, |label| format!("each = ['{label}']\n"));
            let cap = decimal(u128::from(*cap) * 1_000_000);
            text += &format!("[[budgets]]\nname = '{name}'\nper = '{per}'\ncap = '${cap}'\n{each}");
        }
        if let Some(most) = self.rates.0 {
            text += &format!("[[rates]]\nconcurrent = {most}\n");
        }
        if let Some(tokens) = self.rates.1 {
            text += &format!("[[rates]]\neach = ['tenant']\ntokens_per_minute = {tokens}\n");
        }
        text
    }
}

/// Pico-dollars as dollars.
fn decimal(pico: u128) -> String {
    format!("{}.{:012}", pico / 1_000_000_000_000, pico % 1_000_000_000_000)
}

/// From $0.006 to $0.77, small ones more often.
fn draw_cap(dice: &mut Dice) -> u64 {
    (dice.between(6_000, 24_000) << dice.between(0, 5)) + dice.between(0, 999)
}

/// In a crowd many runs start on a budget that pays for some of them.
fn draw_budgets(dice: &mut Dice, crowd: bool) -> Vec<BudgetDraw> {
    let all = [("all", None, "total"), ("tenants", Some("tenant"), "total"), ("hours", None, "hour")];
    let mut budgets = Vec::new();
    for (name, each, per) in all {
        if crowd && name == "all" {
            budgets.push(BudgetDraw { name, each, per, cap: dice.between(12_000, 60_000) });
        } else if dice.chance(45) {
            budgets.push(BudgetDraw { name, each, per, cap: draw_cap(dice) });
        }
    }
    budgets
}

fn draw_tariff(dice: &mut Dice, model: &'static str) -> Tariff {
    Tariff {
        model,
        input: u128::from(dice.between(10, 200)) * 10_000,
        output: u128::from(dice.between(50, 1_200)) * 10_000,
        per_call: if dice.chance(20) { u128::from(dice.between(1, 900)) * 1_000_000 } else { 0 },
    }
}

fn draw_weather(dice: &mut Dice) -> Weather {
    let calm = dice.chance(30);
    let mut rate = |most| if calm { 0 } else { dice.between(0, most) };
    let (throttled, broken, odd, slow, tool_errors) = (rate(25), rate(12), rate(10), rate(15), rate(25));
    let overrun = if dice.chance(10) { 5 } else { 0 };
    let ways = if dice.chance(50) { dice.between(1, 8) } else { 0 };
    Weather { throttled, broken, odd, slow, overrun, tool_errors, ways }
}

fn draw_end(dice: &mut Dice) -> End {
    match dice.between(0, 9) {
        0..=3 => End::KilledAfter(dice.between(1, 30)),
        4 => End::KilledAt(Millis(dice.between(10, 8_000))),
        5..=7 => {
            let crash = dice.pick(&[Crash::Lose, Crash::Keep, Crash::Keep, Crash::Tear(0)]);
            let crash = if matches!(crash, Crash::Tear(_)) { Crash::Tear(dice.next()) } else { crash };
            let point = dice.pick(&[Failpoint::Write, Failpoint::Sync, Failpoint::Sync]);
            End::PowerCut { commits: dice.between(1, 30), point, crash }
        }
        _ => End::Stopped(Millis(dice.between(100, 10_000))),
    }
}

fn draw_root(dice: &mut Dice, agents: u64) -> Root {
    let some = |dice: &mut Dice, percent, most| dice.chance(percent).then(|| Millis(dice.between(0, most)));
    let spread = dice.pick(&[0, 1_000, 6_000]);
    let person = match dice.between(0, 9) {
        0..=6 => Person::Answers { after: Millis(dice.between(0, 30_000)) },
        7 => Person::Cancels { after: Millis(dice.between(0, 30_000)) },
        _ => Person::Forgets,
    };
    Root {
        // Those of lower numbers have more below them.
        agent: usize::try_from((dice.next() % agents).min(dice.next() % agents)).expect("few"),
        at: Millis(dice.between(0, spread)),
        tenant: dice.pick(&["acme", "acme", "bolt"]),
        in_two_steps: dice.chance(20),
        cancel: some(dice, 12, 20_000),
        hang_up: some(dice, 8, 12_000),
        person,
    }
}
