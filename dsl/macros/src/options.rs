//! The options of `#[task(…)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit, LitStr, Meta, Path, Token};

use crate::nearest::nearest;
use crate::text::Errors;

/// What the attribute says.
pub(crate) struct Options {
    /// The full name, when it is given.
    pub(crate) name: Option<LitStr>,
    /// The crate that expansions name.
    pub(crate) krate: Path,
    /// Calling options, with their values.
    calling: Vec<(&'static str, Expr)>,
}

/// The options, with an example of each.
const KNOWN: [(&str, &str); 11] = [
    ("name", "name = \"proj.tasks.add\""),
    ("crate", "crate = celeriac"),
    ("queue", "queue = \"mail\""),
    ("priority", "priority = 9"),
    ("retry", "retry = RetryPolicy::new(3)"),
    ("time_limit", "time_limit = 30"),
    ("soft_time_limit", "soft_time_limit = 20"),
    ("heartbeat", "heartbeat = 10"),
    ("expires", "expires = 3600"),
    ("acks_late", "acks_late = false"),
    ("ignore_result", "ignore_result = true"),
];

impl Options {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self { name: None, krate: syn::parse_quote!(::celeriac), calling: Vec::new() };
        let metas = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
            Ok(metas) => metas,
            Err(error) => {
                let message = format!("{error}; write options as `#[task(name = \"proj.tasks.add\")]`");
                errors.add(syn::Error::new(error.span(), message));
                return options;
            }
        };
        let mut seen: Vec<String> = Vec::new();
        for meta in &metas {
            let name = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
            if !KNOWN.iter().any(|(known, _)| *known == name) {
                errors.at(meta.path(), unknown(&name));
            } else if seen.contains(&name) {
                errors.at(meta, format!("option `{name}` is given twice; keep one"));
            } else {
                options.set(&name, meta, errors);
            }
            seen.push(name);
        }
        options
    }

    fn set(&mut self, name: &str, meta: &Meta, errors: &mut Errors) {
        let value = match meta {
            Meta::NameValue(pair) => &pair.value,
            other => {
                errors.at(other, format!("option `{name}` takes a value: `{}`", example(name)));
                return;
            }
        };
        match (name, value) {
            ("name", Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => match check_name(&text.value()) {
                Ok(()) => self.name = Some(text.clone()),
                Err(message) => errors.at(text, message),
            },
            ("crate", Expr::Path(path)) => self.krate = path.path.clone(),
            ("name" | "crate", _) => errors.add(syn::Error::new(
                value.span(),
                format!("option `{name}` is written `{}`", example(name)),
            )),
            (name, value) => {
                let known = KNOWN.iter().find(|(known, _)| *known == name);
                self.calling.extend(known.map(|(known, _)| (*known, value.clone())));
            }
        }
    }

    /// The calling options as an expression, which makes them once.
    pub(crate) fn declared(&self, private: &TokenStream) -> TokenStream {
        let set = self.calling.iter().map(|(name, value)| match *name {
            "retry" => quote_spanned! {value.span()=>
                let __policy: #private::RetryPolicy = #value;
                let __options = __options.with_retry(&__policy);
            },
            name => quote_spanned! {value.span()=>
                let mut __options = __options;
                __options
                    .set(#name, #private::Json::new(&(#value)).expect("the value has a JSON form"))
                    .unwrap_or_else(|error| ::core::panic!("#[task]: {}", error));
            },
        });
        quote! {
            static __DECLARED: #private::OnceLock<#private::Options> = #private::OnceLock::new();
            __DECLARED.get_or_init(|| {
                let __options = #private::Options::new();
                #(#set)*
                __options
            })
        }
    }
}

fn example(option: &str) -> &'static str {
    KNOWN.iter().find(|(known, _)| *known == option).map_or("", |(_, example)| example)
}

fn unknown(name: &str) -> String {
    let names = KNOWN.iter().map(|(known, _)| *known);
    match nearest(name, names.clone()) {
        Some(known) => format!("`#[task]` has no option `{name}`; did you mean `{known}`?"),
        None => {
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            format!("`#[task]` has no option `{name}`; it has {}", names.join(", "))
        }
    }
}

/// The rules of `TaskName` in celeriac-primitives, for names in the program's text.
fn check_name(name: &str) -> Result<(), String> {
    if name.chars().count() > 255 {
        return Err("a task name has at most 255 characters".to_owned());
    }
    let foreign = |c: &char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if let Some(character) = name.chars().find(foreign) {
        return Err(format!("a task name cannot hold {character:?}: use letters, digits, `_`, `-` and dots"));
    }
    if name.split('.').any(str::is_empty) {
        return Err("a task name is dotted words, such as \"proj.tasks.add\"".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_task_names() {
        for good in ["proj.tasks.add", "add", "größe.mal-2"] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in ["", ".", "a..b", "a.", ".a", "a b", "a{b}", "a|b", &"a".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
