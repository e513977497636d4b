//! `#[task]`: reading the function, and what it expands to.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Ident, Item, ItemFn, Lit, Meta, ReturnType, Signature, Type};

use crate::options::Options;
use crate::params::{self, Kind, Parameter};
use crate::text::{Errors, source};

/// A function that passed every check.
struct Task {
    item: ItemFn,
    options: Options,
    params: Vec<Parameter>,
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
        errors.at(variadic, "a task has a fixed number of parameters: take a `Vec` in place of `...`");
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
    fn expand(&self) -> TokenStream {
        let ident = &self.item.sig.ident;
        let vis = &self.item.vis;
        let cfgs: Vec<&Attribute> =
            self.item.attrs.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
        let docs = self.item.attrs.iter().filter(|attr| attr.path().is_ident("doc"));
        let about = format!("The task `{}({})`.", ident.unraw(), self.signature_text());
        let call = self.call();
        let (methods, implementation) = (self.methods(), self.implementation());
        quote! {
            #(#cfgs)*
            #(#docs)*
            #[doc = ""]
            #[doc = #about]
            #[allow(non_camel_case_types)]
            #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
            #vis struct #ident;

            #(#cfgs)*
            #call

            #(#cfgs)*
            #[allow(non_camel_case_types, missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
            const _: () = {
                #methods
                #implementation
            };
        }
    }

    /// The user's function, as a method outside the block with our names.
    fn call(&self) -> TokenStream {
        let ident = &self.item.sig.ident;
        let attrs = self.item.attrs.iter().filter(|attr| !attr.path().is_ident("cfg"));
        let Signature { asyncness, fn_token, inputs, output, .. } = &self.item.sig;
        let block = &self.item.block;
        let method = Ident::new("call", ident.span());
        quote! {
            impl #ident {
                #(#attrs)*
                #[allow(clippy::too_many_arguments, clippy::unused_async)]
                pub #asyncness #fn_token #method(self, #inputs) #output #block
            }
        }
    }

    /// `s`, `si`, `map` and so on, and the traits whose messages name this task's parameters.
    fn methods(&self) -> TokenStream {
        let ident = &self.item.sig.ident;
        let private = self.private();
        let output = self.output();
        let slots = self.slots();
        let keywords = self.keywords();
        let messages = self.messages();
        let Names { arguments, call, with, .. } = self.names();
        // "required by a bound" then points at the function, not at the attribute.
        let here = ident.span();
        let fits = quote_spanned!(here=> A: #arguments<In, M>);
        let item_fits = quote_spanned!(here=> I::Item: #call<#private::Bare>);
        let row_fits =
            quote_spanned!(here=> <I::Item as #private::Row>::Arguments: #call<#private::Spread<M>>);
        let rows = quote_spanned!(here=> I::Item: #private::Row);
        let complete = quote_spanned!(here=> A: #call<M>);
        quote! {
            #messages
            #keywords

            impl #ident {
                /// A signature with some or all arguments, Celery's `.s(…)`: one value, or a tuple. They bind the last
                /// required parameters; the ones before them come from the canvas before.
                pub fn s<A, In, M>(self, __arguments: A) -> #private::Flow<In, #output>
                where
                    #fits
                {
                    self.with().__s(<A as #arguments<In, M>>::__bind(__arguments))
                }

                /// A signature that ignores the result of what comes before, Celery's `.si(…)`.
                pub fn si<A, M>(self, __arguments: A) -> #private::Flow<#private::Ignored, #output>
                where
                    #complete
                {
                    self.with().__si(<A as #call<M>>::__bind(__arguments))
                }

                /// Keyword arguments by name, and then `.s(…)` or `.si(…)`.
                pub fn with(self) -> #with<#slots> {
                    #with(#private::Keywords::new())
                }

                /// One call for every item, one after the other in one leaf.
                pub fn map<I>(self, __items: I) -> #private::Flow<#private::Ignored, ::std::vec::Vec<#output>>
                where
                    I: ::core::iter::IntoIterator,
                    #item_fits
                {
                    #private::map::<#ident>(::core::iter::Iterator::map(::core::iter::IntoIterator::into_iter(__items), <I::Item as #call<#private::Bare>>::__bind))
                }

                /// One call for every tuple of arguments, one after the other in one leaf.
                pub fn starmap<I, M>(self, __rows: I) -> #private::Flow<#private::Ignored, ::std::vec::Vec<#output>>
                where
                    I: ::core::iter::IntoIterator,
                    #rows,
                    #row_fits
                {
                    let __calls = ::core::iter::IntoIterator::into_iter(__rows)
                        .map(|__row| #call::<#private::Spread<M>>::__bind(#private::Row::into_arguments(__row)));
                    #private::starmap::<#ident>(__calls)
                }

                /// A starmap in parts of `size` rows that run in parallel.
                pub fn chunks<I, M>(
                    self,
                    __rows: I,
                    __size: usize,
                ) -> #private::Flow<#private::Ignored, ::std::vec::Vec<::std::vec::Vec<#output>>>
                where
                    I: ::core::iter::IntoIterator,
                    #rows,
                    #row_fits
                {
                    let __calls = ::core::iter::IntoIterator::into_iter(__rows)
                        .map(|__row| #call::<#private::Spread<M>>::__bind(#private::Row::into_arguments(__row)));
                    #private::chunks::<#ident>(__calls, __size)
                }
            }
        }
    }

    /// The traits that stand between a call and the general rules: only they can name the task in an error.
    fn messages(&self) -> TokenStream {
        let private = self.private();
        let task = self.item.sig.ident.unraw();
        let Names { arguments, call, .. } = self.names();
        let slots = self.slots();
        let params = format!("`{task}` takes `({})`", escape(&self.signature_text()));
        let message = format!("`{task}` cannot take the arguments `{{Self}}`");
        let label = format!("wrong arguments for `{task}`");
        let trailing = "one value or a tuple binds the last required parameters; those before them stay open for the \
                        result of what comes before";
        let keywords = "positional arguments cannot jump over a parameter that is given by keyword";
        let complete = format!("`{{Self}}` is not what one call of `{task}` needs");
        let needs = format!("not the arguments of `{task}`");
        let all = "`.si`, `.starmap` and `.chunks` take a value for every required parameter, `.map` for the only one";
        quote! {
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #params, note = #trailing, note = #keywords)]
            pub trait #arguments<In, M, S = #slots> {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError>;
            }
            #[diagnostic::do_not_recommend]
            impl<A: #private::Bind<S::Reach, M, Missing = In>, In, M, S: #private::Positional> #arguments<In, M, S> for A {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError> {
                    self.bind()
                }
            }

            #[diagnostic::on_unimplemented(message = #complete, label = #needs, note = #params, note = #all)]
            pub trait #call<M, S = #slots> {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError>;
            }
            #[diagnostic::do_not_recommend]
            impl<A: #private::Bind<S::Reach, M, Missing = ()>, M, S: #private::Positional> #call<M, S> for A {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError> {
                    self.bind()
                }
            }
        }
    }

    /// The type behind `add.with()`, and the keys that the task has.
    fn keywords(&self) -> TokenStream {
        let private = self.private();
        let ident = &self.item.sig.ident;
        let task = ident.unraw();
        let output = self.output();
        let Names { arguments, call, keyword, with } = self.names();
        let here = ident.span();
        let fits = quote_spanned!(here=> A: #arguments<In, M, S>);
        let complete = quote_spanned!(here=> A: #call<M, S>);
        let message = format!("`{task}` has no parameter of this name");
        let label = "unknown keyword";
        let params = format!("`{task}` takes `({})`", escape(&self.signature_text()));
        let keys = self.arguments().enumerate().map(|(place, param)| {
            let (name, ty) = (param.name.unraw().to_string(), &param.ty);
            let (key, place) = (crate::call::key(&private, &param.name), self.place(place));
            quote! {
                impl #keyword for #key {
                    type Place = #place;
                    type Value = #ty;
                    const NAME: &'static str = #name;
                }
            }
        });
        let by_name = self.arguments().enumerate().filter_map(|(place, param)| {
            let name = &param.name;
            if ["s", "si", "keyword"].contains(&name.unraw().to_string().as_str()) {
                return None;
            }
            let (ty, key, place) = (&param.ty, crate::call::key(&private, name), self.place(place));
            let doc = format!("Gives `{}` by keyword.", name.unraw());
            Some(quote! {
                #[doc = #doc]
                pub fn #name<A, Taken>(self, __value: A) -> #with<Taken>
                where
                    A: #private::Arg<#ty>,
                    S: #private::Take<#place, Taken>,
                {
                    self.keyword::<#key, A, Taken>(__value)
                }
            })
        });
        quote! {
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #params)]
            pub trait #keyword {
                type Place;
                type Value;
                const NAME: &'static str;
            }
            #(#keys)*

            #[derive(::core::fmt::Debug)]
            pub struct #with<S>(#private::Keywords<S>);

            impl<S> #with<S> {
                /// Gives a parameter by keyword.
                pub fn keyword<K, A, Taken>(self, __value: A) -> #with<Taken>
                where
                    K: #keyword,
                    A: #private::Arg<K::Value>,
                    S: #private::Take<K::Place, Taken>,
                {
                    #with(self.0.with::<K::Value, Taken, A>(<#ident as #private::Task>::NAME, K::NAME, __value))
                }

                #(#by_name)*

                /// A signature with these keywords and further arguments; `()` for none.
                pub fn s<A, In, M>(self, __arguments: A) -> #private::Flow<In, #output>
                where
                    #fits
                {
                    self.__s(<A as #arguments<In, M, S>>::__bind(__arguments))
                }

                /// The same, ignoring the result of what comes before.
                pub fn si<A, M>(self, __arguments: A) -> #private::Flow<#private::Ignored, #output>
                where
                    #complete
                {
                    self.__si(<A as #call<M, S>>::__bind(__arguments))
                }

                fn __s<In>(
                    self,
                    __arguments: ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError>,
                ) -> #private::Flow<In, #output> {
                    #private::signature::<#ident, In, S>(self.0, __arguments, false)
                }

                fn __si(
                    self,
                    __arguments: ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError>,
                ) -> #private::Flow<#private::Ignored, #output> {
                    #private::signature::<#ident, #private::Ignored, S>(self.0, __arguments, true)
                }
            }
        }
    }

    /// `impl Task`, and the way from JSON arguments to the function.
    fn implementation(&self) -> TokenStream {
        let private = self.private();
        let ident = &self.item.sig.ident;
        let short = ident.unraw().to_string();
        let output = self.output();
        let name = self.name();
        let description = self.description();
        let count = self.arguments().count();
        let params = self.arguments().map(|param| {
            let (name, ty, default) =
                (param.name.unraw().to_string(), source(&param.ty), param.default_text());
            let default = match default {
                Some(text) => quote!(::core::option::Option::Some(#text)),
                None => quote!(::core::option::Option::None),
            };
            quote!(#private::Param { name: #name, type_name: #ty, default: #default })
        });
        let states = self.params.iter().filter_map(|param| match &param.kind {
            Kind::State(ty) => Some(quote_spanned!(ty.span()=> #private::StateType::of::<#ty>())),
            _ => None,
        });
        let handler = self.handler();
        quote! {
            static __PARAMS: [#private::Param; #count] = [#(#params),*];

            impl #private::Task for #ident {
                const NAME: &'static str = #name;
                type Output = #output;

                fn name() -> #private::TaskName {
                    static __NAME: #private::OnceLock<#private::TaskName> = #private::OnceLock::new();
                    #private::name_of::<#ident>(&__NAME)
                }

                fn definition() -> #private::TaskDef {
                    #private::TaskDef {
                        name: <#ident as #private::Task>::name(),
                        params: &__PARAMS,
                        states: ::std::vec![#(#states),*],
                        handler: #handler,
                        description: #description,
                    }
                }
            }
        }
        .into_iter()
        .chain(self.read(&short))
        .collect()
    }

    /// The function that puts JSON arguments, context and states in the order of the parameters.
    fn read(&self, short: &str) -> TokenStream {
        let private = self.private();
        let types = self.params.iter().map(|param| &param.ty);
        let mut place = 0usize;
        let values = self.params.iter().map(|param| {
            let ty = &param.ty;
            match &param.kind {
                Kind::Context => quote!(__context.clone()),
                Kind::State(state) => quote!(__context.state::<#state>()?),
                Kind::Argument { default } => {
                    let this = place;
                    place += 1;
                    match default {
                        None => quote_spanned!(ty.span()=> __slots.required::<#ty>(#this)?),
                        Some(default) => {
                            let value = &default.value;
                            quote_spanned!(ty.span()=> __slots.or_default::<#ty>(#this, || #value)?)
                        }
                    }
                }
            }
        });
        let values: Vec<TokenStream> = values.collect();
        quote! {
            #[allow(unused_variables)]
            fn __read(
                __context: &#private::TaskContext,
                __arguments: &#private::Arguments,
            ) -> ::core::result::Result<(#(#types,)*), #private::TaskError> {
                let __slots = __arguments.slots(#short, &__PARAMS)?;
                ::core::result::Result::Ok((#(#values,)*))
            }
        }
    }

    fn handler(&self) -> TokenStream {
        let private = self.private();
        let ident = &self.item.sig.ident;
        let values: Vec<Ident> = (0..self.params.len()).map(|i| format_ident!("__value{i}")).collect();
        let output = self.output();
        let returned = self.return_type().map_or(ident.span(), |ty| ty.span());
        let is_async = self.item.sig.asyncness.is_some();
        let awaited = is_async.then(|| quote!(.await));
        let result = if self.is_fallible() {
            quote_spanned!(returned=> #private::fallible(__result))
        } else {
            quote!(::core::result::Result::Ok(__result))
        };
        let outcome = quote_spanned!(returned=> #private::outcome::<#output>);
        let body = quote! {
            let (#(#values,)*) = match __read(&__context, &__arguments) {
                ::core::result::Result::Ok(__values) => __values,
                ::core::result::Result::Err(__error) => return #private::Outcome::Failed(__error),
            };
            let __result = #ident.call(#(#values),*)#awaited;
            #outcome(#result)
        };
        let plain = self.check_plain();
        let (variant, returns, body) = if is_async {
            let future = quote_spanned!(ident.span()=> ::std::boxed::Box::pin(async move { #body }));
            (quote!(Async), quote!(#private::BoxFuture<'static, #private::Outcome>), future)
        } else {
            (quote!(Blocking), quote!(#private::Outcome), body)
        };
        quote! {{
            #plain
            fn __run(__context: #private::TaskContext, __arguments: #private::Arguments) -> #returns {
                #body
            }
            #private::Handler::#variant(__run)
        }}
    }

    /// Refuses a `Result` under another name: its errors would count as successes.
    fn check_plain(&self) -> Option<TokenStream> {
        let ty = self.return_type().filter(|_| !self.is_fallible())?;
        let private = self.private();
        let message = "this type is a `Result` under another name: write the return type as `Result<T, E>`, so that \
                       its errors fail the task";
        Some(quote_spanned! {ty.span()=>
            const _: () = {
                #[allow(unused_imports)]
                use #private::IsNot as _;
                ::core::assert!(!#private::Is::<#ty>::RESULT, #message);
            };
        })
    }

    fn return_type(&self) -> Option<&Type> {
        match &self.item.sig.output {
            ReturnType::Type(_, ty) => Some(ty),
            ReturnType::Default => None,
        }
    }

    /// Whether the return type is called `Result`, whatever stands before the name.
    fn is_fallible(&self) -> bool {
        let Some(Type::Path(path)) = self.return_type() else { return false };
        path.path.segments.last().is_some_and(|last| last.ident == "Result")
    }

    /// What the function returns when it succeeds.
    fn output(&self) -> TokenStream {
        let private = self.private();
        match self.return_type() {
            None => quote!(()),
            Some(ty) if self.is_fallible() => {
                quote_spanned!(ty.span()=> <#ty as #private::Fallible>::Success)
            }
            Some(ty) => ty.to_token_stream(),
        }
    }

    fn name(&self) -> TokenStream {
        if let Some(name) = &self.options.name {
            return name.to_token_stream();
        }
        let private = self.private();
        let ident = self.item.sig.ident.unraw().to_string();
        quote! {{
            const __PATH: &str = ::core::concat!(::core::module_path!(), "::", #ident);
            const __NAME: [u8; #private::dotted_len(__PATH)] = #private::dotted(__PATH);
            #private::checked(&__NAME)
        }}
    }

    fn description(&self) -> String {
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
    fn arguments(&self) -> impl Iterator<Item = &Parameter> {
        self.params.iter().filter(|param| matches!(param.kind, Kind::Argument { .. }))
    }

    /// `x: i64, y: i64, z: i64 = 0`
    fn signature_text(&self) -> String {
        let params = self.arguments().map(|param| {
            let text = format!("{}: {}", param.name.unraw(), source(&param.ty));
            param.default_text().map_or(text.clone(), |default| format!("{text} = {default}"))
        });
        params.collect::<Vec<_>>().join(", ")
    }

    /// The parameters as a list of types.
    fn slots(&self) -> TokenStream {
        let private = self.private();
        let params: Vec<&Parameter> = self.arguments().collect();
        params.iter().rev().fold(quote!(#private::Nil), |rest, param| {
            let ty = &param.ty;
            let slot = if param.default_text().is_some() { quote!(May) } else { quote!(Need) };
            quote!(#private::Cons<#private::#slot<#ty>, #rest>)
        })
    }

    /// The type that says which parameter it is.
    fn place(&self, place: usize) -> TokenStream {
        let private = self.private();
        (0..place).fold(quote!(#private::First), |inner, _| quote!(#private::After<#inner>))
    }

    fn private(&self) -> TokenStream {
        let krate = &self.options.krate;
        quote!(#krate::__private)
    }

    fn names(&self) -> Names {
        let task = self.item.sig.ident.unraw();
        let here = task.span();
        Names {
            arguments: format_ident!("arguments_of_{task}", span = here),
            call: format_ident!("call_of_{task}", span = here),
            keyword: format_ident!("keyword_of_{task}", span = here),
            with: format_ident!("keywords_of_{task}", span = here),
        }
    }
}

/// The names that an expansion adds, hidden in a block.
struct Names {
    arguments: Ident,
    call: Ident,
    keyword: Ident,
    with: Ident,
}

impl Parameter {
    fn default_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Argument { default: Some(default) } => Some(&default.text),
            _ => None,
        }
    }
}

/// A text for `#[diagnostic::on_unimplemented]`, which reads braces.
fn escape(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}
