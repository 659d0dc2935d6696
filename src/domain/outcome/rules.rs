//! Rules of an agent's file that say what a run was worth: expressions over what went in and what came out.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Outcome, Quality, QualitySource, Score, UNITS_MAX};
use crate::domain::template;
use crate::units::Money;

/// What `units` may give.
pub const UNITS_HELP: &str = "true (1), false (0) or a whole number";
/// What `quality` may give.
pub const SCORE_HELP: &str = "a number from 0 to 1, true or false";
/// What `revenue` may give.
pub const REVENUE_HELP: &str = "an amount in USD, such as 12.50 or '$0.99', never negative";
/// How much of a value a message shows.
const SHOWN_CHARS_MAX: usize = 80;

/// `[outcome]` of an agent: expressions over `input`, `output` and `labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRules {
    /// How many units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<String>,
    /// How good, by a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// What it brought in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revenue: Option<String>,
}

/// A rule that gave nothing that can be used. What it says of is unknown then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule `{key}` gave no outcome: {why}")]
pub struct RuleFault {
    /// `units`, `quality` or `revenue`.
    pub key: &'static str,
    /// Why.
    pub why: String,
}

impl OutcomeRules {
    /// What the rules say of a run that finished. A rule that gives `none` says nothing.
    #[must_use]
    pub fn outcome(&self, input: &Value, output: &Value, labels: &Value) -> (Outcome, Vec<RuleFault>) {
        let context = json!({ "input": input, "output": output, "labels": labels });
        let mut faults = Vec::new();
        let units = told("units", self.units.as_deref(), &context, units, UNITS_HELP, &mut faults);
        let score = told("quality", self.quality.as_deref(), &context, score, SCORE_HELP, &mut faults);
        let revenue_usd = told("revenue", self.revenue.as_deref(), &context, amount, REVENUE_HELP, &mut faults);
        let quality = score.map(|score| Quality { score, source: QualitySource::Metric });
        (Outcome { units, quality, revenue_usd }, faults)
    }
}

fn told<T>(
    key: &'static str,
    rule: Option<&str>,
    context: &Value,
    read: impl Fn(&Value) -> Option<T>,
    form: &str,
    faults: &mut Vec<RuleFault>,
) -> Option<T> {
    let value = match template::evaluate(rule?, context) {
        Ok(Value::Null) => return None,
        Ok(value) => value,
        Err(error) => {
            faults.push(RuleFault { key, why: error.to_string() });
            return None;
        }
    };
    let read = read(&value);
    if read.is_none() {
        let shown: String = value.to_string().chars().take(SHOWN_CHARS_MAX).collect();
        faults.push(RuleFault { key, why: format!("{shown} isn't {form}") });
    }
    read
}

fn units(value: &Value) -> Option<u64> {
    let units = value.as_bool().map(u64::from).or_else(|| value.as_u64());
    units.filter(|units| *units <= UNITS_MAX)
}

fn score(value: &Value) -> Option<Score> {
    match value {
        Value::Bool(is_good) => Some(if *is_good { Score::MAX } else { Score::default() }),
        // By its digits: no float decides.
        Value::Number(number) => Score::parse(&number.to_string()).ok(),
        Value::String(text) => Score::parse(text).ok(),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn amount(value: &Value) -> Option<Money> {
    match value {
        Value::Number(number) => Money::parse(&number.to_string()).ok(),
        Value::String(text) => Money::parse(text).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(units: &str, quality: &str, revenue: &str) -> OutcomeRules {
        let rule = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        OutcomeRules { units: rule(units), quality: rule(quality), revenue: rule(revenue) }
    }

    #[test]
    fn rules_derive_what_the_output_says() {
        let output = json!({"resolved": true, "confidence": 0.93, "orders": 3});
        let of = |rules: OutcomeRules| rules.outcome(&json!({"tier": "gold"}), &output, &json!({"tenant": "acme"}));
        let (outcome, faults) = of(rules("output.resolved", "output.confidence", "'$0.99' if output.resolved else 0"));
        assert_eq!(faults, []);
        assert_eq!((outcome.units, outcome.revenue_usd), (Some(1), Money::parse("0.99").ok()));
        assert_eq!(outcome.quality.map(|quality| quality.score.to_string()).as_deref(), Some("0.93"));
        let (outcome, faults) = of(rules("output.orders", "", "2.5 if input.tier == 'gold' else none"));
        assert_eq!((outcome.units, outcome.revenue_usd, faults.len()), (Some(3), Money::parse("2.5").ok(), 0));
        let (outcome, faults) = of(rules("", "", "none"));
        assert!(outcome.is_empty() && faults.is_empty());
    }

    #[test]
    fn a_rule_that_gives_nothing_usable_leaves_it_unknown() {
        let (outcome, faults) = rules("output.none", "output.much", "output.less").outcome(
            &json!(""),
            &json!({"much": 2, "less": -1}),
            &json!({}),
        );
        assert!(outcome.is_empty());
        assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), ["units", "quality", "revenue"]);
        assert!(faults[1].to_string().contains("2 isn't a number from 0 to 1"), "{}", faults[1]);
    }
}
