//! The parameters of a task's function.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Expr, FnArg, GenericArgument, Ident, Meta, Pat, PatIdent, PathArguments, Token, Type,
    TypeReference,
};

use crate::rest;
use crate::text::{Errors, source};

/// How many parameters may take an argument.
pub(crate) const ARGUMENTS_MAX: usize = 8;

/// One parameter of the function.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    pub(crate) kind: Kind,
}

/// Where a parameter's value comes from.
pub(crate) enum Kind {
    /// From the call's arguments, or from the default.
    Argument { default: Option<Default> },
    /// From all positional arguments that are left, each of this type.
    Rest(Type),
    /// From the worker: the context.
    Context,
    /// From the worker: the state of this type.
    State(Type),
}

/// A parameter's default.
pub(crate) struct Default {
    /// The expression.
    pub(crate) value: Expr,
    /// How it is written.
    pub(crate) text: String,
}

/// Reads the parameters and takes `#[default]` and `#[rest]` off them.
pub(crate) fn read(inputs: &mut Punctuated<FnArg, Token![,]>, errors: &mut Errors) -> Vec<Parameter> {
    let mut params = Vec::new();
    for input in inputs {
        match input {
            FnArg::Receiver(receiver) => {
                errors.at(
                    receiver,
                    "a task is a free function: take out `self`, and ask for what it holds with `State<T>`",
                );
            }
            FnArg::Typed(typed) => {
                let default = take_default(&mut typed.attrs, errors);
                let rest = rest::take(&mut typed.attrs, errors);
                check_type(&typed.ty, errors);
                let Some(name) = name(&typed.pat, errors) else { continue };
                let kind = kind(&typed.ty, default, rest, errors);
                params.push(Parameter { name, ty: (*typed.ty).clone(), kind });
            }
        }
    }
    check_defaults(&params, errors);
    rest::check_last(&params, errors);
    params
}

fn name(pattern: &Pat, errors: &mut Errors) -> Option<Ident> {
    match pattern {
        Pat::Ident(PatIdent { by_ref: None, subpat: None, ident, .. }) => Some(ident.clone()),
        other => {
            errors.at(
                other,
                "a task's parameter is a plain name, because it is a keyword, too: take it apart in the body",
            );
            None
        }
    }
}

fn kind(ty: &Type, default: Option<(Span, Default)>, rest: Option<Span>, errors: &mut Errors) -> Kind {
    match (injected(ty), default, rest) {
        (None, None, Some(_)) => Kind::Rest(rest::element(ty, errors)),
        (None, Some((span, _)), Some(_)) => {
            let message = "`#[rest]` is empty when there are no arguments left: take out its default";
            errors.add(syn::Error::new(span, message));
            Kind::Rest(rest::element(ty, errors))
        }
        (None, default, None) => Kind::Argument { default: default.map(|(_, default)| default) },
        (Some(kind), None, None) => kind,
        (Some(kind), default, rest) => {
            let text = source(ty);
            let marks = [
                default.map(|(span, _)| {
                    (span, format!("`{text}` is handed in by the worker and has no default"))
                }),
                rest.map(|span| {
                    (span, format!("`{text}` is handed in by the worker and takes no arguments"))
                }),
            ];
            for (span, message) in marks.into_iter().flatten() {
                errors.add(syn::Error::new(span, message));
            }
            kind
        }
    }
}

/// What the worker hands in for a parameter of this type.
fn injected(ty: &Type) -> Option<Kind> {
    match ty {
        Type::Path(path) => path.path.segments.last().and_then(|last| {
            match (last.ident.to_string().as_str(), &last.arguments) {
                ("TaskContext", PathArguments::None) => Some(Kind::Context),
                ("State", PathArguments::AngleBracketed(arguments)) => match arguments.args.first() {
                    Some(GenericArgument::Type(state)) if arguments.args.len() == 1 => {
                        Some(Kind::State(state.clone()))
                    }
                    _ => None,
                },
                _ => None,
            }
        }),
        _ => None,
    }
}

fn take_default(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> Option<(Span, Default)> {
    let (defaults, others) =
        std::mem::take(attributes).into_iter().partition(|a| a.path().is_ident("default"));
    *attributes = others;
    let defaults: Vec<Attribute> = defaults;
    if let Some(second) = defaults.get(1) {
        errors.at(second, "a parameter has one default; keep one");
    }
    let attribute = defaults.into_iter().next()?;
    let default = match &attribute.meta {
        Meta::Path(_) => Default {
            value: syn::parse_quote!(::core::default::Default::default()),
            text: "default".to_owned(),
        },
        Meta::List(list) => match list.parse_args::<Expr>() {
            Ok(value) => Default { text: source(&value), value },
            Err(error) => {
                errors.add(syn::Error::new(
                    error.span(),
                    format!("{error}; write a default as `#[default(0)]`"),
                ));
                return None;
            }
        },
        Meta::NameValue(pair) => {
            errors
                .at(&attribute.meta, format!("write this default as `#[default({})]`", source(&pair.value)));
            return None;
        }
    };
    Some((attribute.span(), default))
}

fn check_defaults(params: &[Parameter], errors: &mut Errors) {
    let mut with_default = None;
    for param in params {
        match (&param.kind, with_default) {
            (Kind::Argument { default: Some(_) }, _) => with_default = Some(&param.name),
            (Kind::Argument { default: None }, Some(earlier)) => {
                let name = &param.name;
                let message = format!(
                    "`{name}` has no default, but stands behind `{earlier}`, which has one: give `{name}` a default, \
                     too, or put it before `{earlier}`"
                );
                errors.at(name, message);
            }
            _ => {}
        }
    }
    let arguments = params.iter().filter(|param| param.is_argument());
    if let Some(ninth) = arguments.clone().nth(ARGUMENTS_MAX) {
        let message = format!(
            "a task takes at most {ARGUMENTS_MAX} arguments, this one {}: put some of them into a struct",
            arguments.count()
        );
        errors.at(&ninth.name, message);
    }
}

/// Finds what cannot travel: borrowed types and types without a name.
pub(crate) fn check_type(ty: &Type, errors: &mut Errors) {
    Unowned(errors).visit_type_mut(&mut ty.clone());
}

struct Unowned<'e>(&'e mut Errors);

impl VisitMut for Unowned<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        match ty {
            Type::Reference(reference) => {
                let message = format!("a task owns its arguments and results: write `{}`", owned(reference));
                self.0.at(reference, message);
            }
            Type::ImplTrait(unnamed) => {
                self.0.at(unnamed, "a task's arguments and results have a type with a name, not `impl Trait`: write the type");
            }
            // A function's parameters stay on this machine, whatever they are: the trait bounds speak about it.
            Type::BareFn(_) => {}
            other => syn::visit_mut::visit_type_mut(self, other),
        }
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut syn::Lifetime) {
        if lifetime.ident != "static" {
            self.0.at(
                lifetime,
                "a task owns its arguments and results: use a type without a lifetime, or `'static`",
            );
        }
    }
}

fn owned(reference: &TypeReference) -> String {
    match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => format!("Vec<{}>", source(&slice.elem)),
        other => source(other),
    }
}
