//! Where each record lies: one byte for the table, then fields of fixed width, big-endian, so that byte order is the
//! order of time. Names are hashed to fixed width; the record itself holds the name, and is compared.

use sha2::{Digest, Sha256};

use crate::domain::event::{AccountKey, AnswerKey, RunState};
use crate::domain::rollup::{Day, Dimensions};
use crate::ids::{AgentName, PlanHash, PriceId, RunId};
use crate::store::engine::Span;
use crate::units::Timestamp;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// What the store is: format version and id.
    Meta = 0x01,
    /// Events, those of one write in one record, and all in the first once the run ended: run, sequence number of the first.
    Event = 0x10,
    /// All events of a run that ended, where earlier versions wrote them: run.
    Pack = 0x11,
    /// Summaries of runs that ended, and keys alone of the others: run.
    Summary = 0x12,
    /// Plans: hash.
    Plan = 0x13,
    /// Files that went with an input: SHA-256.
    File = 0x14,
    /// Files of runs whose bodies are erased, until it is known whether another names them: SHA-256; holds the run.
    Unclaimed = 0x15,
    /// Budget accounts: hash of budget and scope, start of the period, its end. Formats before 7 left out the end.
    Budget = 0x20,
    /// The accounts and open reservations of a run, while it is open or holds money, and so the list of those: run.
    Money = 0x21,
    /// Frozen price rows: hash of the row's id.
    Frozen = 0x23,
    /// What budgets that only watch would have refused: as their accounts.
    Shadow = 0x25,
    /// The thresholds of a budget account that people were told of: as the accounts.
    Told = 0x26,
    /// The last costs of an agent's finished runs: hash of its name.
    Ring = 0x24,
    /// Rollups: day, hash of the dimensions.
    Rollup = 0x30,
    /// Runs that ended, by state: state, run. Earlier versions listed the others too; nobody reads that.
    ByState = 0x40,
    /// Runs by agent and by label value: hash of the name and the value, run.
    ByLabel = 0x41,
    /// Runs by agent and the caller's key: hash of both; holds the run.
    ByKey = 0x42,
    /// The audit log: number.
    Audit = 0x50,
    /// Alerts: those that wait, by time and number, then those that are over, by number.
    Alert = 0x51,
    /// Answers that are kept: what names the request.
    Answer = 0x60,
}

impl Table {
    const ALL: [(Self, &'static str); 20] = [
        (Self::Meta, "the store's head"),
        (Self::Event, "the events from"),
        (Self::Pack, "the packed events"),
        (Self::Summary, "the summary"),
        (Self::Plan, "plan"),
        (Self::File, "file"),
        (Self::Unclaimed, "the file of an erased run,"),
        (Self::Budget, "budget account"),
        (Self::Money, "the accounts and reservations"),
        (Self::Frozen, "frozen price"),
        (Self::Shadow, "what would have been refused"),
        (Self::Told, "what was told of a budget"),
        (Self::Ring, "expected cost"),
        (Self::Rollup, "rollup"),
        (Self::ByState, "the index by state"),
        (Self::ByLabel, "the index by label"),
        (Self::ByKey, "the index by key"),
        (Self::Audit, "the audit log's entry"),
        (Self::Alert, "the alert"),
        (Self::Answer, "the kept answer"),
    ];

    /// Its byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        // The one cast of a fieldless enum to its own representation.
        self as u8
    }

    /// All of it.
    #[must_use]
    pub fn span(self) -> Span {
        Span::prefix(&[self.byte()])
    }
}

/// 16 bytes that stand for a text.
fn hash(parts: &[&str]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        // No UTF-8 text holds this byte, so no two lists of parts look alike.
        hasher.update([0xff]);
    }
    let digest = hasher.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

fn key(table: Table, fields: &[&[u8]]) -> Vec<u8> {
    let bytes = fields.iter().map(|field| field.len()).sum::<usize>();
    let mut key = Vec::with_capacity(bytes + 1);
    key.push(table.byte());
    fields.iter().for_each(|field| key.extend_from_slice(field));
    key
}

pub(crate) fn meta() -> Vec<u8> {
    key(Table::Meta, &[b"store"])
}

pub(crate) fn event(run: RunId, seq: u32) -> Vec<u8> {
    key(Table::Event, &[&run.bits().to_be_bytes(), &seq.to_be_bytes()])
}

pub(crate) fn events(run: RunId) -> Span {
    Span::prefix(&key(Table::Event, &[&run.bits().to_be_bytes()]))
}

pub(crate) fn pack(run: RunId) -> Vec<u8> {
    key(Table::Pack, &[&run.bits().to_be_bytes()])
}

pub(crate) fn summary(run: RunId) -> Vec<u8> {
    key(Table::Summary, &[&run.bits().to_be_bytes()])
}

pub(crate) fn plan(plan: &PlanHash) -> Vec<u8> {
    key(Table::Plan, &[plan.as_str().as_bytes()])
}

/// Where a file lies, by its SHA-256 in hexadecimal digits.
pub(crate) fn file(sha256: &str) -> Vec<u8> {
    key(Table::File, &[sha256.as_bytes()])
}

/// Where it is noted that a file may have nobody any more who names it.
pub(crate) fn unclaimed(sha256: &str) -> Vec<u8> {
    key(Table::Unclaimed, &[sha256.as_bytes()])
}

/// Where a table of budget accounts has what it holds of one; `None` of a run's. All periods of one budget and scope follow
/// each other, in the order of their starts; two that begin alike, since the budget was changed, lie apart.
pub(crate) fn account(table: Table, account: &AccountKey) -> Option<Vec<u8>> {
    let AccountKey::Budget { budget, scope, start, end } = account else { return None };
    let end = end.unwrap_or(Timestamp(u64::MAX));
    Some(key(table, &[&hash(&[budget.as_str(), scope]), &start.0.to_be_bytes(), &end.0.to_be_bytes()]))
}

/// What begins the keys of alerts that wait, and of those that are over.
const ALERT_DUE: u8 = 0;
const ALERT_OVER: u8 = 1;

/// Where an alert lies that is to be delivered at a time.
pub(crate) fn alert_due(next: Timestamp, number: u64) -> Vec<u8> {
    key(Table::Alert, &[&[ALERT_DUE], &next.0.to_be_bytes(), &number.to_be_bytes()])
}

/// Where an alert lies that was delivered or given up.
pub(crate) fn alert_over(number: u64) -> Vec<u8> {
    key(Table::Alert, &[&[ALERT_OVER], &number.to_be_bytes()])
}

/// All alerts that wait.
pub(crate) fn alerts_due() -> Span {
    Span::prefix(&[Table::Alert.byte(), ALERT_DUE])
}

/// All alerts that are over.
pub(crate) fn alerts_over() -> Span {
    Span::prefix(&[Table::Alert.byte(), ALERT_OVER])
}

/// The time and the number of the key of an alert that waits.
pub(crate) fn alert_due_at(key: &[u8]) -> Option<(Timestamp, u64)> {
    let (before, number) = key.split_last_chunk::<8>()?;
    Some((Timestamp(last_number(before)?), u64::from_be_bytes(*number)))
}

/// Where the accounts and reservations of a run lie.
pub(crate) fn money(run: RunId) -> Vec<u8> {
    key(Table::Money, &[&run.bits().to_be_bytes()])
}

/// All periods of the budget and scope that `account` belongs to.
pub(crate) fn periods(account: &[u8]) -> Span {
    Span::prefix(&account[..account.len().min(17)])
}

pub(crate) fn frozen(price: &PriceId) -> Vec<u8> {
    key(Table::Frozen, &[&hash(&[price.as_str()])])
}

pub(crate) fn audit(number: u64) -> Vec<u8> {
    key(Table::Audit, &[&number.to_be_bytes()])
}

pub(crate) fn answer(key: &AnswerKey) -> Vec<u8> {
    self::key(Table::Answer, &[&key.0])
}

/// What names the request of a kept answer.
pub(crate) fn answer_of(key: &[u8]) -> Option<AnswerKey> {
    let (_, name) = key.split_first()?;
    Some(AnswerKey(name.try_into().ok()?))
}

/// The number that a key ends in: of an audit entry, or an alert.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.split_last_chunk::<8>().map(|(_, number)| u64::from_be_bytes(*number))
}

pub(crate) fn ring(agent: &AgentName) -> Vec<u8> {
    key(Table::Ring, &[&hash(&[agent.as_str()])])
}

pub(crate) fn rollup(day: Day, of: &Dimensions) -> Vec<u8> {
    let texts = [
        Some(of.agent.as_str()),
        of.model.as_ref().map(crate::ids::ModelName::as_str),
        of.tenant.as_deref(),
        of.feature.as_deref(),
        of.environment.as_deref(),
        of.owner.as_deref(),
        Some(&*of.prompt_version),
    ];
    // What is absent differs from what is empty.
    let mut parts: Vec<&str> = texts.iter().flat_map(|text| text.map_or(["", "-"], |text| [text, "+"])).collect();
    // Rows of before there were threads keep their places.
    parts.extend(of.thread.as_deref());
    key(Table::Rollup, &[&day.0.to_be_bytes(), &hash(&parts)])
}

/// Rollups of days from `from` to `to`, inclusive.
pub(crate) fn rollups(from: Day, to: Day) -> Span {
    let end =
        to.0.checked_add(1).map_or_else(|| Table::Rollup.span().to, |end| key(Table::Rollup, &[&end.to_be_bytes()]));
    Span { from: key(Table::Rollup, &[&from.0.to_be_bytes()]), to: end }
}

/// The state's byte in the index; stored, so never renumbered.
const fn state_byte(state: RunState) -> u8 {
    match state {
        RunState::Queued => 1,
        RunState::Running => 2,
        RunState::AwaitingBudget => 3,
        RunState::AwaitingApproval => 4,
        RunState::AwaitingInput => 5,
        RunState::Interrupted => 6,
        RunState::Finished => 7,
        RunState::Stopped => 8,
        RunState::Failed => 9,
        RunState::Cancelled => 10,
    }
}

pub(crate) fn by_state(state: RunState, run: RunId) -> Vec<u8> {
    key(Table::ByState, &[&[state_byte(state)], &run.bits().to_be_bytes()])
}

pub(crate) fn by_label(name: &str, value: &str, run: RunId) -> Vec<u8> {
    key(Table::ByLabel, &[&hash(&["label", name, value]), &run.bits().to_be_bytes()])
}

pub(crate) fn by_agent(agent: &AgentName, run: RunId) -> Vec<u8> {
    key(Table::ByLabel, &[&hash(&["agent", agent.as_str()]), &run.bits().to_be_bytes()])
}

pub(crate) fn by_key(agent: &AgentName, caller: &str) -> Vec<u8> {
    key(Table::ByKey, &[&hash(&[agent.as_str(), caller])])
}

/// The part of an index (or of the summaries) whose keys end in a run from `from` up to `to`, exclusive.
pub(crate) fn runs_between(any: &[u8], from: RunId, to: Option<RunId>) -> Span {
    let stem = &any[..any.len().saturating_sub(16)];
    let with = |run: RunId| [stem, &run.bits().to_be_bytes()].concat();
    Span { from: with(from), to: to.map_or_else(|| Span::prefix(stem).to, with) }
}

/// The run that a key ends in.
pub(crate) fn run_at_end(key: &[u8]) -> Option<RunId> {
    let (_, run) = key.split_last_chunk::<16>()?;
    Some(RunId::from_bits(u128::from_be_bytes(*run)))
}

/// The run and the number of an event's key.
pub(crate) fn run_and_number(key: &[u8]) -> Option<(RunId, u32)> {
    let (before, number) = key.split_last_chunk::<4>()?;
    Some((run_at_end(before)?, u32::from_be_bytes(*number)))
}

/// A key in words, for messages: `the events from 3 of run 01JD…`.
#[must_use]
pub fn describe(key: &[u8]) -> String {
    let hex = || crate::domain::plan::hex(key);
    let Some((table, name)) = Table::ALL.iter().find(|(table, _)| key.first() == Some(&table.byte())) else {
        return format!("a record of no known table (key {})", hex());
    };
    match table {
        Table::Event => run_and_number(key)
            .map_or_else(|| format!("{name} {}", hex()), |(run, number)| format!("{name} {number} of run {run}")),
        Table::Pack | Table::Summary | Table::Money | Table::ByState | Table::ByLabel => {
            run_at_end(key).map_or_else(|| format!("{name} {}", hex()), |run| format!("{name} of run {run}"))
        }
        Table::Plan | Table::File | Table::Unclaimed => format!("{name} {}", String::from_utf8_lossy(&key[1..])),
        Table::Meta => (*name).to_owned(),
        Table::Audit | Table::Alert => {
            last_number(key).map_or_else(|| format!("{name} {}", hex()), |number| format!("{name} {number}"))
        }
        Table::Budget
        | Table::Frozen
        | Table::Shadow
        | Table::Told
        | Table::Ring
        | Table::Rollup
        | Table::ByKey
        | Table::Answer => {
            format!("{name} (key {})", hex())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_the_order_of_runs_numbers_days_and_periods() {
        let (early, late) = (RunId::from_bits(1 << 80), RunId::from_bits(2 << 80));
        assert!(event(early, 256) > event(early, 255));
        assert!(event(late, 0) > event(early, u32::MAX));
        assert!(rollups(Day(1), Day(1)).to == rollups(Day(2), Day(2)).from);
        let period = |start, end| {
            let (start, end) = (Timestamp(start), Some(Timestamp(end)));
            let of = AccountKey::Budget { budget: "b".into(), scope: String::new(), start, end };
            account(Table::Budget, &of).expect("a budget's")
        };
        assert!(period(256, 300) > period(255, 400) && period(255, 400) > period(255, 300));
        assert_eq!(periods(&period(1, 2)), periods(&period(2, 3)));
    }

    #[test]
    fn texts_that_join_alike_have_keys_of_their_own() {
        let run = RunId::from_bits(1);
        assert_ne!(by_label("a", "bc", run), by_label("ab", "c", run));
        assert_ne!(by_key(&"a".into(), "bc"), by_key(&"ab".into(), "c"));
    }

    #[test]
    fn a_key_is_named_in_words() {
        let run = RunId::from_bits(1);
        assert_eq!(describe(&event(run, 3)), format!("the events from 3 of run {run}"));
        assert_eq!(describe(&money(run)), format!("the accounts and reservations of run {run}"));
        assert_eq!(describe(&[0x77, 1]), "a record of no known table (key 7701)");
        assert_eq!(describe(&[]), "a record of no known table (key )");
    }
}
