//! `tasks![add, mul, other::xsum]`: a list in which every name is there once.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Path, Token};

use crate::text::{Errors, source, with_crate};

pub(crate) fn expand(tokens: TokenStream) -> syn::Result<TokenStream> {
    let (krate, tokens) = with_crate(tokens);
    let private = quote!(#krate::__private);
    let paths = Punctuated::<Path, Token![,]>::parse_terminated.parse2(tokens).map_err(|error| {
        syn::Error::new(
            error.span(),
            format!("{error}; write the tasks' names: `tasks![add, mul, other::xsum]`"),
        )
    })?;
    let mut errors = Errors::default();
    for (place, path) in paths.iter().enumerate() {
        if paths.iter().take(place).any(|other| source(other) == source(path)) {
            errors.at(path, format!("`{}` is in this list twice; keep one", source(path)));
        }
    }
    if let Some(errors) = errors.into_expression() {
        return Ok(errors);
    }
    let count = paths.len();
    let entries = paths.iter().map(|path| quote_spanned!(path.span()=> #private::entry(&#path)));
    let checks = paths.iter().enumerate().map(|(place, path)| {
        let message = format!(
            "`{}` has the name of a task before it in this list: give one of them another name, \
             #[task(name = \"proj.tasks.{}\")]",
            source(path),
            path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        );
        quote_spanned! {path.span()=>
            const _: () = ::core::assert!(!#private::is_repeated(&ENTRIES, #place), #message);
        }
    });
    Ok(quote! {{
        const ENTRIES: [(&str, fn() -> #private::TaskDef); #count] = [#(#entries),*];
        #(#checks)*
        ENTRIES.iter().map(|(_, definition)| definition()).collect::<::std::vec::Vec<#private::TaskDef>>()
    }})
}
