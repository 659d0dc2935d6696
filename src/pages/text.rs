//! Small pieces of pages: links, times, shares.

use reqwest::Url;
use serde_json::Value;

use crate::units::Timestamp;

/// A path with a query.
pub(super) fn link(path: &str, pairs: &[(&str, &str)]) -> String {
    // No path or value makes this address unreadable; if one did, the path alone is still right.
    let Ok(mut url) = Url::parse("http://plimsoll/") else { return path.to_owned() };
    url.query_pairs_mut().extend_pairs(pairs);
    match url.query() {
        Some(query) if !pairs.is_empty() => format!("{path}?{query}"),
        Some(_) | None => path.to_owned(),
    }
}

/// `2026-11-23 09:00:00`, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    short_moment(&at.to_string())
}

/// The same without seconds; of a day's first moment the day alone.
pub(super) fn minute(at: Timestamp) -> String {
    let moment = moment(at);
    let minute = moment.get(.."2026-11-23 09:00".len()).unwrap_or(&moment);
    minute.strip_suffix(" 00:00").unwrap_or(minute).to_owned()
}

/// The moment of a time as it is written in JSON.
pub(super) fn short_moment(text: &str) -> String {
    text.chars().take("2026-11-23T09:00:00".len()).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// What a form's field asks for: a day, as it gives one, is the day's first moment.
pub(super) fn first_moment(name: &str, value: &str) -> String {
    let is_day = matches!(name, "since" | "until") && value.len() == "2026-11-23".len();
    if is_day { format!("{value}T00:00:00Z") } else { value.to_owned() }
}

/// JSON over several lines, and a text as it is.
pub(super) fn whole(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            serde_json::to_string_pretty(value).unwrap_or_default()
        }
    }
}

/// `tenant=acme`, one for each label.
pub(super) fn labels(labels: &crate::domain::event::Labels) -> Vec<String> {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_what_they_carry() {
        assert_eq!(link("/runs", &[]), "/runs");
        assert_eq!(link("/login", &[("to", "/runs?a=b&c")]), "/login?to=%2Fruns%3Fa%3Db%26c");
        assert_eq!(moment(Timestamp(1_795_392_000_123)), "2026-11-23 00:00:00");
        assert_eq!(minute(Timestamp(1_795_392_000_123)), "2026-11-23");
        assert_eq!(minute(Timestamp(1_795_392_060_123)), "2026-11-23 00:01");
    }
}
