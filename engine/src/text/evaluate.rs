//! Expressions to values.
//!
//! Everything that is generated is paid for from two budgets before it is made: one of canvases, one of work (about
//! 16 bytes of memory or text each), so that a short text cannot ask for more than the machine has.

use celeriac_primitives::{Json, Limits};

use super::error::{Fault, Result, cut};
use super::lists::ITEM_WORK;
use super::names::Known;
use super::syntax::{Expr, Kind, Operator, Operators};
use super::value::{Value, arithmetic, order};
use super::vocabulary;

/// How much work a text may ask for, per canvas that it may hold.
const WORK_PER_NODE: usize = 32;

#[derive(Debug)]
pub(super) struct Evaluator<'t, 'r> {
    pub(super) names: Known<'r>,
    /// The loop variables, the innermost last.
    pub(super) variables: Vec<(&'t str, Value)>,
    nodes_max: usize,
    nodes_left: usize,
    work_max: usize,
    work_left: usize,
}

impl<'t, 'r> Evaluator<'t, 'r> {
    pub(super) fn new(text: &str, names: Known<'r>, limits: &Limits) -> Self {
        let work_max = limits.nodes_max.saturating_mul(WORK_PER_NODE).saturating_add(text.len());
        Self {
            names,
            variables: Vec::new(),
            nodes_max: limits.nodes_max,
            nodes_left: limits.nodes_max,
            work_max,
            work_left: work_max,
        }
    }

    /// Pays for `count` nodes.
    pub(super) fn spend_nodes(&mut self, at: usize, count: usize) -> Result<()> {
        self.nodes_left = self.nodes_left.checked_sub(count).ok_or_else(|| {
            let message = format!("the canvas has more than {} nodes here", self.nodes_max);
            Fault::new(at, message, "use chunks, or split it into several runs")
        })?;
        Ok(())
    }

    /// Gives one node back: what was read turned out to be part of another.
    pub(super) fn refund_node(&mut self) {
        self.nodes_left += 1;
    }

    /// Pays for work.
    pub(super) fn spend(&mut self, at: usize, work: usize) -> Result<()> {
        self.work_left = self.work_left.checked_sub(work).ok_or_else(|| {
            let message =
                format!("the text makes too many values here: work for more than {}", self.work_max);
            Fault::new(at, message, "generate fewer, or pass a reference to the data instead")
        })?;
        Ok(())
    }

    /// Pays for text that is copied or compared.
    pub(super) fn spend_text(&mut self, at: usize, bytes: usize) -> Result<()> {
        self.spend(at, 1 + bytes / 16)
    }

    // Expressions.

    pub(super) fn value(&mut self, expr: &Expr<'t>) -> Result<Value> {
        self.spend(expr.at, 1)?;
        match &expr.kind {
            Kind::Literal(json) => Ok(Value::Scalar(json.clone())),
            Kind::Word(word) => self.variable(expr.at, word),
            Kind::List(items) => Ok(Value::list(self.values(items)?)),
            Kind::Dict(members) => {
                let members = members.iter().map(|(key, value)| Ok((self.key(key)?, self.value(value)?)));
                Ok(Value::Dict(members.collect::<Result<Vec<_>>>()?.into()))
            }
            Kind::Generator(generator) => {
                let mut items = Vec::new();
                self.generate(generator, 0, &mut |evaluator, element| {
                    evaluator.spend(element.at, ITEM_WORK)?;
                    items.push(evaluator.value(element)?);
                    Ok(())
                })?;
                Ok(Value::list(items))
            }
            Kind::Minus(operand) => {
                let value = self.number(operand, "minus")?;
                Ok(value.clone().negated().unwrap_or(value))
            }
            Kind::Plus(operand) => self.number(operand, "plus"),
            Kind::Not(operand) => Ok(Value::boolean(!self.value(operand)?.is_true())),
            Kind::Operators(operators) => self.operators(operators),
            Kind::Function(call) if !vocabulary::is_canvas_function(call.name) => self.function(call),
            Kind::Path(path) => {
                let help = format!("write \"{}\" in quotes for a text", cut(path, 40));
                Err(Fault::new(expr.at, format!("{} is not a value", cut(path, 80)), help))
            }
            Kind::Methods(methods) if self.is_value(&methods.0) => {
                let (base, calls) = &**methods;
                let what = self.value(base)?.what();
                let at = calls.first().map_or(base.at, |call| call.at);
                Err(Fault::new(at, format!("{what} has no methods"), "write the resulting value itself"))
            }
            Kind::Pipe(_) | Kind::Function(_) | Kind::Task(_) | Kind::Methods(_) => {
                let help = "a result is handed on with |, as in add.s(2, 2) | mul.s(8)";
                Err(Fault::new(expr.at, "a canvas stands where a value is needed", help))
            }
        }
    }

    /// Whether an expression is a value by its form.
    pub(super) fn is_value(&self, expr: &Expr<'t>) -> bool {
        match &expr.kind {
            Kind::Function(call) => !vocabulary::is_canvas_function(call.name),
            Kind::Methods(methods) => self.is_value(&methods.0),
            Kind::Word(word) => self.is_variable(word),
            Kind::Pipe(_) | Kind::Task(_) | Kind::Path(_) => false,
            _ => true,
        }
    }

    pub(super) fn values(&mut self, exprs: &[Expr<'t>]) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.value(expr)).collect()
    }

    pub(super) fn is_variable(&self, word: &str) -> bool {
        self.variables.iter().any(|(name, _)| *name == word)
    }

    fn variable(&self, at: usize, word: &str) -> Result<Value> {
        if let Some((_, value)) = self.variables.iter().rev().find(|(name, _)| *name == word) {
            return Ok(value.clone());
        }
        if matches!(word.to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity") {
            return Err(Fault::new(at, format!("{word} has no JSON form"), "write a number, or null"));
        }
        let word = cut(word, 40);
        let help = format!("write \"{word}\" in quotes for a text; only loop variables stand without");
        Err(Fault::new(at, format!("the name {word} is not known"), help))
    }

    fn key(&mut self, expr: &Expr<'t>) -> Result<Json> {
        match self.value(expr)? {
            Value::Scalar(json) if json.as_str().starts_with('"') => Ok(json),
            Value::Scalar(json) => {
                let help = format!("write \"{}\" in quotes", cut(json.as_str(), 40));
                Err(Fault::new(expr.at, "the keys of a dictionary are texts", help))
            }
            other => Err(Fault::new(
                expr.at,
                format!("{} is no key", other.what()),
                "the keys of a dictionary are texts",
            )),
        }
    }

    fn number(&mut self, operand: &Expr<'t>, sign: &str) -> Result<Value> {
        let value = self.value(operand)?;
        if !value.is_number() {
            let message = format!("{sign} stands before {}", value.what());
            return Err(Fault::new(operand.at, message, "a sign belongs to a number"));
        }
        Ok(value)
    }

    // Operators.

    fn operators(&mut self, operators: &Operators<'t>) -> Result<Value> {
        let Operators { first, rest } = operators;
        let mut left = self.value(first)?;
        match rest[0].1 {
            Operator::Or | Operator::And => {
                for (_, operator, right) in rest {
                    if left.is_true() == (*operator == Operator::Or) {
                        break;
                    }
                    left = self.value(right)?;
                }
                Ok(left)
            }
            operator if operator.precedence() == Operator::Equal.precedence() => {
                // As in Python, `0 < i < 9` is `0 < i and i < 9`.
                for (at, operator, right) in rest {
                    let right = self.value(right)?;
                    if !self.compare(*at, *operator, &left, &right)? {
                        return Ok(Value::boolean(false));
                    }
                    left = right;
                }
                Ok(Value::boolean(true))
            }
            _ => {
                for (at, operator, right) in rest {
                    let right = self.value(right)?;
                    for side in [&left, &right] {
                        if let Value::Scalar(json) = side {
                            self.spend_text(*at, json.as_str().len())?;
                        }
                    }
                    left = arithmetic(*operator, &left, &right)
                        .map_err(|(message, help)| Fault::new(*at, message, help))?;
                }
                Ok(left)
            }
        }
    }

    fn compare(&mut self, at: usize, operator: Operator, left: &Value, right: &Value) -> Result<bool> {
        match operator {
            Operator::Equal => self.equal(at, left, right),
            Operator::NotEqual => self.equal(at, left, right).map(|equal| !equal),
            Operator::In | Operator::NotIn => {
                let Value::List(items) = right else {
                    let message = format!("in looks into a list, not into {}", right.what());
                    return Err(Fault::new(at, message, "write a list, as in i in [1, 2]"));
                };
                let mut found = false;
                for item in items.iter() {
                    found = found || self.equal(at, left, item)?;
                }
                Ok(found == (operator == Operator::In))
            }
            _ => {
                self.spend_scalars(at, left, right)?;
                let order = order(left, right).ok_or_else(|| {
                    let message = format!("{} and {} have no order", left.what(), right.what());
                    Fault::new(at, message, "compare numbers with numbers and texts with texts")
                })?;
                Ok(match operator {
                    Operator::Less => order.is_lt(),
                    Operator::LessEqual => order.is_le(),
                    Operator::Greater => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
        }
    }

    fn equal(&mut self, at: usize, left: &Value, right: &Value) -> Result<bool> {
        self.spend(at, 1)?;
        match (left, right) {
            (Value::Scalar(a), Value::Scalar(b)) => {
                self.spend_scalars(at, left, right)?;
                Ok(order(left, right).map_or(a == b, std::cmp::Ordering::is_eq))
            }
            (Value::List(left), Value::List(right)) if left.len() == right.len() => {
                for (left, right) in left.iter().zip(right.iter()) {
                    if !self.equal(at, left, right)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Dict(left), Value::Dict(right)) if left.len() == right.len() => {
                for ((left_key, left), (right_key, right)) in left.iter().zip(right.iter()) {
                    if left_key != right_key || !self.equal(at, left, right)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn spend_scalars(&mut self, at: usize, left: &Value, right: &Value) -> Result<()> {
        let length = |value: &Value| if let Value::Scalar(json) = value { json.as_str().len() } else { 0 };
        self.spend_text(at, length(left) + length(right))
    }
}
