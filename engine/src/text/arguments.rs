//! Values to JSON, and to the arguments of a task.

use celeriac_primitives::{Json, Kwargs};

use super::error::{Fault, Result, cut};
use super::evaluate::Evaluator;
use super::syntax::{Argument, ArgumentKind, Expr};
use super::value::Value;

impl<'t> Evaluator<'t, '_> {
    /// The value as JSON text.
    pub(super) fn json(&mut self, at: usize, value: &Value) -> Result<Json> {
        if let Value::Scalar(json) = value {
            return Ok(json.clone());
        }
        let mut text = String::new();
        self.write(at, value, &mut text)?;
        Ok(Json::from_compact(text))
    }

    fn write(&mut self, at: usize, value: &Value, out: &mut String) -> Result<()> {
        match value {
            Value::Scalar(json) => {
                self.spend_text(at, json.as_str().len() + 8)?;
                out.push_str(json.as_str());
            }
            Value::List(items) => {
                self.spend(at, 1)?;
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.write(at, item, out)?;
                }
                out.push(']');
            }
            Value::Dict(members) => {
                self.spend(at, 1)?;
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    self.spend_text(at, key.as_str().len() + 8)?;
                    out.push_str(key.as_str());
                    out.push(':');
                    self.write(at, value, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    /// The items of a list, each as JSON.
    pub(super) fn json_items(&mut self, expr: &Expr<'t>, who: &str) -> Result<Vec<Json>> {
        let items = self.items(expr, who)?;
        self.spend(expr.at, items.len())?;
        items.iter().map(|item| self.json(expr.at, item)).collect()
    }

    /// The members of a dictionary by name.
    pub(super) fn members_of(&mut self, expr: &Expr<'t>, who: &str) -> Result<Vec<(String, Value)>> {
        let Value::Dict(members) = self.value(expr)? else {
            let help = "write {\"name\": value}";
            return Err(Fault::new(expr.at, format!("{who} a dictionary"), help));
        };
        let mut named = Vec::with_capacity(members.len());
        for (key, value) in members.iter() {
            self.spend_text(expr.at, key.as_str().len() + 64)?;
            let name = key.to::<String>().map_err(|_| {
                Fault::new(
                    expr.at,
                    format!("{} is not a name", cut(key.as_str(), 40)),
                    "write whole characters",
                )
            })?;
            named.push((name, value.clone()));
        }
        Ok(named)
    }

    /// The arguments of a task.
    pub(super) fn task_arguments(&mut self, arguments: &[Argument<'t>]) -> Result<(Vec<Json>, Kwargs)> {
        let (mut args, mut kwargs) = (Vec::new(), Kwargs::new());
        for Argument { at, kind, value } in arguments {
            match kind {
                ArgumentKind::Positional => {
                    let argument = self.value(value)?;
                    args.push(self.json(*at, &argument)?);
                }
                ArgumentKind::Star => args.append(&mut self.json_items(value, "* spreads")?),
                ArgumentKind::Keyword(name) => {
                    let argument = self.value(value)?;
                    let json = self.json(*at, &argument)?;
                    self.insert(*at, &mut kwargs, (*name).to_owned(), json)?;
                }
                ArgumentKind::DoubleStar => {
                    for (name, member) in self.members_of(value, "** spreads")? {
                        let json = self.json(*at, &member)?;
                        self.insert(*at, &mut kwargs, name, json)?;
                    }
                }
            }
        }
        Ok((args, kwargs))
    }

    /// Adds a keyword argument that must not be there yet.
    pub(super) fn insert(&mut self, at: usize, kwargs: &mut Kwargs, name: String, json: Json) -> Result<()> {
        self.spend_text(at, name.len() + 64)?;
        if kwargs.contains_key(&name) {
            let message = format!("the argument {} stands twice", cut(&name, 40));
            return Err(Fault::new(at, message, "leave one of them out"));
        }
        kwargs.insert(name, json);
        Ok(())
    }
}
