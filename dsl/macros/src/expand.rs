//! What `#[task]` expands to: the value, its methods, and the traits whose messages name the task.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Ident, Signature};

use crate::call;
use crate::task::{Names, Task, escape};

impl Task {
    pub(crate) fn expand(&self) -> TokenStream {
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
        let vis = &self.item.vis;
        let attrs = self.item.attrs.iter().filter(|attr| !attr.path().is_ident("cfg"));
        let Signature { asyncness, fn_token, inputs, output, .. } = &self.item.sig;
        let block = &self.item.block;
        let method = Ident::new("call", ident.span());
        quote! {
            impl #ident {
                #(#attrs)*
                #[allow(clippy::too_many_arguments, clippy::unused_async)]
                #vis #asyncness #fn_token #method(self, #inputs) #output #block
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
        // As visible as the function, here and for the keywords: its types may be no more visible than that.
        let vis = &self.item.vis;
        let task = self.item.sig.ident.unraw();
        let Names { arguments, call, .. } = self.names();
        let slots = self.slots();
        let params = format!("`{task}` takes `({})`", escape(&self.signature_text()));
        let message = format!("`{task}` cannot take the arguments `{{Self}}`");
        let label = format!("wrong arguments for `{task}`");
        let trailing = self.binding();
        let keywords = "positional arguments cannot jump over a parameter that is given by keyword";
        let complete = format!("`{{Self}}` is not what one call of `{task}` needs");
        let needs = format!("not the arguments of `{task}`");
        let all = "`.si`, `.starmap` and `.chunks` take a value for every required parameter, `.map` for the only one";
        quote! {
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #params, note = #trailing, note = #keywords)]
            #vis trait #arguments<In, M, S = #slots> {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError>;
            }
            #[diagnostic::do_not_recommend]
            impl<A: #private::Bind<S::Reach, M, Missing = In>, In, M, S: #private::Positional> #arguments<In, M, S> for A {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError> {
                    self.bind()
                }
            }

            #[diagnostic::on_unimplemented(message = #complete, label = #needs, note = #params, note = #all)]
            #vis trait #call<M, S = #slots> {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError>;
            }
            #[diagnostic::do_not_recommend]
            impl<A, M, S: #private::Positional> #call<M, S> for A
            where
                A: #private::Bind<S::Reach, M>,
                A::Missing: #private::Complete,
            {
                fn __bind(self) -> ::core::result::Result<::std::vec::Vec<#private::Json>, #private::BindError> {
                    self.bind()
                }
            }
        }
    }

    /// Which parameters positional arguments bind.
    fn binding(&self) -> String {
        let last = "one value or a tuple binds the last required parameters; those before them stay open for the result \
                    of what comes before";
        match self.rest() {
            None => last.to_owned(),
            Some((rest, _)) if self.keyword_arguments().next().is_none() => format!(
                "one value or a tuple of up to eight goes to `*{0}`; `.partial(...)` puts more in front",
                rest.name.unraw()
            ),
            Some((rest, _)) => {
                format!("{last}; when all others are bound, arguments go to `*{}`", rest.name.unraw())
            }
        }
    }

    /// The type behind `add.with()`, and the keys that the task has.
    fn keywords(&self) -> TokenStream {
        let private = self.private();
        let vis = &self.item.vis;
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
        let positional = self.rest().map(|(rest, _)| {
            let text = format!("what goes to `*{}` is written without a keyword", rest.name.unraw());
            quote!(, note = #text)
        });
        let keys = self.keyword_arguments().enumerate().map(|(place, param)| {
            let (name, ty) = (param.name.unraw().to_string(), &param.ty);
            let (key, place) = (call::key(&private, &param.name), self.place(place));
            let value = quote_spanned!(ty.span()=> type Value = #ty;);
            quote! {
                impl #keyword for #key {
                    type Place = #place;
                    #value
                    const NAME: &'static str = #name;
                }
            }
        });
        let by_name = self.keyword_arguments().enumerate().filter_map(|(place, param)| {
            let name = &param.name;
            if ["s", "si", "keyword"].contains(&name.unraw().to_string().as_str()) {
                return None;
            }
            let (ty, key, place) = (&param.ty, call::key(&private, name), self.place(place));
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
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #params #positional)]
            #vis trait #keyword {
                type Place;
                type Value;
                const NAME: &'static str;
            }
            #(#keys)*

            #[derive(::core::fmt::Debug)]
            #vis struct #with<S>(#private::Keywords<S>);

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
}
