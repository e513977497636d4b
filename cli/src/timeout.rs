//! Durations as people write them.

use std::time::Duration;

const UNITS: &[(&str, f64)] = &[("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];

/// The longest: some thirty years, which every clock can add to now.
const SECONDS_MAX: f64 = 1e9;

/// Reads `30`, `1.5`, `500ms`, `90s`, `2m`, `1h`; a number without a unit is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].trim();
    let plain = number.trim_end().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .filter(|_| plain)
        .and_then(|(_, factor)| Some(number.trim_end().parse::<f64>().ok()? * factor));
    match seconds {
        None => Err("write seconds, or a number with ms, s, m or h: 30, 1.5, 500ms, 2m".to_owned()),
        Some(seconds) if seconds > SECONDS_MAX => Err("write at most 1000000000 seconds".to_owned()),
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
    }
}

/// The same, but not zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("write more than zero".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_and_without_units_are_read() {
        let cases = [
            ("30", 30_000),
            ("1.5", 1_500),
            ("500ms", 500),
            ("90s", 90_000),
            ("2m", 120_000),
            (" 1 h ", 3_600_000),
            ("0", 0),
        ];
        for (text, expect) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(expect)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "s", "-1", "1e400", "inf", "nan", "1 day", "2m30s", "1..5", "é"] {
            assert!(parse(text).unwrap_err().starts_with("write seconds"), "{text}");
        }
        assert!(parse("1000000001").unwrap_err().starts_with("write at most"));
        assert!(parse_positive("0s").is_err() && parse_positive("1ms").is_ok());
    }
}
