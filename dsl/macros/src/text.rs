//! Texts about tokens.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// Tokens as a programmer would write them: `Vec<(i64, String)>`.
pub(crate) fn source(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, tight) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" !", "!"),
        (" . ", "."),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("& ", "&"),
        (",(", ", ("),
    ] {
        text = text.replace(spaced, tight);
    }
    text
}

/// Errors collected on the way, so that one look at the compiler's output is enough.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// One more, at these tokens.
    pub(crate) fn at(&mut self, tokens: &impl ToTokens, message: impl std::fmt::Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// One more.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The errors where an expression stands; several need a block.
    pub(crate) fn into_expression(self) -> Option<TokenStream> {
        let errors = self.0?.into_compile_error();
        Some(quote!({ #errors }))
    }

    /// The errors, if there are any.
    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The crate that the wrapper of a macro hands in as its first token, and the user's tokens.
pub(crate) fn with_crate(tokens: TokenStream) -> (TokenStream, TokenStream) {
    let mut tokens = tokens.into_iter();
    let krate = match tokens.next() {
        Some(proc_macro2::TokenTree::Group(group)) => group.stream(),
        _ => TokenStream::new(),
    };
    (krate, tokens.collect())
}
