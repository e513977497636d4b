//! `#[rest]`: the parameter that takes all remaining positional arguments.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, GenericArgument, Meta, PathArguments, Type};

use crate::params::{Kind, Parameter};
use crate::text::{Errors, source};

/// Takes `#[rest]` off a parameter, and returns where it stood.
pub(crate) fn take(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> Option<Span> {
    let (marks, others): (Vec<Attribute>, _) =
        std::mem::take(attributes).into_iter().partition(|a| a.path().is_ident("rest"));
    *attributes = others;
    if let Some(second) = marks.get(1) {
        errors.at(second, "this parameter is marked twice; keep one `#[rest]`");
    }
    let mark = marks.first()?;
    if !matches!(mark.meta, Meta::Path(_)) {
        errors.at(&mark.meta, "`rest` takes nothing: write `#[rest] arguments: Vec<i64>`");
    }
    Some(mark.meta.span())
}

/// The type of one argument: what a `Vec` holds.
pub(crate) fn element(ty: &Type, errors: &mut Errors) -> Type {
    if let Type::Path(path) = ty
        && let Some(last) = path.path.segments.last()
        && last.ident == "Vec"
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && arguments.args.len() == 1
        && let Some(GenericArgument::Type(element)) = arguments.args.first()
    {
        return element.clone();
    }
    // Of a slice it is said already that a task owns its arguments.
    if !matches!(ty, Type::Reference(_)) {
        let text = source(ty);
        let message = format!("`#[rest]` takes any number of arguments into a `Vec`: write `Vec<{text}>`");
        errors.at(ty, message);
    }
    ty.clone()
}

/// Behind the rest nothing can have an argument.
pub(crate) fn check_last(params: &[Parameter], errors: &mut Errors) {
    let mut arguments = params.iter().filter(|param| param.is_argument());
    let Some(rest) = arguments.find(|param| matches!(param.kind, Kind::Rest(_))) else { return };
    for after in arguments {
        let (name, rest) = (&after.name, &rest.name);
        let message = match after.kind {
            Kind::Rest(_) => format!("a task has one `#[rest]`: `{rest}` takes all arguments that are left"),
            _ => format!("`{rest}` takes all arguments that are left: put `{name}` before it"),
        };
        errors.at(name, message);
    }
}
