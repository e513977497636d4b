//! `add.s(i, i) for i in 0..10 if i != 5`, which Rust's own grammar does not have.
//!
//! Before the tokens are read as a Rust expression, every such group of tokens is put into a macro call of a name that
//! nobody writes. Afterwards that call becomes a loop.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::{Expr, Pat};

/// The name of the macro call that stands for a comprehension.
pub(crate) const MARKER: &str = "__celeriac_for";

/// Marks the comprehensions in these tokens, at any depth.
pub(crate) fn mark(tokens: TokenStream) -> TokenStream {
    // What stands in a macro call has a grammar of its own; only that of `vec!` is known.
    let (mut word, mut in_macro) = (String::new(), false);
    let mark_token = |token| match token {
        TokenTree::Group(group) if in_macro => TokenTree::Group(group),
        TokenTree::Group(group) => {
            let mut inside = mark(group.stream());
            if matches!(group.delimiter(), Delimiter::Parenthesis | Delimiter::Bracket)
                && is_comprehension(&inside)
            {
                let marker = Ident::new(MARKER, Span::call_site());
                inside = quote!(#marker! { #inside });
            }
            let mut marked = Group::new(group.delimiter(), inside);
            marked.set_span(group.span());
            TokenTree::Group(marked)
        }
        other => {
            in_macro = matches!(&other, TokenTree::Punct(punct) if punct.as_char() == '!') && word != "vec";
            word = other.to_string();
            other
        }
    };
    tokens.into_iter().map(mark_token).collect()
}

/// Whether a `for` stands after something. Not one of a type: `dyn for<'a> Fn(&'a str)`.
pub(crate) fn is_comprehension(tokens: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    (1..tokens.len()).any(|i| {
        is_word(&tokens[i], "for")
            && !matches!(tokens.get(i + 1), Some(TokenTree::Punct(next)) if next.as_char() == '<')
    })
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

/// A comprehension, taken apart.
pub(crate) struct Comprehension {
    pub(crate) element: Expr,
    clauses: Vec<Clause>,
}

enum Clause {
    For { span: Span, pattern: Pat, iterator: Expr },
    If { span: Span, condition: Expr },
}

impl Comprehension {
    /// Reads the tokens of a marked call.
    pub(crate) fn read(tokens: TokenStream) -> syn::Result<Self> {
        let mut tokens: Vec<TokenTree> = tokens.into_iter().collect();
        if matches!(tokens.last(), Some(TokenTree::Punct(last)) if last.as_char() == ',') {
            tokens.pop();
        }
        let mut parts = Parts::split(tokens).into_iter();
        let element = match parts.next() {
            Some(Part { tokens, .. }) => syn::parse2(tokens)?,
            None => return Err(syn::Error::new(Span::call_site(), "a group of nothing")),
        };
        let clauses = parts.map(Clause::read).collect::<syn::Result<_>>()?;
        Ok(Self { element, clauses })
    }

    /// A block that fills a `Vec`.
    pub(crate) fn expand(&self) -> TokenStream {
        let element = &self.element;
        let members = Ident::new("__celeriac_members", Span::mixed_site());
        let innermost = quote!(#members.push(#element););
        let loops = self.clauses.iter().rev().fold(innermost, |inside, clause| match clause {
            Clause::For { span, pattern, iterator } => {
                quote_spanned!(*span=> for #pattern in #iterator { #inside })
            }
            Clause::If { span, condition } => quote_spanned!(*span=> if #condition { #inside }),
        });
        quote! {{
            let mut #members = ::std::vec::Vec::new();
            #loops
            #members
        }}
    }
}

impl Clause {
    fn read(part: Part) -> syn::Result<Self> {
        let Part { keyword, tokens } = part;
        let span = keyword.as_ref().map_or(Span::call_site(), Ident::span);
        if keyword.is_some_and(|keyword| keyword == "if") {
            return Ok(Self::If { span, condition: expression(tokens, "a condition")? });
        }
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let Some(place) = tokens.iter().position(|token| is_word(token, "in")) else {
            return Err(syn::Error::new(span, "this `for` lacks its `in`: `add.s(i, i) for i in 0..10`"));
        };
        let names: TokenStream = tokens[..place].iter().cloned().collect();
        let pattern = Pat::parse_multi
            .parse2(names.clone())
            // Python's `for x, y in pairs` needs no parentheses.
            .or_else(|_| Pat::parse_single.parse2(quote!((#names))))
            .map_err(|error| {
                syn::Error::new(error.span(), format!("{error}; after `for` stands a name or a pattern"))
            })?;
        let rest: Vec<TokenTree> = tokens[place + 1..].to_vec();
        if rest.iter().any(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
            let message = "what has a `for` takes no further arguments: put parentheses around it, \
                           `chord((add.s(i, i) for i in 0..10), xsum.s())`";
            return Err(syn::Error::new(span, message));
        }
        if rest.is_empty() {
            let message = "after `in` stands what to go through, such as `0..10`";
            return Err(syn::Error::new(tokens[place].span(), message));
        }
        let iterator = expression(rest.into_iter().collect(), "what to go through, such as `0..10`")?;
        Ok(Self::For { span, pattern, iterator })
    }
}

fn expression(tokens: TokenStream, what: &str) -> syn::Result<Expr> {
    syn::parse2(tokens).map_err(|error| syn::Error::new(error.span(), format!("{error}; here stands {what}")))
}

/// Tokens with the keyword before them.
struct Part {
    keyword: Option<Ident>,
    tokens: TokenStream,
}

struct Parts;

impl Parts {
    /// Cuts at every `for`, and at every `if` that starts no expression.
    fn split(tokens: Vec<TokenTree>) -> Vec<Part> {
        let mut parts = vec![Part { keyword: None, tokens: TokenStream::new() }];
        for token in tokens {
            let current = parts.last_mut().expect("there is always one");
            // `in if x { a } else { b }`: an expression starts here.
            let in_clause = current.keyword.is_some();
            let after_in = current.tokens.clone().into_iter().last().is_some_and(|last| is_word(&last, "in"));
            match token {
                TokenTree::Ident(word) if word == "for" || (word == "if" && in_clause && !after_in) => {
                    parts.push(Part { keyword: Some(word), tokens: TokenStream::new() });
                }
                token => current.tokens.extend([token]),
            }
        }
        parts
    }
}
