//! What is said about a token that does not fit.

use super::error::{Fault, cut};
use super::lexer::Token;
use super::parser::{Open, Parser};

impl Parser<'_, '_> {
    /// Neither a comma nor the closing bracket follows an element.
    pub(super) fn separator(&self, open: Open) -> Fault {
        let Open { at, mark, close } = open;
        match self.token {
            Token::End => {
                Fault::new(at, format!("this {mark} is never closed"), format!("write {close} where it ends"))
            }
            Token::Mark(other @ (")" | "]" | "}")) => {
                let line = self.text[..at].matches('\n').count() + 1;
                let column = self.text[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                let message = format!("{other} does not close the {mark} of line {line}, column {column}");
                self.here(message, format!("write {close} first"))
            }
            _ if self.begins_operand() => {
                self.here("a comma is missing", format!("write a comma before {}", self.shown()))
            }
            _ => self.unexpected(),
        }
    }

    /// The canvas or value is over, the text is not.
    pub(super) fn stray(&self, help: &str) -> Fault {
        match self.token {
            Token::Mark(close @ (")" | "]" | "}")) => {
                self.here(format!("there is no bracket that this {close} closes"), "leave it out")
            }
            Token::Mark(",") => self.here("the text goes on after its end", help),
            _ if self.begins_operand() => self.here("the text goes on after its end", help),
            _ => self.unexpected(),
        }
    }

    fn begins_operand(&self) -> bool {
        match self.token {
            Token::Number(_) | Token::Text(_) | Token::Mark("(" | "[" | "{") => true,
            Token::Word(word) => !matches!(word, "for" | "in" | "if" | "else" | "and" | "or" | "lambda"),
            _ => false,
        }
    }

    fn shown(&self) -> String {
        match self.token {
            Token::Word(text) | Token::Number(text) | Token::Text(text) => cut(text, 20),
            Token::Mark(mark) => mark.to_owned(),
            Token::Other(character) => character.to_string(),
            Token::End => "the end".to_owned(),
        }
    }

    pub(super) fn unexpected(&self) -> Fault {
        let side_by_side = "write a | b for one after the other, group(a, b) for side by side";
        let help = match self.token {
            Token::End => return self.here("the text ends too early", "write a signature or a value here"),
            Token::Mark("&" | "&&") => side_by_side,
            Token::Mark("|") => "write one | between two canvases",
            Token::Mark("=") => "= stands after the name of an argument, as in add.s(2, y=2); == compares",
            Token::Mark("/") => "write // to divide whole numbers",
            Token::Mark("~") => "leave ~ out: the canvas runs when it is submitted",
            Token::Mark("*" | "**") => "write it before an argument of a call only",
            Token::Mark(";") => "a text holds one canvas; join several with | or group(a, b)",
            Token::Mark(".") => "write a task's name before the dot",
            Token::Word("if" | "else") => {
                "if stands after a for clause: (add.s(i) for i in range(9) if i > 2)"
            }
            Token::Word("for") => "put the generator in brackets: [add.s(i) for i in range(9)]",
            Token::Word("lambda") => "functions cannot be written here; name a task",
            Token::Other('“' | '”' | '„' | '‘' | '’' | '«' | '»') => {
                "write plain quotes: \"text\""
            }
            Token::Other('@') => "write a task's name and .s(…)",
            _ => "",
        };
        if help.is_empty() && !matches!(self.token, Token::Other(_)) {
            return self
                .here(format!("{} cannot stand here", self.shown()), "write a signature or a value here");
        }
        self.here(format!("{} cannot stand here", self.shown()), help)
    }
}
