//! The live line: where a run stands, fitted to the terminal's width, and the end of what the model is saying.

use crate::cli::render::text::one_line;
use crate::domain::event::Settled;
use crate::domain::limits::Limits;
use crate::units::{Millis, Money, Timestamp, Tokens};

/// The most bytes of a streamed answer that are kept.
const TAIL_BYTES_MAX: usize = 16 * 1024;
/// The most lines of it that are shown.
const TAIL_LINES_MAX: usize = 3;
/// What stands before each of them.
const INDENT: &str = "  ";
/// Between the parts of the line.
const BETWEEN: &str = " · ";

/// Where a run stands.
#[derive(Debug)]
pub(super) struct LiveLine {
    /// The call under way, or what the run waits for.
    pub(super) doing: String,
    settled: Money,
    pub(super) held: Money,
    pub(super) cap: Money,
    tokens: Tokens,
    /// When it was admitted.
    pub(super) began: Option<Timestamp>,
    /// What the model is saying, its end.
    pub(super) tail: String,
    /// How far the map is that was told of last: `read 3/12`.
    pub(super) map: String,
    step: u32,
    steps_max: Option<u32>,
    wall_time: Option<Millis>,
}

impl LiveLine {
    /// Of a run that hasn't begun.
    pub(super) fn new(limits: Option<&Limits>) -> Self {
        Self {
            doing: "starting".to_owned(),
            settled: Money::ZERO,
            held: Money::ZERO,
            cap: limits.map_or(Money::ZERO, |limits| limits.cost),
            tokens: Tokens::ZERO,
            began: None,
            tail: String::new(),
            map: String::new(),
            step: 0,
            steps_max: limits.map(|limits| limits.steps),
            wall_time: limits.map(|limits| limits.wall_time),
        }
    }

    /// A call begins.
    pub(super) fn step(&mut self, step: u32, what: String) {
        self.step = self.step.max(step);
        self.doing = what;
        self.tail.clear();
    }

    /// A call is over.
    pub(super) fn settle(&mut self, settled: &Settled) {
        self.settled = self.settled.plus(settled.bill);
        if let Some(usage) = &settled.usage {
            self.tokens = self.tokens.plus(usage.input_total()).plus(usage.output);
        }
    }

    /// The model says more.
    pub(super) fn stream(&mut self, piece: &str) {
        self.tail.push_str(piece);
        if self.tail.len() > TAIL_BYTES_MAX {
            let half = self.tail.len() - TAIL_BYTES_MAX / 2;
            let cut = (half..self.tail.len()).find(|at| self.tail.is_char_boundary(*at));
            self.tail.drain(..cut.unwrap_or(self.tail.len()));
        }
    }

    /// `step 3/20 · openai/gpt-5-mini · 1,234 tokens · $0.0012 of $0.05, $0.009 held · 4s of 90s`, and below it what is
    /// being said. On a narrow terminal what matters least is left out, and nothing ever wraps.
    pub(super) fn text(&self, now: Timestamp, columns: usize) -> String {
        let mut text = self.head(now, columns);
        for line in last_lines(&self.tail, columns.saturating_sub(INDENT.len())) {
            text.push('\n');
            text.push_str(INDENT);
            text.push_str(&line);
        }
        text
    }

    fn head(&self, now: Timestamp, columns: usize) -> String {
        let steps = self.steps_max.map_or(String::new(), |most| format!("/{most}"));
        let (step, tokens) = (format!("step {}{steps}", self.step), format!("{} tokens", self.tokens));
        let money = format!("{} of {}", self.settled, self.cap);
        let (held, time) = (format!("{money}, {} held", self.held), self.time(now));
        let short = self.doing.rsplit('/').next().unwrap_or_default();
        let forms: [&[&str]; 7] = [
            &[&step, &self.map, &self.doing, &tokens, &held, &time],
            &[&step, &self.map, &self.doing, &tokens, &money, &time],
            &[&step, &self.map, &self.doing, &money, &time],
            &[&step, &self.map, short, &money, &time],
            &[&step, &money, &time],
            &[&step, &money],
            &[&money],
        ];
        let mut joined = forms.into_iter().map(joined);
        joined.find(|line| line.chars().count() <= columns).unwrap_or_else(|| money.chars().take(columns).collect())
    }

    /// `4s of 90s`; nothing before it is admitted.
    fn time(&self, now: Timestamp) -> String {
        let Some(began) = self.began else { return String::new() };
        let of = self.wall_time.map_or(String::new(), |most| format!(" of {most}"));
        format!("{}s{of}", now.since(began).0 / 1000)
    }
}

fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join(BETWEEN)
}

/// The end of a text, in lines of so many characters at most, broken between words.
fn last_lines(text: &str, columns: usize) -> Vec<String> {
    if columns == 0 {
        return Vec::new();
    }
    let mut lines: Vec<String> = text.lines().flat_map(|line| wrapped(line, columns)).collect();
    lines.drain(..lines.len().saturating_sub(TAIL_LINES_MAX));
    lines
}

fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut current, mut room) = (Vec::new(), String::new(), columns);
    for word in one_line(line, TAIL_BYTES_MAX).split(' ').filter(|word| !word.is_empty()) {
        let mut letters: Vec<char> = word.chars().collect();
        if letters.len() >= room && !current.is_empty() {
            lines.push(std::mem::take(&mut current));
            room = columns;
        }
        while letters.len() > columns {
            lines.push(letters.drain(..columns).collect());
        }
        let space = if current.is_empty() { "" } else { " " };
        room = room.saturating_sub(space.len() + letters.len());
        current.push_str(space);
        current.extend(letters);
    }
    lines.extend((!current.is_empty()).then_some(current));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_424_404_900);

    fn live() -> LiveLine {
        let mut live = LiveLine::new(Some(&Limits::default()));
        live.step(3, "openai/gpt-5-mini".to_owned());
        (live.settled, live.held) = (Money::from_micro(1_200), Money::from_micro(9_000));
        (live.tokens, live.began) = (Tokens(1_234), Some(Timestamp(NOW.0 - 4_900)));
        live
    }

    #[test]
    fn a_narrow_terminal_is_told_the_money_last_of_all_to_go() {
        let told = |columns| live().text(NOW, columns);
        let whole = "step 3/20 · openai/gpt-5-mini · 1,234 tokens · $0.0012 of $0.25, $0.009 held · 4s of 5m";
        assert_eq!(told(120), whole);
        assert_eq!(told(78), "step 3/20 · openai/gpt-5-mini · 1,234 tokens · $0.0012 of $0.25 · 4s of 5m");
        assert_eq!(told(62), "step 3/20 · openai/gpt-5-mini · $0.0012 of $0.25 · 4s of 5m");
        assert_eq!(told(54), "step 3/20 · gpt-5-mini · $0.0012 of $0.25 · 4s of 5m");
        assert_eq!(told(30), "step 3/20 · $0.0012 of $0.25");
        assert_eq!((told(20).as_str(), told(6).as_str(), told(0).as_str()), ("$0.0012 of $0.25", "$0.001", ""));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut live = live();
        live.stream(
            "The order was shipped on Monday.\n\nA-word-that-is-longer-than-any-terminal, and 4711\u{1b}[2J äöü.",
        );
        for columns in 0..90 {
            let text = live.text(NOW, columns);
            assert!(text.lines().all(|line| line.chars().count() <= columns.max(INDENT.len())), "{columns}: {text}");
            assert!(text.lines().count() <= 1 + TAIL_LINES_MAX, "{columns}: {text}");
        }
        assert!(live.text(NOW, 40).ends_with("äöü."));
    }

    #[test]
    fn what_is_said_is_bounded_and_shown_by_its_end() {
        let mut live = live();
        for word in 0..10_000 {
            live.stream(&format!("wörd{word} "));
            assert!(live.tail.len() <= TAIL_BYTES_MAX);
        }
        let text = live.text(NOW, 42);
        assert!(text.ends_with("wörd9999") && text.lines().count() == 1 + TAIL_LINES_MAX, "{text}");
        live.step(4, "lookup_order".to_owned());
        assert_eq!(live.text(NOW, 120).lines().count(), 1);
    }
}
