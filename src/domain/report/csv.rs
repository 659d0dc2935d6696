//! Fields of CSV.

/// Writes a field as RFC 4180 has it. A text that a spreadsheet would take for a formula, which people or a provider may have
/// written, has an apostrophe before it.
pub fn push_field(value: &str, out: &mut String) {
    let guard = if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !value.contains(['"', ',', '\n', '\r']) {
        out.push_str(value);
        return;
    }
    out.push('"');
    out.push_str(guard);
    out.push_str(&value.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_field_and_no_formula() {
        for (value, written) in [
            ("", ""),
            ("support", "support"),
            ("a,b", r#""a,b""#),
            ("say \"no\"", r#""say ""no""""#),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(1)", r#""'=HYPERLINK(1)""#),
            ("@sum", r#""'@sum""#),
        ] {
            let mut out = String::new();
            push_field(value, &mut out);
            assert_eq!(out, written, "{value}");
        }
    }
}
