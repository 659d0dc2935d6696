//! `now`: the date, the time and the day of the week.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::text;
use crate::units::Timestamp;

/// The longest name of a time zone.
const NAME_BYTES_MAX: usize = 100;

/// RFC 3339 to the second, and the weekday: `2026-11-23T21:12:08+01:00 (Monday, Europe/Berlin)`.
pub(super) fn answer(arguments: &Value, now: Timestamp) -> Result<String, String> {
    let name = if arguments["time_zone"].is_null() { "UTC" } else { text(arguments, "time_zone")? };
    let zone = zone(name).ok_or_else(|| {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        format!("`{shown}` is no time zone; name one of IANA's, such as `Europe/Berlin` or `UTC`")
    })?;
    let instant = i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let instant = instant.ok_or("the clock is out of range")?.to_zoned(zone);
    Ok(format!("{} ({}, {name})", instant.strftime("%Y-%m-%dT%H:%M:%S%:z"), instant.strftime("%A")))
}

/// Names become paths somewhere below, so only those that look like IANA's get there.
fn zone(name: &str) -> Option<TimeZone> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'+' | b'-');
    let named = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain) && !name.starts_with('/');
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok().filter(|_| named) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MONDAY: Timestamp = Timestamp(1_795_468_328_000);

    #[test]
    fn it_tells_time_and_weekday_in_a_zone() {
        assert_eq!(answer(&json!({}), MONDAY).as_deref(), Ok("2026-11-23T21:12:08+00:00 (Monday, UTC)"));
        let berlin = answer(&json!({"time_zone": "Europe/Berlin"}), MONDAY);
        assert_eq!(berlin.as_deref(), Ok("2026-11-23T22:12:08+01:00 (Monday, Europe/Berlin)"));
        let tokyo = answer(&json!({"time_zone": "Asia/Tokyo"}), MONDAY).expect("a zone");
        assert!(tokyo.contains("2026-11-24T06:12:08+09:00 (Tuesday"), "{tokyo}");
    }

    #[test]
    fn a_zone_that_is_none_is_named() {
        for name in ["Mars/Base", "", "../../etc/passwd", "/etc/localtime", "Europe/Berlin\0"] {
            assert!(answer(&json!({ "time_zone": name }), MONDAY).is_err(), "{name}");
        }
        assert!(answer(&json!({"time_zone": 7}), MONDAY).is_err());
    }
}
