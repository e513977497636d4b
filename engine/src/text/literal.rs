//! Numbers and texts as written, to JSON.
//!
//! What is JSON already stays as it is, to the letter; Python's other spellings are rewritten.

use celeriac_primitives::Json;

use super::error::{Fault, Result, cut};

/// The JSON form of a number without a sign.
pub(super) fn number(at: usize, raw: &str) -> Result<Json> {
    if let Ok(json) = Json::parse(raw) {
        return Ok(json);
    }
    let digits = without_underscores(raw).ok_or_else(|| {
        Fault::new(
            at,
            format!("{:?} is not a number", cut(raw, 40)),
            "an underscore stands between two digits",
        )
    })?;
    if let Some(radix) = radix(&digits) {
        return i128::from_str_radix(&digits[2..], radix)
            .map(|number| Json::from_compact(number.to_string()))
            .map_err(|_| {
                let message = format!("{:?} is not a number, or too large", cut(raw, 40));
                Fault::new(at, message, "write it with decimal digits")
            });
    }
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(place) => digits.split_at(place),
        None => (digits.as_str(), ""),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let trimmed = whole.trim_start_matches('0');
    let is_whole = fraction.is_none() && exponent.is_empty();
    if is_whole && whole.len() > trimmed.len() && !trimmed.is_empty() {
        let message = "a whole number does not begin with 0";
        return Err(Fault::new(at, message, format!("write {}", cut(trimmed, 40))));
    }
    let or_zero = |digits: &str| if digits.is_empty() { "0".to_owned() } else { digits.to_owned() };
    let mut text = or_zero(trimmed);
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(&or_zero(fraction));
    }
    text.push_str(exponent);
    Json::parse(&text).map_err(|_| Fault::new(at, format!("{:?} is not a number", cut(raw, 40)), ""))
}

/// The number without its underscores; `None` when one of them stands elsewhere than between digits.
fn without_underscores(raw: &str) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = raw.as_bytes();
    let fits = (0..bytes.len())
        .all(|i| bytes[i] != b'_' || i > 0 && digit(bytes.get(i - 1)) && digit(bytes.get(i + 1)));
    fits.then(|| raw.replace('_', ""))
}

fn radix(digits: &str) -> Option<u32> {
    match digits.as_bytes().get(1).map(u8::to_ascii_lowercase) {
        Some(b'x') => Some(16),
        Some(b'o') => Some(8),
        Some(b'b') => Some(2),
        _ => None,
    }
}

/// The JSON form of texts that stand side by side, each with its place: Python reads them as one.
pub(super) fn text(parts: &[(usize, &str)]) -> Result<Json> {
    if let [(_, raw)] = parts
        && let Ok(json) = Json::parse(raw)
    {
        return Ok(json);
    }
    let mut whole = String::new();
    for (at, raw) in parts {
        decode(*at, raw, &mut whole)?;
    }
    Ok(Json::string(&whole))
}

/// Appends what a text in quotes stands for.
fn decode(at: usize, raw: &str, out: &mut String) -> Result<()> {
    let prefix = raw.find(['"', '\'']).unwrap_or_default();
    let quoted = &raw[prefix..];
    let triple = quoted.len() >= 6 && (quoted.starts_with("\"\"\"") || quoted.starts_with("'''"));
    let quote = if triple { 3 } else { 1 };
    let body = &quoted[quote..quoted.len() - quote];
    if raw.starts_with(['r', 'R']) {
        out.push_str(body);
        return Ok(());
    }
    let mut place = 0;
    while let Some(backslash) = body[place..].find('\\') {
        out.push_str(&body[place..place + backslash]);
        place += backslash;
        let (character, length) = escape(at + prefix + quote + place, &body[place..])?;
        out.extend(character);
        place += length;
    }
    out.push_str(&body[place..]);
    Ok(())
}

/// What the escape at the beginning of `text` stands for, and how long it is.
fn escape(at: usize, text: &str) -> Result<(Option<char>, usize)> {
    let letter = text[1..].chars().next().unwrap_or('\\');
    let simple = match letter {
        '\n' => return Ok((None, 2)),
        '\r' => return Ok((None, if text[2..].starts_with('\n') { 3 } else { 2 })),
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '\\' | '\'' | '"' | '/' => letter,
        'x' => return code_point(at, text, 2),
        'U' => return code_point(at, text, 8),
        'u' => return utf16(at, text),
        '0'..='7' => {
            let digits = text[1..].bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            let code = u32::from_str_radix(&text[1..=digits], 8).unwrap_or_default();
            return Ok((char::from_u32(code), 1 + digits));
        }
        other => {
            let message = format!("\\{other} is not an escape");
            return Err(Fault::new(at, message, format!("write \\\\{other} for a backslash and {other:?}")));
        }
    };
    Ok((Some(simple), 2))
}

fn code_point(at: usize, text: &str, digits: usize) -> Result<(Option<char>, usize)> {
    let character = hexadecimal(text, 2, digits).and_then(char::from_u32);
    match character {
        Some(character) => Ok((Some(character), 2 + digits)),
        None => Err(broken(at, text, digits)),
    }
}

/// `\uXXXX`, or two of them that JSON uses for one character above U+FFFF.
fn utf16(at: usize, text: &str) -> Result<(Option<char>, usize)> {
    let first = hexadecimal(text, 2, 4).ok_or_else(|| broken(at, text, 4))?;
    if let Some(character) = char::from_u32(first) {
        return Ok((Some(character), 6));
    }
    let second = if text[6..].starts_with("\\u") { hexadecimal(text, 8, 4) } else { None };
    let pair = second.and_then(|second| {
        char::decode_utf16([first as u16, second as u16]).next().and_then(std::result::Result::ok)
    });
    pair.map(|character| (Some(character), 12)).ok_or_else(|| broken(at, text, 4))
}

fn hexadecimal(text: &str, from: usize, digits: usize) -> Option<u32> {
    let digits = text.get(from..from + digits)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

fn broken(at: usize, text: &str, digits: usize) -> Fault {
    let shown: String = text.chars().take(2 + digits).collect();
    let help = format!("write {digits} hexadecimal digits that name a character");
    Fault::new(at, format!("{shown} is not a character"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_json_stay_to_the_letter() {
        for same in ["0", "12", "1.50", "1e5", "1E+05", "1e400", "1180591620717411303424"] {
            assert_eq!(number(0, same).unwrap().as_str(), same);
        }
    }

    #[test]
    fn other_numbers_of_python_are_rewritten() {
        for (raw, expect) in [
            ("1_000", "1000"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("5.e3", "5.0e3"),
            ("01.5", "1.5"),
            ("00", "0"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("0o17", "15"),
            ("0xff_ff", "65535"),
        ] {
            assert_eq!(number(0, raw).unwrap().as_str(), expect, "{raw}");
        }
        for bad in ["1__0", "1_", "007", "0x", "0xg", "0b2", "0x1_0000_0000_0000_0000_0000_0000_0000_0000"] {
            assert!(number(0, bad).is_err(), "{bad}");
        }
    }

    #[track_caller]
    fn check(raw: &str, expect: &str) {
        assert_eq!(text(&[(0, raw)]).unwrap().as_str(), expect);
    }

    #[test]
    fn texts_that_are_json_stay_to_the_letter() {
        for same in [r#""a""#, r#""\u00e9\/""#, r#""é""#, r#""\ud800""#, r#""\ud83d\ude00""#] {
            check(same, same);
        }
    }

    #[test]
    fn other_texts_of_python_are_rewritten() {
        check("'a\"b'", r#""a\"b""#);
        check(r"'\x41\101\0\u00e9\U0001F600'", "\"AA\\u0000é😀\"");
        check(r"'\ud83d\ude00'", "\"😀\"");
        check("'a\\\nb'", "\"ab\"");
        check("'''a'\n'''", r#""a'\n""#);
        check("''", "\"\"");
        check(r"r'\d\'", r#""\\d\\""#);
        check("\"\t\"", r#""\t""#);
        for bad in
            [r"'\d'", r"'\xg0'", r"'\ud800'", r"'\ud800\u0041'", r"'\U00110000'", r"'\u12'", r"'\N{x}'"]
        {
            assert!(text(&[(0, bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_side_by_side_are_one() {
        assert_eq!(text(&[(0, "'a'"), (3, "\"b\"")]).unwrap().as_str(), "\"ab\"");
    }
}
