//! Arguments of functions and methods, by the names of their parameters.

use super::error::{Fault, Result, cut};
use super::names::nearest;
use super::syntax::{Argument, ArgumentKind, Call, Expr};

/// What a call gives to each parameter, and what is left.
#[derive(Debug)]
pub(super) struct Parameters<'c, 't> {
    /// The function, as in messages.
    pub(super) who: String,
    at: usize,
    values: Vec<(&'static str, Option<&'c Expr<'t>>)>,
    /// Keywords that are no parameters, and `**{…}`.
    pub(super) others: Vec<&'c Argument<'t>>,
}

impl<'c, 't> Parameters<'c, 't> {
    /// Deals the arguments of a call out to parameters in this order.
    pub(super) fn read(who: &str, names: &[&'static str], call: &'c Call<'t>) -> Result<Self> {
        let mut values: Vec<_> = names.iter().map(|name| (*name, None)).collect();
        let mut others = Vec::new();
        for (i, argument) in call.arguments.iter().enumerate() {
            match argument.kind {
                ArgumentKind::Positional => match values.get_mut(i) {
                    Some((_, value)) => *value = Some(&argument.value),
                    None => return Err(too_many(who, names, argument)),
                },
                ArgumentKind::Keyword(name) => match values.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, Some(_))) => {
                        let message = format!("the argument {name} of {who} stands twice");
                        return Err(Fault::new(argument.at, message, "leave one of them out"));
                    }
                    Some((_, value)) => *value = Some(&argument.value),
                    None => others.push(argument),
                },
                ArgumentKind::DoubleStar => others.push(argument),
                ArgumentKind::Star => {
                    let help = "write its arguments one by one";
                    return Err(Fault::new(argument.at, format!("{who} takes no * argument"), help));
                }
            }
        }
        Ok(Self { who: who.to_owned(), at: call.at, values, others })
    }

    /// What a parameter got, if anything.
    pub(super) fn optional(&self, name: &str) -> Option<&'c Expr<'t>> {
        self.values.iter().find(|(known, _)| *known == name).and_then(|(_, value)| *value)
    }

    /// What a parameter got that cannot be left out.
    pub(super) fn required(&self, name: &str, what: &str) -> Result<&'c Expr<'t>> {
        self.optional(name).ok_or_else(|| {
            let help =
                format!("write {}({})", self.who, signature(self.values.iter().map(|(name, _)| *name)));
            Fault::new(self.at, format!("{} needs {what}", self.who), help)
        })
    }

    /// Refuses keywords that are no parameters.
    pub(super) fn nothing_else(&self) -> Result<()> {
        let Some(other) = self.others.first() else { return Ok(()) };
        let (message, help) = match other.kind {
            ArgumentKind::Keyword(name) => {
                let name = cut(name, 40);
                let known: Vec<&str> = self.values.iter().map(|(known, _)| *known).collect();
                let help = match nearest(&name, &known) {
                    Some(near) => format!("did you mean {near}=…?"),
                    None => format!("options follow as .set({name}=…)"),
                };
                (format!("{} has no argument {name}", self.who), help)
            }
            _ => (format!("{} takes no ** argument", self.who), "options follow as .set(**{…})".to_owned()),
        };
        Err(Fault::new(other.at, message, help))
    }
}

/// The parameters as one writes them; Celery calls the items of a map `it`.
fn signature<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| if name == "it" { "items" } else { name }).collect::<Vec<_>>().join(", ")
}

fn too_many(who: &str, names: &[&str], argument: &Argument<'_>) -> Fault {
    let (message, help) = match names {
        [] => (format!("{who} takes no argument without a name"), format!("write {who}(name=value)")),
        [_] => (
            format!("{who} takes one argument"),
            format!("write {who}({})", signature(names.iter().copied())),
        ),
        _ => {
            let message = format!("{who} takes at most {} arguments without names", names.len());
            (message, format!("write {who}({})", signature(names.iter().copied())))
        }
    };
    Fault::new(argument.at, message, help)
}
