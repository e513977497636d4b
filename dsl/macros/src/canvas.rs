//! `canvas!`: Celery's own writing, turned into the typed form.
//!
//! The tokens are read as a Rust expression in which calls may have keywords, and every call of that writing is
//! replaced, wherever it stands: `.s(4, 4)` becomes `.s((4, 4))`, `group(a, b)` becomes `group((a, b))`. Everything
//! else stays what it is, with its spans, so that the compiler's messages point at what was written.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit_mut::{VisitMut, visit_expr_mut};
use syn::{Expr, ExprArray, ExprCall, ExprMethodCall, Ident};

use crate::call::{self, Call};
use crate::comprehension::{self, Comprehension, MARKER};
use crate::nearest::nearest;
use crate::params::ARGUMENTS_MAX;
use crate::text::{Errors, with_crate};

pub(crate) fn expand(tokens: TokenStream) -> syn::Result<TokenStream> {
    let (krate, tokens) = with_crate(tokens);
    if tokens.is_empty() {
        return Err(syn::Error::new(Span::call_site(), "write a canvas: `canvas!(add.s(4, 4) | mul.s(8))`"));
    }
    if comprehension::is_comprehension(&tokens) {
        let message = "a `for` needs a canvas around it: `group(add.s(i, i) for i in 0..10)`";
        return Err(syn::Error::new_spanned(tokens, message));
    }
    let mut expr: Expr = syn::parse2(comprehension::mark(tokens)).map_err(|error| {
        syn::Error::new(
            error.span(),
            format!("{error}; a canvas is written such as `add.s(4, 4) | mul.s(8)`"),
        )
    })?;
    while let Expr::Paren(paren) = expr {
        expr = *paren.expr;
    }
    let mut rewrite = Rewrite { private: quote!(#krate::__private), errors: Errors::default() };
    rewrite.visit_expr_mut(&mut expr);
    Ok(rewrite.errors.into_expression().unwrap_or_else(|| quote!(#expr)))
}

struct Rewrite {
    private: TokenStream,
    errors: Errors,
}

impl VisitMut for Rewrite {
    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        if let Some(rewritten) = self.comprehension(expr) {
            *expr = rewritten;
            return;
        }
        if let Some(call) = curried_chord(expr) {
            *expr = call;
        }
        visit_expr_mut(self, expr);
        let tokens = match expr {
            Expr::MethodCall(call) => self.method(call),
            Expr::Call(call) => self.call(call),
            _ => None,
        };
        if let Some(tokens) = tokens {
            *expr = Expr::Verbatim(tokens);
        }
    }
}

/// Celery's `chord(header)(body)` as `chord(header, body)`.
fn curried_chord(expr: &Expr) -> Option<Expr> {
    let Expr::Call(outer) = expr else { return None };
    let Expr::Call(inner) = &*outer.func else { return None };
    if name_of(&inner.func)? != "chord" || inner.args.len() != 1 || outer.args.len() != 1 {
        return None;
    }
    let mut call = inner.clone();
    call.args.extend(outer.args.iter().cloned());
    Some(Expr::Call(call))
}

/// The name of a function that is called by its name alone.
fn name_of(func: &Expr) -> Option<&Ident> {
    match func {
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

impl Rewrite {
    /// A marked comprehension, with the parentheses or brackets around it.
    fn comprehension(&mut self, expr: &Expr) -> Option<Expr> {
        let call = match expr {
            Expr::Macro(call) if call.mac.path.is_ident("vec") => return self.vec(&call.mac),
            Expr::Macro(call) => call,
            Expr::Paren(paren) => return self.comprehension(&paren.expr),
            Expr::Array(list) if list.elems.len() == 1 => return self.comprehension(&list.elems[0]),
            _ => return None,
        };
        if !call.mac.path.is_ident(MARKER) {
            return None;
        }
        match Comprehension::read(call.mac.tokens.clone()) {
            Ok(mut comprehension) => {
                self.visit_expr_mut(&mut comprehension.element);
                Some(Expr::Verbatim(comprehension.expand()))
            }
            Err(error) => {
                self.errors.add(error);
                None
            }
        }
    }

    /// `vec![a, b]`, and `vec![a for …]`.
    fn vec(&mut self, vec: &syn::Macro) -> Option<Expr> {
        let tokens = &vec.tokens;
        let mut list: ExprArray = syn::parse2(quote!([#tokens])).ok()?;
        if list.elems.len() == 1 && is_marked(&list.elems[0]) {
            return self.comprehension(&list.elems[0]);
        }
        list.elems.iter_mut().for_each(|element| self.visit_expr_mut(element));
        let (path, elements) = (&vec.path, list.elems.iter());
        Some(Expr::Verbatim(quote!(#path![#(#elements),*])))
    }

    fn method(&mut self, call: &ExprMethodCall) -> Option<TokenStream> {
        match call.method.to_string().as_str() {
            "s" | "si" => Some(self.signature(call)),
            "set" if call.args.iter().any(|arg| matches!(arg, Expr::Assign(_))) => Some(self.set(call)),
            "partial" if call.args.len() > 1 => {
                let (receiver, method) = (&call.receiver, &call.method);
                let values = call::tuple(call.args.iter().cloned().collect(), call.paren_token.span.join());
                Some(quote!(#receiver.#method(#values)))
            }
            _ => None,
        }
    }

    /// `add.s(4, 4)`, `add.s(4, y = 4)`
    fn signature(&mut self, call: &ExprMethodCall) -> TokenStream {
        let (receiver, method) = (&call.receiver, &call.method);
        let span = call.paren_token.span.join();
        let Call { positional, keywords } = Call::read(call.args.clone(), &mut self.errors);
        if let Some(ninth) = positional.get(ARGUMENTS_MAX) {
            self.errors.at(ninth, format!("at most {ARGUMENTS_MAX} arguments can be written here"));
        }
        let values = call::tuple(positional, span);
        let private = &self.private;
        let with = Ident::new("with", method.span());
        let with = (!keywords.is_empty()).then(|| quote!(.#with()));
        let keywords = keywords.iter().map(|(keyword, value)| {
            let key = call::key(private, keyword);
            let inferred = quote_spanned!(value.span()=> _);
            quote_spanned!(keyword.span()=> .keyword::<#key, #inferred, _>(#value))
        });
        let arguments = quote_spanned!(span=> (#values));
        quote!(#receiver #with #(#keywords)* .#method #arguments)
    }

    /// `.set(queue = "hi", priority = 5)`
    fn set(&mut self, call: &ExprMethodCall) -> TokenStream {
        let receiver = &call.receiver;
        let Call { positional, keywords } = Call::read(call.args.clone(), &mut self.errors);
        for options in positional {
            self.errors.at(&options, "write either `.set(options)` or `.set(queue = \"hi\", priority = 5)`");
        }
        let options: Vec<TokenStream> = keywords
            .iter()
            .map(|(name, value)| {
                let text = name.to_string();
                if text == "immutable" {
                    return self.immutable(name, value);
                }
                if let Some(known) = misspelt(&text) {
                    let message = format!(
                        "there is no option `{text}`; did you mean `{known}`? (`.option(\"{text}\", …)` sets an option \
                         that celeriac does not know)"
                    );
                    self.errors.at(name, message);
                }
                quote_spanned!(name.span()=> .option(#text, #value))
            })
            .collect();
        quote!(#receiver #(#options)*)
    }

    fn immutable(&mut self, name: &Ident, value: &Expr) -> TokenStream {
        if !matches!(value, Expr::Lit(lit) if matches!(&lit.lit, syn::Lit::Bool(bool) if bool.value)) {
            self.errors.at(
                value,
                "`immutable` is `true`, or left out: a flow's type says whether it ignores its input",
            );
        }
        quote_spanned!(name.span()=> .immutable())
    }

    fn call(&mut self, call: &ExprCall) -> Option<TokenStream> {
        let name = name_of(&call.func)?;
        let args: Vec<Expr> = call.args.iter().cloned().collect();
        let span = call.paren_token.span.join();
        let private = &self.private;
        let function = quote_spanned!(name.span()=> #private::#name);
        let keyword = args.iter().find(|arg| matches!(arg, Expr::Assign(_)));
        match name.to_string().as_str() {
            primitive @ ("group" | "chain" | "chord") if keyword.is_some() => {
                let message = format!("`{primitive}` takes no keywords: write its parts one after the other");
                self.errors.at(&keyword, message);
                None
            }
            "group" | "chain" if args.is_empty() => {
                let message =
                    format!("an empty {name} has no types; give it a member, or write it in untyped form");
                self.errors.add(syn::Error::new(span, message));
                None
            }
            "chain" if args.len() > 1 => Some(self.chain(&args)),
            "group" if args.len() > ARGUMENTS_MAX => Some(quote!(#function([#(#args),*]))),
            "group" | "chain" => {
                let members = call::tuple(args, span);
                Some(quote!(#function(#members)))
            }
            "chord" => match <[Expr; 2]>::try_from(args) {
                Ok([header, body]) => {
                    let header = self.header(header);
                    Some(quote!(#function(#header, #body)))
                }
                Err(_) if call.args.iter().any(is_marked) => None,
                Err(_) => {
                    let message =
                        "a chord has a header and a body: `chord([add.s(1, 1), add.s(2, 2)], xsum.s())`";
                    self.errors.add(syn::Error::new(call.span(), message));
                    None
                }
            },
            _ => None,
        }
    }

    /// Step by step, so that an error points at the step that does not fit.
    fn chain(&self, steps: &[Expr]) -> TokenStream {
        let private = &self.private;
        let (first, others) = steps.split_first().expect("there are at least two");
        let others = others.iter().map(|step| quote_spanned!(step.span()=> .then(#step)));
        quote!(#private::first(#first) #(#others)* .chain())
    }

    /// A short list in a header may hold flows of different types, as a tuple does.
    fn header(&self, header: Expr) -> TokenStream {
        match header {
            Expr::Array(list) if (1..=ARGUMENTS_MAX).contains(&list.elems.len()) => {
                let members = list.elems.iter();
                quote_spanned!(list.bracket_token.span.join()=> (#(#members,)*))
            }
            other => quote!(#other),
        }
    }
}

/// Whether a comprehension stands here that could not be read.
fn is_marked(expr: &Expr) -> bool {
    matches!(expr, Expr::Macro(call) if call.mac.path.is_ident(MARKER))
}

/// The options of Celery's `apply_async`.
const OPTIONS: [&str; 25] = [
    "acks_late",
    "add_to_parent",
    "compression",
    "connection",
    "countdown",
    "delivery_mode",
    "eta",
    "exchange",
    "expires",
    "headers",
    "ignore_result",
    "mandatory",
    "max_retries",
    "priority",
    "queue",
    "reply_to",
    "retry",
    "retry_policy",
    "routing_key",
    "serializer",
    "shadow",
    "soft_time_limit",
    "task_id",
    "time_limit",
    "timeout",
];

/// The option that was probably meant by one that does not exist.
fn misspelt(name: &str) -> Option<&'static str> {
    if OPTIONS.contains(&name) { None } else { nearest(name, OPTIONS.into_iter()) }
}
