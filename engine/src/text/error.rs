//! Errors with their place in the text.

use std::fmt;

/// A text that is no canvas, no value or no argument list.
///
/// `Display` prints the message, the line of the text, and under the place a caret with what to write instead:
///
/// ```text
/// line 1, column 1: a task is not called directly
///   add(2, 2)
///   ^ write add.s(2, 2)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextError {
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty when there is nothing to say.
    pub help: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The place in the line, counted in characters from 1.
    pub column: usize,
    excerpt: String,
    caret: usize,
}

/// How many characters of a long line are shown before and after the place.
const SHOWN: usize = 48;

impl TextError {
    pub(super) fn new(text: &str, fault: Fault) -> Self {
        let Fault(fault) = fault;
        let before = &text[..fault.at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[line_start..].split('\n').next().unwrap_or_default();
        let column = before[line_start..].chars().count();

        // Very long lines are shown around the place, and nothing that a terminal would obey is shown at all.
        let is_long = line_text.chars().nth(2 * SHOWN).is_some();
        let skipped = if is_long { column.saturating_sub(SHOWN) } else { 0 };
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let shown = if is_long { column - skipped + SHOWN } else { 2 * SHOWN };
        let mut excerpt: String = line_text.chars().skip(skipped).take(shown).map(printable).collect();
        excerpt.truncate(excerpt.trim_end().len());
        if line_text.chars().nth(skipped + shown).is_some() {
            excerpt.push('…');
        }
        let mut caret = column - skipped;
        if skipped > 0 {
            excerpt.insert(0, '…');
            caret += 1;
        }
        Self {
            message: fault.message.replace(char::is_control, " "),
            help: fault.help.replace(char::is_control, " "),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            excerpt,
            caret,
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        writeln!(f, "{}{}", if self.excerpt.is_empty() { "" } else { "  " }, self.excerpt)?;
        write!(f, "  {:caret$}^", "", caret = self.caret)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, " {}", self.help) }
    }
}

impl std::error::Error for TextError {}

/// An error whose place is still a byte offset; one word, so that results stay small.
#[derive(Debug)]
pub(super) struct Fault(Box<Problem>);

#[derive(Debug)]
struct Problem {
    at: usize,
    message: String,
    help: String,
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(super) fn new(at: usize, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(Problem { at, message: message.into(), help: help.into() }))
    }
}

/// At most `max` characters of a text, for messages.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.chars().nth(max).is_none() {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, at: usize, expect: &str) {
        assert_eq!(TextError::new(text, Fault::new(at, "bad", "write x")).to_string(), expect);
    }

    #[test]
    fn the_caret_stands_under_the_character_and_nothing_breaks_the_lines() {
        check("äöü x", 7, "line 1, column 5: bad\n  äöü x\n      ^ write x");
        check("a\n\tb\r\nc", 3, "line 2, column 2: bad\n   b\n   ^ write x");
        check("a\n", 2, "line 2, column 1: bad\n\n  ^ write x");
        let fault = Fault::new(0, "bad\n\x1b[31m", "write\tx");
        assert_eq!(TextError::new("a", fault).to_string(), "line 1, column 1: bad  [31m\n  a\n  ^ write x");
        check("", 0, "line 1, column 1: bad\n\n  ^ write x");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}!{}", "a".repeat(1000), "b".repeat(1000));
        let error = TextError::new(&text, Fault::new(1000, "bad", ""));
        let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[1], format!("  …{}!{}…", "a".repeat(48), "b".repeat(47)));
        assert_eq!(lines[2], format!("  {}^", " ".repeat(49)));
        assert_eq!(error.column, 1001);
    }
}
