//! Calls with keyword arguments: `add.s(4, y = 4)`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Expr, ExprArray, Ident, Token};

use crate::text::Errors;

/// How many letters of a keyword stand in its type; a hash stands for the others.
const LETTERS: usize = 16;

/// The type that stands for a keyword: `Key<'y'>`.
pub(crate) fn key(private: &TokenStream, keyword: &Ident) -> TokenStream {
    let text = keyword.unraw().to_string();
    let letters: Vec<char> = text.chars().take(LETTERS).collect();
    let rest = text.chars().skip(LETTERS).collect::<String>();
    let rest = (!rest.is_empty()).then(|| fnv(rest.as_bytes()));
    quote_spanned!(keyword.span()=> #private::Key<#(#letters,)* #rest>)
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The arguments of a call as they are written.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) positional: Vec<Expr>,
    pub(crate) keywords: Vec<(Ident, Expr)>,
}

impl Call {
    /// Parts keywords from positional arguments.
    pub(crate) fn read(args: Punctuated<Expr, Token![,]>, errors: &mut Errors) -> Self {
        let mut call = Self::default();
        for arg in args {
            match arg {
                Expr::Assign(assign) => match &*assign.left {
                    Expr::Path(path) if path.path.get_ident().is_some() => {
                        let keyword = path.path.get_ident().expect("just seen").clone();
                        if call.keywords.iter().any(|(other, _)| *other == keyword) {
                            errors.at(&keyword, format!("keyword `{keyword}` is given twice; keep one"));
                        }
                        call.keywords.push((keyword, empty_vec(*assign.right)));
                    }
                    other => errors.at(other, "a keyword is one name: `add.s(4, y = 4)`"),
                },
                positional => {
                    if let Some((keyword, _)) = call.keywords.last() {
                        let message = format!(
                            "a positional argument cannot follow the keyword `{keyword}`: put it before"
                        );
                        errors.at(&positional, message);
                    }
                    call.positional.push(empty_vec(positional));
                }
            }
        }
        call
    }
}

/// `[]` says nothing about its items; an empty `Vec` takes their type from the parameter.
fn empty_vec(expr: Expr) -> Expr {
    match &expr {
        Expr::Array(ExprArray { elems, .. }) if elems.is_empty() => {
            let tokens = quote_spanned!(syn::spanned::Spanned::span(&expr)=> ::std::vec::Vec::new());
            syn::parse2(tokens).unwrap_or(expr)
        }
        _ => expr,
    }
}

/// Values as one tuple; one alone stays what it is.
pub(crate) fn tuple(mut values: Vec<Expr>, span: proc_macro2::Span) -> TokenStream {
    if values.len() == 1 {
        let value = values.remove(0);
        return quote!(#value);
    }
    quote_spanned!(span=> (#(#values),*))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keyword: &str, expect: &str) {
        let ident = Ident::new(keyword, proc_macro2::Span::call_site());
        assert_eq!(key(&quote!(p), &ident).to_string().replace(' ', ""), expect);
    }

    #[test]
    fn a_key_shows_its_letters_and_long_ones_stay_apart() {
        check("y", "p::Key<'y',>");
        let long = |word| key(&quote!(p), &Ident::new(word, proc_macro2::Span::call_site())).to_string();
        assert_ne!(long("a_rather_long_name_1"), long("a_rather_long_name_2"));
    }
}
