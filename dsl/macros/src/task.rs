//! `#[task]`: reading the function, and checking it.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Ident, Item, ItemFn, Lit, Meta, ReturnType, Signature, Type};

use crate::options::Options;
use crate::params::{self, Kind, Parameter};
use crate::text::{Errors, source};

/// A function that passed every check.
pub(crate) struct Task {
    pub(crate) item: ItemFn,
    pub(crate) options: Options,
    pub(crate) params: Vec<Parameter>,
}

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    match read(options, item.clone()) {
        Ok(task) => task.expand(),
        Err(error) => error.into_compile_error(),
    }
}

fn read(options: TokenStream, item: TokenStream) -> syn::Result<Task> {
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    let mut item = match syn::parse2::<Item>(item)? {
        Item::Fn(item) => item,
        other => {
            let message =
                "`#[task]` goes on a function, such as `#[task] async fn add(x: i64, y: i64) -> i64 { … }`";
            errors.add(syn::Error::new(keyword_span(&other), message));
            errors.into_result()?;
            unreachable!("an error was just added")
        }
    };
    check_signature(&item.sig, &mut errors);
    let params = params::read(&mut item.sig.inputs, &mut errors);
    if let Some(same) = params.iter().find(|param| param.name == item.sig.ident) {
        errors.at(&same.name, "a parameter cannot have the name of its task; give it another one");
    }
    errors.into_result()?;
    Ok(Task { item, options, params })
}

/// The first token of an item that says what it is.
fn keyword_span(item: &Item) -> Span {
    match item {
        Item::Struct(item) => item.struct_token.span(),
        Item::Enum(item) => item.enum_token.span(),
        Item::Impl(item) => item.impl_token.span(),
        Item::Mod(item) => item.mod_token.span(),
        Item::Trait(item) => item.trait_token.span(),
        other => other.span(),
    }
}

fn check_signature(signature: &Signature, errors: &mut Errors) {
    let Signature { constness, unsafety, abi, generics, variadic, output, .. } = signature;
    if let Some(token) = constness {
        errors.at(token, "a task runs on a worker and cannot be `const`: take it out");
    }
    if let Some(token) = unsafety {
        errors.at(
            token,
            "a task is called by the worker and cannot be `unsafe`: put an `unsafe` block in its body",
        );
    }
    if let Some(abi) = abi {
        errors.at(abi, "a task is a Rust function: take out `extern`");
    }
    if let Some(variadic) = variadic {
        errors.at(variadic, "a task's parameters have a name and a type: write `#[rest] arguments: Vec<i64>` in place of `...`");
    }
    if !generics.params.is_empty() {
        let message =
            "a task cannot be generic, because its name stands for one function: write one task per type";
        errors.at(&generics.params, message);
    }
    if let Some(clause) = &generics.where_clause {
        errors.at(clause, "a task cannot be generic: take out the `where` clause");
    }
    if let ReturnType::Type(_, ty) = output {
        params::check_type(ty, errors);
    }
}

impl Task {
    pub(crate) fn return_type(&self) -> Option<&Type> {
        match &self.item.sig.output {
            ReturnType::Type(_, ty) => Some(ty),
            ReturnType::Default => None,
        }
    }

    /// Whether the return type is called `Result`, whatever stands before the name.
    pub(crate) fn is_fallible(&self) -> bool {
        let Some(Type::Path(path)) = self.return_type() else { return false };
        path.path.segments.last().is_some_and(|last| last.ident == "Result")
    }

    pub(crate) fn description(&self) -> String {
        let lines = self.item.attrs.iter().filter_map(|attr| match &attr.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        let lines: Vec<String> =
            lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned()).collect();
        lines.join("\n").trim().to_owned()
    }

    /// The parameters that take an argument.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Parameter> {
        self.params.iter().filter(|param| param.is_argument())
    }

    /// The parameters that can be given by keyword.
    pub(crate) fn keyword_arguments(&self) -> impl Iterator<Item = &Parameter> {
        self.params.iter().filter(|param| matches!(param.kind, Kind::Argument { .. }))
    }

    /// The parameter that takes all remaining arguments, and the type of one.
    pub(crate) fn rest(&self) -> Option<(&Parameter, &Type)> {
        self.params.iter().find_map(|param| match &param.kind {
            Kind::Rest(element) => Some((param, element)),
            _ => None,
        })
    }

    /// `x: i64, y: i64 = 0, *others: i64`
    pub(crate) fn signature_text(&self) -> String {
        let params = self.arguments().map(|param| {
            let text = format!("{}: {}", param.name.unraw(), source(param.argument_type()));
            match param.default_text() {
                Some(default) => format!("{text} = {default}"),
                None if matches!(param.kind, Kind::Rest(_)) => format!("*{text}"),
                None => text,
            }
        });
        params.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn private(&self) -> TokenStream {
        let krate = &self.options.krate;
        quote!(#krate::__private)
    }

    pub(crate) fn names(&self) -> Names {
        let task = self.item.sig.ident.unraw();
        let here = task.span();
        Names {
            arguments: format_ident!("arguments_of_{task}", span = here),
            call: format_ident!("call_of_{task}", span = here),
            keyword: format_ident!("keyword_of_{task}", span = here),
            with: format_ident!("keywords_of_{task}", span = here),
        }
    }

    /// What the function returns when it succeeds.
    pub(crate) fn output(&self) -> TokenStream {
        let private = self.private();
        match self.return_type() {
            None => quote!(()),
            Some(ty) if self.is_fallible() => {
                quote_spanned!(ty.span()=> <#ty as #private::Fallible>::Success)
            }
            Some(ty) => ty.to_token_stream(),
        }
    }

    /// The parameters as a list of types.
    pub(crate) fn slots(&self) -> TokenStream {
        let private = self.private();
        let params: Vec<&Parameter> = self.keyword_arguments().collect();
        let end = match self.rest() {
            Some((_, element)) => quote!(#private::Variadic<#element>),
            None => quote!(#private::Nil),
        };
        params.iter().rev().fold(end, |rest, param| {
            let ty = &param.ty;
            let slot = if param.default_text().is_some() { quote!(May) } else { quote!(Need) };
            quote!(#private::Cons<#private::#slot<#ty>, #rest>)
        })
    }

    /// The type that says which parameter it is.
    pub(crate) fn place(&self, place: usize) -> TokenStream {
        let private = self.private();
        (0..place).fold(quote!(#private::First), |inner, _| quote!(#private::After<#inner>))
    }
}

/// The names that an expansion adds, hidden in a block.
pub(crate) struct Names {
    pub(crate) arguments: Ident,
    pub(crate) call: Ident,
    pub(crate) keyword: Ident,
    pub(crate) with: Ident,
}

impl Parameter {
    /// Whether arguments of a call go there.
    pub(crate) fn is_argument(&self) -> bool {
        matches!(self.kind, Kind::Argument { .. } | Kind::Rest(_))
    }

    /// The type of the argument, or of each.
    pub(crate) fn argument_type(&self) -> &Type {
        match &self.kind {
            Kind::Rest(element) => element,
            _ => &self.ty,
        }
    }

    pub(crate) fn default_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Argument { default: Some(default) } => Some(&default.text),
            _ => None,
        }
    }
}

/// A text for `#[diagnostic::on_unimplemented]`, which reads braces.
pub(crate) fn escape(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}
