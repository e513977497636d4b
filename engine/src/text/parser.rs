//! Tokens to expressions.
//!
//! Operators are read by precedence climbing. What a name means is the evaluator's business, except that task names
//! are resolved here, so that a wrong one is found even where nothing would be generated.

use std::collections::BTreeSet;

use celeriac_primitives::Json;

use super::error::{Fault, Result, cut};
use super::lexer::{Lexer, Token};
use super::literal;
use super::names::Known;
use super::syntax::{
    Argument, ArgumentKind, Call, Clause, Expr, Generator, Kind, Operator, Operators, TaskCall,
};
use super::vocabulary;

/// How deep expressions may be nested: twice what a canvas at its depth limit needs, and little enough for the stack
/// of a test thread.
const DEPTH_MAX: usize = 256;

/// How many `for` and `if` clauses a generator may have.
const CLAUSES_MAX: usize = 16;

/// The precedence of what stands after `not`, and after a sign.
const AFTER_NOT: u8 = 4;
const AFTER_SIGN: u8 = 8;

#[derive(Debug)]
pub(super) struct Parser<'t, 'r> {
    pub(super) text: &'t str,
    lexer: Lexer<'t>,
    /// The token to be read next; its place is the lexer's.
    pub(super) token: Token<'t>,
    pub(super) names: Known<'r>,
    depth: usize,
}

/// A bracket that waits for its counterpart.
#[derive(Clone, Copy)]
pub(super) struct Open {
    pub(super) at: usize,
    pub(super) mark: &'static str,
    pub(super) close: &'static str,
}

impl<'t, 'r> Parser<'t, 'r> {
    pub(super) fn new(text: &'t str, names: Known<'r>) -> Result<Self> {
        let mut parser = Self { text, lexer: Lexer::new(text), token: Token::End, names, depth: 0 };
        parser.advance()?;
        Ok(parser)
    }

    /// The whole text as one canvas.
    pub(super) fn whole_canvas(&mut self) -> Result<Expr<'t>> {
        if self.token == Token::End {
            return Err(self.here("the text is empty", "write a signature, such as add.s(2, 2)"));
        }
        let expr = self.expr(0)?;
        match self.token {
            Token::End => Ok(expr),
            Token::Word("for") => {
                Err(self.here("a generator alone is no canvas", "put it in group(…), chain(…) or chord(…)"))
            }
            Token::Mark(",") => Err(self.stray("for several canvases, write group(a, b) or a | b")),
            _ => Err(self.stray("to run one canvas after the other, join them with |")),
        }
    }

    /// The whole text as one value.
    pub(super) fn whole_value(&mut self) -> Result<Expr<'t>> {
        if self.token == Token::End {
            return Err(self.here("the text is empty", "write a value, such as 4 or \"text\""));
        }
        let expr = self.expr(0)?;
        match self.token {
            Token::End => Ok(expr),
            _ => Err(self.stray("for several values, write a list: [1, 2]")),
        }
    }

    /// The whole text as the inside of a call's parentheses.
    pub(super) fn whole_arguments(&mut self) -> Result<Vec<Argument<'t>>> {
        let mut arguments = Vec::new();
        let mut keywords = BTreeSet::new();
        while self.token != Token::End {
            arguments.push(self.argument(&mut keywords)?);
            if !self.take(",")? && self.token != Token::End {
                return Err(self.stray("write a comma between arguments"));
            }
        }
        Ok(arguments)
    }

    // Tokens.

    fn at(&self) -> usize {
        self.lexer.at
    }

    pub(super) fn here(&self, message: impl Into<String>, help: impl Into<String>) -> Fault {
        Fault::new(self.at(), message, help)
    }

    fn advance(&mut self) -> Result<Token<'t>> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// The token after the next one; `End` when there is none that can be read.
    fn second(&self) -> Token<'t> {
        let mut lexer = self.lexer;
        lexer.next().unwrap_or(Token::End)
    }

    fn take(&mut self, mark: &'static str) -> Result<bool> {
        let found = self.token == Token::Mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn take_word(&mut self, word: &'static str) -> Result<bool> {
        let found = self.token == Token::Word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn open(&mut self, mark: &'static str, close: &'static str) -> Result<Open> {
        let open = Open { at: self.at(), mark, close };
        self.advance()?;
        Ok(open)
    }

    // Operators.

    /// An expression of operators that bind at least as tightly as `min`.
    fn expr(&mut self, min: u8) -> Result<Expr<'t>> {
        if self.depth == DEPTH_MAX {
            let message = format!("the text is nested more than {DEPTH_MAX} deep");
            return Err(self.here(message, "flatten it, or submit the inner part as a run of its own"));
        }
        self.depth += 1;
        let mut left = self.operand()?;
        // The precedence of the list of operators that `left` is, so that the next one joins it.
        let mut list = None;
        while let Some(operator) = self.operator().filter(|operator| operator.precedence() >= min) {
            let at = self.at();
            self.advance()?;
            if operator == Operator::NotIn {
                self.advance()?;
            }
            let precedence = operator.precedence();
            // `2 ** 3 ** 2` is `2 ** (3 ** 2)`, and a sign may follow.
            let right = self.expr(if operator == Operator::Power { AFTER_SIGN } else { precedence + 1 })?;
            left = join(left, list == Some(precedence), at, operator, right);
            list = Some(precedence);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        Some(match self.token {
            Token::Word("or") => Operator::Or,
            Token::Word("and") => Operator::And,
            Token::Word("in") => Operator::In,
            Token::Word("not") if self.second() == Token::Word("in") => Operator::NotIn,
            Token::Mark("==") => Operator::Equal,
            Token::Mark("!=") => Operator::NotEqual,
            Token::Mark("<") => Operator::Less,
            Token::Mark("<=") => Operator::LessEqual,
            Token::Mark(">") => Operator::Greater,
            Token::Mark(">=") => Operator::GreaterEqual,
            Token::Mark("|") => Operator::Pipe,
            Token::Mark("+") => Operator::Add,
            Token::Mark("-") => Operator::Subtract,
            Token::Mark("*") => Operator::Multiply,
            Token::Mark("//") => Operator::Divide,
            Token::Mark("%") => Operator::Remainder,
            Token::Mark("**") => Operator::Power,
            _ => return None,
        })
    }

    fn operand(&mut self) -> Result<Expr<'t>> {
        let at = self.at();
        let kind = match self.token {
            Token::Word("not") if self.second() != Token::Mark(".") => {
                self.advance()?;
                Kind::Not(Box::new(self.expr(AFTER_NOT)?))
            }
            Token::Mark(sign @ ("-" | "+")) => {
                self.advance()?;
                let operand = Box::new(self.expr(AFTER_SIGN)?);
                if sign == "-" { Kind::Minus(operand) } else { Kind::Plus(operand) }
            }
            _ => {
                let atom = self.atom()?;
                return self.methods(atom);
            }
        };
        Ok(Expr { at, kind })
    }

    // Atoms.

    fn atom(&mut self) -> Result<Expr<'t>> {
        let at = self.at();
        let kind = match self.token {
            Token::Number(raw) => {
                self.advance()?;
                Kind::Literal(literal::number(at, raw)?)
            }
            Token::Text(_) => self.text_literal()?,
            Token::Mark("(") => return self.parenthesised(),
            Token::Mark("[") => self.list()?,
            Token::Mark("{") => self.dictionary()?,
            Token::Word("True" | "true") => self.constant("true")?,
            Token::Word("False" | "false") => self.constant("false")?,
            Token::Word("None" | "null") => self.constant("null")?,
            Token::Word("for" | "in" | "if" | "else") => return Err(self.unexpected()),
            // These may also begin the name of a task.
            Token::Word("and" | "or" | "lambda") if self.second() != Token::Mark(".") => {
                return Err(self.unexpected());
            }
            Token::Word(word) => self.name(word)?,
            _ => return Err(self.unexpected()),
        };
        Ok(Expr { at, kind })
    }

    fn constant(&mut self, json: &'static str) -> Result<Kind<'t>> {
        self.advance()?;
        Ok(Kind::Literal(Json::from_compact(json)))
    }

    fn text_literal(&mut self) -> Result<Kind<'t>> {
        let mut parts = Vec::with_capacity(1);
        while let Token::Text(raw) = self.token {
            parts.push((self.at(), raw));
            self.advance()?;
        }
        Ok(Kind::Literal(literal::text(&parts)?))
    }

    /// `(expr)`, a tuple, or a generator.
    fn parenthesised(&mut self) -> Result<Expr<'t>> {
        let at = self.at();
        let open = self.open("(", ")")?;
        if self.take(")")? {
            return Ok(Expr { at, kind: Kind::List(Vec::new()) });
        }
        let first = self.element()?;
        if self.take(")")? {
            return Ok(first);
        }
        Ok(Expr { at, kind: Kind::List(self.rest_of_list(open, first)?) })
    }

    fn list(&mut self) -> Result<Kind<'t>> {
        let open = self.open("[", "]")?;
        if self.take("]")? {
            return Ok(Kind::List(Vec::new()));
        }
        let first = self.expr(0)?;
        if self.token == Token::Word("for") {
            let list = self.generator(first)?;
            return if self.take("]")? { Ok(list.kind) } else { Err(self.separator(open)) };
        }
        Ok(Kind::List(self.rest_of_list(open, first)?))
    }

    /// The elements after the first one, and the closing bracket.
    fn rest_of_list(&mut self, open: Open, first: Expr<'t>) -> Result<Vec<Expr<'t>>> {
        let mut elements = vec![first];
        while !self.take(open.close)? {
            if !self.take(",")? {
                return Err(self.separator(open));
            }
            if self.take(open.close)? {
                break;
            }
            elements.push(self.expr(0)?);
        }
        Ok(elements)
    }

    fn dictionary(&mut self) -> Result<Kind<'t>> {
        let open = self.open("{", "}")?;
        let mut members = Vec::new();
        while !self.take("}")? {
            let key = self.expr(0)?;
            if !self.take(":")? {
                return Err(match self.token {
                    Token::Mark("," | "}") => Fault::new(
                        open.at,
                        "a set has no JSON form",
                        "write a list in [ ], or name: value in a dictionary",
                    ),
                    Token::End => self.separator(open),
                    _ => self.here("a colon is missing after the key", "write \"key\": value"),
                });
            }
            members.push((key, self.expr(0)?));
            if self.token == Token::Word("for") {
                let help = "write its members, or a list of pairs";
                return Err(self.here("generated dictionaries are not supported", help));
            }
            if !self.take(",")? && self.token != Token::Mark("}") {
                return Err(self.separator(open));
            }
        }
        Ok(Kind::Dict(members))
    }

    /// An expression that `for` may follow.
    fn element(&mut self) -> Result<Expr<'t>> {
        let element = self.expr(0)?;
        if self.token == Token::Word("for") { self.generator(element) } else { Ok(element) }
    }

    /// The clauses after the element of a generator.
    fn generator(&mut self, element: Expr<'t>) -> Result<Expr<'t>> {
        let at = element.at;
        let mut clauses = Vec::new();
        loop {
            if matches!(self.token, Token::Word("for" | "if")) && clauses.len() == CLAUSES_MAX {
                let message = format!("a generator has at most {CLAUSES_MAX} for and if clauses");
                return Err(self.here(message, ""));
            }
            if self.take_word("for")? {
                clauses.push(self.for_clause()?);
            } else if self.take_word("if")? {
                clauses.push(Clause::If(self.expr(0)?));
            } else {
                return Ok(Expr { at, kind: Kind::Generator(Box::new(Generator { element, clauses })) });
            }
        }
    }

    fn for_clause(&mut self) -> Result<Clause<'t>> {
        let at = self.at();
        let open = if self.token == Token::Mark("(") { Some(self.open("(", ")")?) } else { None };
        let mut targets = Vec::new();
        let mut unpack = false;
        while let Token::Word(word) = self.token {
            if matches!(word, "in" | "for" | "if") {
                break;
            }
            self.advance()?;
            targets.push(word);
            if !self.take(",")? {
                break;
            }
            unpack = true;
        }
        if let Some(open) = open
            && !self.take(open.close)?
        {
            return Err(self.separator(open));
        }
        if targets.is_empty() || !self.take_word("in")? {
            return Err(self.here("a for clause is incomplete", "write for name in list"));
        }
        Ok(Clause::For { at, targets, unpack, items: self.expr(0)? })
    }

    // Names and calls.

    /// A word, words with dots, or such a name called.
    fn name(&mut self, first: &'t str) -> Result<Kind<'t>> {
        let mut at = self.at();
        let start = at;
        let mut words = vec![first];
        self.advance()?;
        while self.token == Token::Mark(".") {
            self.advance()?;
            let Token::Word(word) = self.token else {
                return Err(self.here("a name is missing after the dot", "write a method, such as .s(2, 2)"));
            };
            at = self.at();
            words.push(word);
            self.advance()?;
        }
        if self.token != Token::Mark("(") {
            return Ok(if words.len() == 1 { Kind::Word(first) } else { Kind::Path(words.join(".")) });
        }
        let name = words.pop().unwrap_or(first);
        let call = self.call(name, at)?;
        if words.is_empty() {
            if !vocabulary::is_function(name) {
                return Err(vocabulary::unknown_function(at, name, call.written, &self.names));
            }
            return Ok(Kind::Function(Box::new(call)));
        }
        let path = words.join(".");
        if !vocabulary::is_task_method(name) {
            return Err(vocabulary::unknown_task_method(at, &path, name, call.written));
        }
        let task = self.names.resolve(start, &path)?;
        Ok(Kind::Task(Box::new(TaskCall { task, path, call })))
    }

    /// The methods after an expression, and the second call of `chord(header)(body)`.
    fn methods(&mut self, base: Expr<'t>) -> Result<Expr<'t>> {
        let mut calls = Vec::new();
        let plain = matches!(base.kind, Kind::Literal(_) | Kind::Word(_) | Kind::List(_) | Kind::Dict(_));
        loop {
            match self.token {
                Token::Mark("(") if !plain => calls.push(self.call("", self.at())?),
                Token::Mark(".") => {
                    self.advance()?;
                    let at = self.at();
                    let Token::Word(name) = self.token else {
                        return Err(
                            self.here("a name is missing after the dot", "write a method, such as .set(…)")
                        );
                    };
                    self.advance()?;
                    if self.token != Token::Mark("(") {
                        let name = cut(name, 40);
                        let help = format!("write .{name}(…)");
                        return Err(Fault::new(at, format!("the method .{name} is not called"), help));
                    }
                    calls.push(self.call(name, at)?);
                }
                _ if calls.is_empty() => return Ok(base),
                _ => return Ok(Expr { at: base.at, kind: Kind::Methods(Box::new((base, calls))) }),
            }
        }
    }

    /// The arguments of a call, from its opening parenthesis on.
    fn call(&mut self, name: &'t str, at: usize) -> Result<Call<'t>> {
        let open = self.open("(", ")")?;
        let mut arguments = Vec::new();
        let mut keywords = BTreeSet::new();
        loop {
            let end = self.at();
            if self.take(")")? {
                let written = self.text[open.at + 1..end].trim();
                return Ok(Call { name, at, arguments, written });
            }
            arguments.push(self.argument(&mut keywords)?);
            if !self.take(",")? && self.token != Token::Mark(")") {
                return Err(self.separator(open));
            }
        }
    }

    /// One argument; `keywords` are the names seen before it, with an empty one for `**`.
    fn argument(&mut self, keywords: &mut BTreeSet<&'t str>) -> Result<Argument<'t>> {
        let at = self.at();
        let kind = match self.token {
            Token::Mark("*") => ArgumentKind::Star,
            Token::Mark("**") => ArgumentKind::DoubleStar,
            Token::Word(name) if self.second() == Token::Mark("=") => ArgumentKind::Keyword(name),
            _ => ArgumentKind::Positional,
        };
        match kind {
            ArgumentKind::Positional | ArgumentKind::Star if !keywords.is_empty() => {
                let help = "write the arguments without a name first";
                return Err(self.here("an argument without a name follows one with a name", help));
            }
            ArgumentKind::Keyword(name) if !keywords.insert(name) => {
                let message = format!("the argument {} stands twice", cut(name, 40));
                return Err(self.here(message, "leave one of them out"));
            }
            ArgumentKind::DoubleStar => {
                keywords.insert("");
            }
            _ => {}
        }
        match kind {
            ArgumentKind::Keyword(_) => {
                self.advance()?;
                self.advance()?;
            }
            ArgumentKind::Star | ArgumentKind::DoubleStar => {
                self.advance()?;
            }
            ArgumentKind::Positional => {}
        }
        Ok(Argument { at, kind, value: self.element()? })
    }
}

/// Puts an operator between two sides, or at the end of the list of operators that the left side is.
fn join<'t>(left: Expr<'t>, is_list: bool, at: usize, operator: Operator, right: Expr<'t>) -> Expr<'t> {
    let start = left.at;
    let kind = match (operator, left.kind) {
        (Operator::Pipe, Kind::Pipe(mut parts)) if is_list => {
            parts.push(right);
            Kind::Pipe(parts)
        }
        (Operator::Pipe, kind) => Kind::Pipe(vec![Expr { at: start, kind }, right]),
        (_, Kind::Operators(mut operators)) if is_list => {
            operators.rest.push((at, operator, right));
            Kind::Operators(operators)
        }
        (_, kind) => {
            let first = Expr { at: start, kind };
            Kind::Operators(Box::new(Operators { first, rest: vec![(at, operator, right)] }))
        }
    };
    Expr { at: start, kind }
}
