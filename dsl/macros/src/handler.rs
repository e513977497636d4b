//! The way from a worker's JSON to the function and back: `impl Task`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Ident;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use crate::params::Kind;
use crate::task::Task;
use crate::text::source;

impl Task {
    /// `impl Task`, and the way from JSON arguments to the function.
    pub(crate) fn implementation(&self) -> TokenStream {
        let private = self.private();
        let ident = &self.item.sig.ident;
        let short = ident.unraw().to_string();
        let output = self.output();
        let output = quote_spanned!(self.returned()=> type Output = #output;);
        let name = self.name();
        let description = self.description();
        let count = self.arguments().count();
        let params = self.arguments().map(|param| {
            let (name, ty, default) =
                (param.name.unraw().to_string(), source(param.argument_type()), param.default_text());
            let rest = matches!(param.kind, Kind::Rest(_));
            let default = match default {
                Some(text) => quote!(::core::option::Option::Some(#text)),
                None => quote!(::core::option::Option::None),
            };
            quote!(#private::Param { name: #name, type_name: #ty, default: #default, rest: #rest })
        });
        let states = self.params.iter().filter_map(|param| match &param.kind {
            Kind::State(ty) => Some(quote_spanned!(ty.span()=> #private::StateType::of::<#ty>())),
            _ => None,
        });
        let handler = self.handler();
        let declared = self.options.declared(&private);
        quote! {
            static __PARAMS: [#private::Param; #count] = [#(#params),*];

            impl #private::Task for #ident {
                const NAME: &'static str = #name;
                #output

                fn name() -> #private::TaskName {
                    static __NAME: #private::OnceLock<#private::TaskName> = #private::OnceLock::new();
                    #private::name_of::<#ident>(&__NAME)
                }

                fn declared() -> &'static #private::Options {
                    #declared
                }

                fn definition() -> #private::TaskDef {
                    #private::TaskDef {
                        name: <#ident as #private::Task>::name(),
                        params: &__PARAMS,
                        states: ::std::vec![#(#states),*],
                        options: <#ident as #private::Task>::declared().clone(),
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
                Kind::Rest(element) => quote_spanned!(ty.span()=> __slots.rest::<#element>()?),
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
        let returned = self.returned();
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

    /// Where messages about the result point.
    fn returned(&self) -> Span {
        self.return_type().map_or(self.item.sig.ident.span(), |ty| ty.span())
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
}
