//! Generators, and the functions that make lists.

use std::rc::Rc;

use super::error::{Fault, Result, cut};
use super::evaluate::Evaluator;
use super::syntax::{Argument, ArgumentKind, Call, Clause, Expr, Generator};
use super::value::Value;

/// What an item of a generated list costs.
pub(super) const ITEM_WORK: usize = 4;

impl<'t> Evaluator<'t, '_> {
    /// Calls `each` with the element for every combination of items that the clauses from `clause` on let through.
    pub(super) fn generate(
        &mut self,
        generator: &Generator<'t>,
        clause: usize,
        each: &mut dyn FnMut(&mut Self, &Expr<'t>) -> Result<()>,
    ) -> Result<()> {
        match generator.clauses.get(clause) {
            None => each(self, &generator.element),
            Some(Clause::If(condition)) => {
                if self.value(condition)?.is_true() {
                    self.generate(generator, clause + 1, each)?;
                }
                Ok(())
            }
            Some(Clause::For { at, targets, unpack, items: from }) => {
                let outside = self.variables.len();
                for item in self.items(from, "for goes over")?.iter() {
                    self.spend(*at, 1)?;
                    self.assign(*at, targets, *unpack, item)?;
                    self.generate(generator, clause + 1, each)?;
                    self.variables.truncate(outside);
                }
                Ok(())
            }
        }
    }

    /// Gives an item, or its parts, to the variables of a `for`.
    fn assign(&mut self, at: usize, targets: &[&'t str], unpack: bool, item: &Value) -> Result<()> {
        if !unpack {
            self.variables.push((targets[0], item.clone()));
            return Ok(());
        }
        match item {
            Value::List(parts) if parts.len() == targets.len() => {
                self.variables.extend(targets.iter().copied().zip(parts.iter().cloned()));
                Ok(())
            }
            other => {
                let names = targets.len();
                let message = match other {
                    Value::List(parts) => format!("a list of {} does not fit {names} names", parts.len()),
                    other => format!("{} does not fit {names} names", other.what()),
                };
                Err(Fault::new(at, message, "every item must be a list with one part for each name"))
            }
        }
    }

    /// The items of an expression that must be a list.
    pub(super) fn items(&mut self, expr: &Expr<'t>, who: &str) -> Result<Rc<Vec<Value>>> {
        match self.value(expr)? {
            Value::List(items) => Ok(items),
            other => {
                let message = format!("{who} a list, not {}", other.what());
                Err(Fault::new(expr.at, message, "write a list: [4], range(10) or zip(…)"))
            }
        }
    }

    pub(super) fn function(&mut self, call: &Call<'t>) -> Result<Value> {
        let arguments = positional(call)?;
        match call.name {
            "range" | "xrange" => self.range(call, &arguments),
            "zip" => {
                let mut lists = Vec::new();
                for argument in arguments {
                    lists.push(self.items(argument, "zip takes")?);
                }
                let length = lists.iter().map(|list| list.len()).min().unwrap_or(0);
                let work = length.saturating_mul(lists.len() + 1).saturating_mul(ITEM_WORK);
                self.spend(call.at, work)?;
                let row = |i: usize| Value::list(lists.iter().map(|list| list[i].clone()).collect());
                Ok(Value::list((0..length).map(row).collect()))
            }
            name => match arguments.as_slice() {
                [] => Ok(Value::list(Vec::new())),
                [list] => Ok(Value::List(self.items(list, &format!("{name}(…) takes"))?)),
                [_, second, ..] => {
                    let help = "write the elements in square brackets";
                    Err(Fault::new(second.at, format!("{name}(…) takes one list"), help))
                }
            },
        }
    }

    fn range(&mut self, call: &Call<'t>, arguments: &[&Expr<'t>]) -> Result<Value> {
        let mut numbers = Vec::with_capacity(3);
        for argument in arguments {
            let value = self.value(argument)?;
            numbers.push(value.as_integer().ok_or_else(|| {
                let what = match &value {
                    Value::Scalar(json) => cut(json.as_str(), 40),
                    other => other.what().to_owned(),
                };
                let message = format!("{} takes whole numbers, not {what}", call.name);
                Fault::new(argument.at, message, "write a number such as 10")
            })?);
        }
        let (start, stop, step) = match numbers[..] {
            [stop] => (0, stop, 1),
            [start, stop] => (start, stop, 1),
            [start, stop, step] => (start, stop, step),
            _ => {
                let message = format!("{} takes 1 to 3 numbers, not {}", call.name, arguments.len());
                let help = "write range(stop), range(start, stop) or range(start, stop, step)";
                return Err(Fault::new(call.at, message, help));
            }
        };
        if step == 0 {
            let message = format!("{} with step 0 never ends", call.name);
            return Err(Fault::new(arguments[2].at, message, "write a step other than 0"));
        }
        let is_empty = if step > 0 { stop <= start } else { stop >= start };
        let distance = if is_empty { 0 } else { stop.abs_diff(start) };
        let length = usize::try_from(distance.div_ceil(step.unsigned_abs())).unwrap_or(usize::MAX);
        self.spend(call.at, length.saturating_mul(ITEM_WORK)).map_err(|_| {
            let message =
                format!("{}({}) makes {length} numbers, which is too many", call.name, cut(call.written, 40));
            Fault::new(call.at, message, "generate fewer, or split the canvas into several runs")
        })?;
        // Every number lies between start and stop; only the product on the way there may wrap.
        let numbers = (0..length as i128).map(|i| Value::integer(start.wrapping_add(i.wrapping_mul(step))));
        Ok(Value::list(numbers.collect()))
    }
}

/// The arguments of a function that takes them without names.
fn positional<'c, 't>(call: &'c Call<'t>) -> Result<Vec<&'c Expr<'t>>> {
    let argument = |argument: &'c Argument<'t>| match argument.kind {
        ArgumentKind::Positional => Ok(&argument.value),
        _ => {
            let message = format!("{}(…) takes arguments without names", call.name);
            Err(Fault::new(argument.at, message, "write the value alone"))
        }
    };
    call.arguments.iter().map(argument).collect()
}
