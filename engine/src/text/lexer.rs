//! Text to tokens.
//!
//! The lexer is a position in the text and cheap to copy; looking ahead is reading on with a copy.

use super::error::{Fault, Result};

/// One token; the text of literals is still as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'t> {
    /// A name or keyword.
    Word(&'t str),
    /// A number without a sign.
    Number(&'t str),
    /// A text in quotes, with its prefix and quotes.
    Text(&'t str),
    /// A bracket, comma or operator.
    Mark(&'static str),
    /// Any other character.
    Other(char),
    /// Nothing follows.
    End,
}

/// The operators and brackets, longer ones first.
const MARKS: &[&str] = &[
    "**", "//", "==", "!=", "<=", ">=", "&&", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", "=", "<",
    ">", "+", "-", "*", "/", "%", "~", "&", ";",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    /// Where the last token began.
    pub(super) at: usize,
    /// Where the last token ended.
    pub(super) end: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // Some editors put a byte order mark before the text of a file.
        Self { text, at: 0, end: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 } }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'t>> {
        self.skip_space();
        self.at = self.end;
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        let token = if first.is_alphabetic() || first == '_' {
            let word = rest.split(|c: char| !is_word(c)).next().unwrap_or_default();
            if rest[word.len()..].starts_with(['"', '\'']) {
                return self.prefixed_text(word);
            }
            Token::Word(word)
        } else if first.is_ascii_digit()
            || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            Token::Number(self.number()?)
        } else if matches!(first, '"' | '\'') {
            Token::Text(self.text_literal(0)?)
        } else if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            Token::Mark(mark)
        } else {
            Token::Other(first)
        };
        self.end = self.at
            + match token {
                Token::Word(text) | Token::Number(text) | Token::Text(text) => text.len(),
                Token::Mark(mark) => mark.len(),
                Token::Other(character) => character.len_utf8(),
                Token::End => 0,
            };
        Ok(token)
    }

    /// Skips white space, comments, and a backslash at the end of a line.
    fn skip_space(&mut self) {
        loop {
            let rest = self.text[self.end..].trim_start();
            self.end = self.text.len() - rest.len();
            if rest.starts_with('#') {
                self.end += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") {
                self.end += 1;
            } else {
                return;
            }
        }
    }

    fn prefixed_text(&mut self, prefix: &'t str) -> Result<Token<'t>> {
        if !matches!(prefix, "r" | "R" | "u" | "U") {
            let message = format!("a quote stands directly after {}", super::error::cut(prefix, 40));
            let help = "write \\' or \\\" for a quote inside a text, and nothing before a text";
            return Err(Fault::new(self.at, message, help));
        }
        let text = self.text_literal(prefix.len())?;
        self.end = self.at + text.len();
        Ok(Token::Text(text))
    }

    /// A text in quotes; a backslash always keeps the next character from ending it.
    fn text_literal(&self, prefix: usize) -> Result<&'t str> {
        let rest = &self.text[self.at..];
        let body = &rest[prefix..];
        let quote =
            if body.starts_with("\"\"\"") || body.starts_with("'''") { &body[..3] } else { &body[..1] };
        let unclosed = || {
            let message = format!("this {quote} is never closed");
            Err(Fault::new(self.at + prefix, message, format!("write {quote} after the text")))
        };
        let mut place = prefix + quote.len();
        loop {
            let Some(character) = rest[place..].chars().next() else { return unclosed() };
            match character {
                _ if rest[place..].starts_with(quote) => return Ok(&rest[..place + quote.len()]),
                '\n' if quote.len() == 1 => return unclosed(),
                '\\' => place += 1 + rest[place + 1..].chars().next().map_or(0, char::len_utf8),
                other => place += other.len_utf8(),
            }
        }
    }

    fn number(&self) -> Result<&'t str> {
        let rest = &self.text[self.at..];
        let digits = |from: usize| {
            from + rest[from..].bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count()
        };
        let mut end = digits(0);
        if rest[end..].starts_with("..") {
            let help = "write range(stop) or range(start, stop)";
            return Err(Fault::new(self.at + end, "a range is not written with dots", help));
        }
        let radix = rest.as_bytes().get(1).is_some_and(|b| matches!(b | 0x20, b'x' | b'o' | b'b'));
        if rest.starts_with('0') && radix {
            end = 2 + rest[2..].bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        } else {
            if rest[end..].starts_with('.') {
                end = digits(end + 1);
            }
            if rest[end..].starts_with(['e', 'E']) {
                let signed = end + 1 + usize::from(rest[end + 1..].starts_with(['+', '-']));
                if digits(signed) > signed {
                    end = digits(signed);
                }
            }
        }
        if rest[end..].starts_with(is_word) {
            let word = rest.split(|c: char| !is_word(c) && c != '.').next().unwrap_or_default();
            let message = format!("{:?} is neither a number nor a name", super::error::cut(word, 40));
            return Err(Fault::new(self.at, message, "put texts in quotes; names begin with a letter"));
        }
        Ok(&rest[..end])
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[Token<'_>]) {
        let mut lexer = Lexer::new(text);
        let tokens = std::iter::from_fn(|| Some(lexer.next().unwrap()).filter(|token| *token != Token::End));
        assert_eq!(tokens.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn space_comments_and_continued_lines_are_nothing() {
        check("\u{feff} a # x ) \n\\\n b", &[Token::Word("a"), Token::Word("b")]);
        check("# all", &[]);
    }

    #[test]
    fn numbers_end_where_they_end() {
        check("1.5e-3,", &[Token::Number("1.5e-3"), Token::Mark(",")]);
        check("1_000 .5 5.", &[Token::Number("1_000"), Token::Number(".5"), Token::Number("5.")]);
        check("0xfF-2", &[Token::Number("0xfF"), Token::Mark("-"), Token::Number("2")]);
        assert!(Lexer::new("4x").next().is_err());
        assert!(Lexer::new("0..4").next().is_err());
    }

    #[test]
    fn quotes_inside_texts_do_not_end_them() {
        check(r#"'a"\'b' "c'""#, &[Token::Text(r#"'a"\'b'"#), Token::Text("\"c'\"")]);
        check("'''a'\n'b'''", &[Token::Text("'''a'\n'b'''")]);
        check("r'\\d'", &[Token::Text("r'\\d'")]);
        for bad in ["'a", "'a\nb'", "'''a''", "'a\\", "b'x'", "'\\'"] {
            assert!(Lexer::new(bad).next().is_err(), "{bad:?}");
        }
    }
}
