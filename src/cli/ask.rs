//! Questions of runs: how they are shown, the very command that answers each, and answers taken at a terminal.

use std::io::{self, BufRead, IsTerminal, Read as _, Write};

use serde_json::Value;

use super::output::Output;
use super::render::text::one_line;
use crate::domain::event::{AskKind, Decision};
use crate::domain::report::{AskDocument, RunDocument};
use crate::domain::run::Given;
use crate::ids::RunId;

/// The most characters of what is shown in one line.
const SHOWN_CHARS_MAX: usize = 200;
/// Lines of what is shown whole.
const SHOWN_LINES_MAX: usize = 200;
/// The most bytes of a yes or a no.
const ANSWER_BYTES_MAX: u64 = 64;
/// Keys that aren't understood before a question is left for later.
const TRIES_MAX: u32 = 8;

/// Who answers, where nobody says it: the user of this process.
pub(crate) fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "the command line".to_owned());
    one_line(&user, 64)
}

/// Puts a question to whoever sits at the terminal: true for a yes.
///
/// # Errors
/// The terminal is gone.
pub(crate) fn agrees(question: &str) -> io::Result<bool> {
    write!(io::stderr(), "{question} [y]es, [n]o: ")?;
    let mut answer = String::new();
    io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    Ok(answer.trim().to_lowercase().starts_with('y'))
}

/// A question, what it shows, and the command that answers it.
pub(crate) fn lines(asking: &AskDocument) -> Vec<String> {
    let mut lines = vec![format!("question {}  {}", asking.ask, one_line(&asking.question, 4 * SHOWN_CHARS_MAX))];
    lines.extend(shown(asking));
    if asking.expired {
        lines.push(format!("  nobody answered by {}: limit {}", asking.until, asking.limit));
        lines.push(format!("  goes on without: plimsoll resume {}", asking.run));
        return lines;
    }
    lines.push(format!("  open    until {}: limit {}", asking.until, asking.limit));
    lines.push(format!("  answer  {}", command(asking)));
    lines
}

/// What is approved: nobody should say yes to what they can't see.
fn shown(asking: &AskDocument) -> Vec<String> {
    let words = as_words(&asking.shown);
    if asking.shown.is_null() || words.chars().count() <= SHOWN_CHARS_MAX {
        let line = || format!("  shown   {}", one_line(&words, SHOWN_CHARS_MAX));
        return (!asking.shown.is_null()).then(line).into_iter().collect();
    }
    let text = pretty(&asking.shown);
    let lines = text.lines().take(SHOWN_LINES_MAX).map(|line| format!("    {}", harmless(line)));
    let more = text.lines().count().saturating_sub(SHOWN_LINES_MAX);
    let rest = || format!("    … and {more} more lines; all of it: plimsoll trace {} --json", asking.run);
    ["  shown".to_owned()].into_iter().chain(lines).chain((more > 0).then(rest)).collect()
}

/// The command that answers a question.
pub(crate) fn command(asking: &AskDocument) -> String {
    let AskDocument { run, ask, .. } = asking;
    match asking.what {
        AskKind::Input => format!("plimsoll answer {run} --ask {ask} TEXT"),
        AskKind::InFlight | AskKind::Call => {
            format!("plimsoll approve {run} --ask {ask}, or with --deny, --args JSON or --answer TEXT")
        }
        AskKind::Stage => {
            format!("plimsoll approve {run} --ask {ask}, or with --deny, or --args JSON for another value")
        }
    }
}

fn as_words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// True where somebody can be asked: they see the talk, and can type.
pub(crate) fn is_somebody_there(output: &Output) -> bool {
    output.talk_terminal && io::stdin().is_terminal()
}

/// Puts the open questions of a run to whoever sits at the terminal; nothing where they say later.
pub(crate) fn in_place(document: &RunDocument) -> Option<Vec<(RunId, Given)>> {
    // Standard error isn't kept locked: whoever gives up by Ctrl-C is told what became of the run while a line is read.
    answers(document, &mut io::stdin().lock(), &mut io::stderr())
}

/// What is typed to the open questions of a run. Nothing where they are left for later, or nobody types any more.
fn answers(document: &RunDocument, typed: &mut dyn BufRead, shown: &mut dyn Write) -> Option<Vec<(RunId, Given)>> {
    let mut given = Vec::new();
    for asking in document.asks.iter().filter(|asking| !asking.expired) {
        let (decision, reason) = Talk { typed, shown }.question(document, asking).ok().flatten()?;
        let (ask, shown_hash) = (Some(asking.ask), Some(asking.shown_hash.clone()));
        given.push((asking.run, Given { ask, decision, by: who(), reason, shown_hash }));
    }
    (!given.is_empty()).then_some(given)
}

/// Whoever types, and what they see.
struct Talk<'a> {
    typed: &'a mut dyn BufRead,
    shown: &'a mut dyn Write,
}

type Decided = Option<(Decision, Option<String>)>;

impl Talk<'_> {
    fn question(&mut self, document: &RunDocument, asking: &AskDocument) -> io::Result<Decided> {
        let at = asking.place.as_ref().map_or(String::new(), |place| format!(", at {place}"));
        writeln!(self.shown, "\n{} asks{at}: {}", document.agent, harmless(&asking.question))?;
        for line in pretty(&asking.shown).lines().take(SHOWN_LINES_MAX) {
            writeln!(self.shown, "  {}", harmless(line))?;
        }
        let cost = document.cost.settled_usd;
        writeln!(self.shown, "cost so far {cost}; run {}, question {}", asking.run, asking.ask)?;
        let keys = if asking.what == AskKind::Input {
            "[a]nswer, [d]eny, [l]ater"
        } else {
            "[a]llow, [d]eny, [e]dit, [l]ater"
        };
        for _ in 0..TRIES_MAX {
            let Some(key) = self.line(&format!("{keys}? "))? else { return Ok(None) };
            match key.chars().next().map(|key| key.to_ascii_lowercase()) {
                Some('a') if asking.what == AskKind::Input => return self.text(),
                Some('a') => return Ok(Some((Decision::Allow { edited: None }, None))),
                Some('d') => return Ok(Some((Decision::Deny, self.line("why? ")?.filter(|why| !why.is_empty())))),
                Some('e') if asking.what != AskKind::Input => match self.edited()? {
                    Some(edited) => return Ok(Some((Decision::Allow { edited: Some(edited) }, None))),
                    None => continue,
                },
                Some('l') => return Ok(None),
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    fn text(&mut self) -> io::Result<Decided> {
        let typed = self.line("answer: ")?;
        Ok(typed.map(|text| (Decision::Answer { value: Value::String(text) }, None)))
    }

    fn edited(&mut self) -> io::Result<Option<Value>> {
        let typed = self.line("in its place, as JSON in one line: ")?.unwrap_or_default();
        match serde_json::from_str(&typed) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                writeln!(self.shown, "that is no JSON: {error}")?;
                Ok(None)
            }
        }
    }

    /// Nothing where nobody types any more.
    fn line(&mut self, prompt: &str) -> io::Result<Option<String>> {
        write!(self.shown, "{prompt}")?;
        self.shown.flush()?;
        let mut line = String::new();
        let read = self.typed.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim().to_owned()))
    }
}

fn pretty(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    let json = || serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    value.as_str().map_or_else(json, str::to_owned)
}

fn harmless(text: &str) -> String {
    super::render::text::harmless(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::fixture;
    use serde_json::json;

    #[test]
    fn what_is_approved_is_shown_whole() {
        let mut asking = document(AskKind::Stage).asks.remove(0);
        asking.shown = json!({ "cents": 20 });
        assert_eq!(shown(&asking), [r#"  shown   {"cents":20}"#]);
        asking.shown = json!({ "text": "word ".repeat(60), "then": ["last"] });
        let lines = shown(&asking);
        assert_eq!((lines[0].as_str(), lines[4].trim()), ("  shown", r#""last""#), "{lines:?}");
        asking.shown = json!(vec![1; SHOWN_LINES_MAX]);
        assert!(shown(&asking).last().expect("lines").contains("and 2 more lines; all of it: plimsoll trace"));
        asking.shown = Value::Null;
        assert!(shown(&asking).is_empty());
    }

    fn document(what: AskKind) -> RunDocument {
        let log = fixture::eventful();
        let run = crate::domain::report::replay(fixture::run_id(), fixture::plan(), &log).expect("a run");
        let at = log[log.len() - 1].at;
        let mut document = RunDocument::of(&run, run.counters.settled, at);
        document.asks = vec![AskDocument {
            run: run.id,
            ask: 3,
            what,
            place: None,
            tool: Some("refund".into()),
            question: "may `refund` be called?\u{1b}[2J".into(),
            shown: json!({ "cents": 500 }),
            shown_hash: "00".into(),
            asked: at,
            until: at,
            expired: false,
            limit: "`expires` is 7d (default)".into(),
        }];
        document
    }

    fn typed(what: AskKind, text: &str) -> (Option<Vec<(RunId, Given)>>, String) {
        let mut shown = Vec::new();
        let given = answers(&document(what), &mut text.as_bytes(), &mut shown);
        (given, String::from_utf8(shown).expect("text"))
    }

    fn decision(what: AskKind, text: &str) -> Option<Decision> {
        typed(what, text).0.map(|given| given[0].1.decision.clone())
    }

    #[test]
    fn who_sits_at_the_terminal_sees_what_is_asked_and_decides() {
        let (given, shown) = typed(AskKind::Call, "a\n");
        let given = given.expect("an answer").remove(0).1;
        assert_eq!((given.ask, given.shown_hash.as_deref()), (Some(3), Some("00")));
        for part in
            ["may `refund` be called?", "  \"cents\": 500", "cost so far $", "[a]llow, [d]eny, [e]dit, [l]ater? "]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains('\u{1b}'), "what a model wrote can't move the cursor: {shown:?}");
        let given = typed(AskKind::Stage, "x\nDENY\nnot like this\n").0.expect("an answer").remove(0).1;
        assert_eq!((given.decision, given.reason.as_deref()), (Decision::Deny, Some("not like this")));
        let edited = decision(AskKind::Call, "e\n{oops\ne\n{\"cents\": 5}\n");
        assert_eq!(edited, Some(Decision::Allow { edited: Some(json!({ "cents": 5 })) }));
        let answer = decision(AskKind::Input, "a\nblue\n");
        assert_eq!(answer, Some(Decision::Answer { value: json!("blue") }));
        for later in ["l\n", "", "\n\n\n\n\n\n\n\n\n\n"] {
            assert_eq!(decision(AskKind::Call, later), None, "{later:?}");
        }
        assert_eq!(decision(AskKind::Input, "e\nl\n"), None, "a question has no arguments to edit");
    }

    #[test]
    fn each_question_names_the_command_that_answers_it() {
        for (what, words) in [
            (AskKind::Call, "plimsoll approve 0"),
            (AskKind::InFlight, "plimsoll approve 0"),
            (AskKind::Stage, "plimsoll approve 0"),
            (AskKind::Input, "plimsoll answer 0"),
        ] {
            let lines = lines(&document(what).asks[0]).join("\n");
            assert!(lines.contains(words) && lines.contains("--ask 3"), "{lines}");
        }
        let mut late = document(AskKind::Call);
        late.asks[0].expired = true;
        let lines = lines(&late.asks[0]).join("\n");
        assert!(lines.contains("nobody answered by") && lines.contains("plimsoll resume"), "{lines}");
    }
}
