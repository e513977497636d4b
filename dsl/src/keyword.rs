//! Keyword arguments, checked by name and type.
//!
//! `canvas!(add.s(4, y = 4))` becomes `add.with().keyword::<Key<'y'>, _>(4).s(4)`. `#[task]` says which keys its task
//! has; here stands what is the same for all tasks: a key as a type, and taking a parameter off the list of the open
//! ones.

use std::marker::PhantomData;

use celeriac_primitives::Kwargs;

use crate::arg::Arg;
use crate::bind::{Given, May, Need};
use crate::flow::FlowError;
use crate::list::Cons;

macro_rules! key {
    ($($letter:ident)*) => {
        /// A keyword as a type, readable in error messages: `y` is `Key<'y'>`. `REST` is a hash of the letters after
        /// the sixteenth.
        #[derive(Debug)]
        pub struct Key<$(const $letter: char = '\0',)* const REST: u64 = 0>;
    };
}
key! { A B C D E F G H I J K L M N O P }

/// The first parameter.
#[derive(Debug)]
pub enum First {}

/// The parameter one further than `I`.
#[derive(Debug)]
pub struct After<I>(PhantomData<I>);

/// A list of parameters of which the one at `Place` can be given; `Taken` is the list afterwards.
#[diagnostic::on_unimplemented(
    message = "this parameter is given twice",
    label = "has a value already",
    note = "every parameter is given once: by place or by keyword"
)]
pub trait Take<Place, Taken> {}

#[diagnostic::do_not_recommend]
impl<S: NotGiven, Rest> Take<First, Cons<Given, Rest>> for Cons<S, Rest> {}

#[diagnostic::do_not_recommend]
impl<S, Rest: Take<Place, Taken>, Place, Taken> Take<After<Place>, Cons<S, Taken>> for Cons<S, Rest> {}

/// A parameter without a value.
pub trait NotGiven {}
impl<P> NotGiven for Need<P> {}
impl<P> NotGiven for May<P> {}

/// Keyword arguments so far; `S` are the parameters, those that are given marked.
#[derive(Debug)]
pub struct Keywords<S> {
    pub(crate) kwargs: Kwargs,
    pub(crate) error: Option<FlowError>,
    parameters: PhantomData<fn() -> S>,
}

impl<S> Keywords<S> {
    /// None yet.
    #[expect(clippy::new_without_default, reason = "only generated code makes one")]
    pub fn new() -> Self {
        Self { kwargs: Kwargs::new(), error: None, parameters: PhantomData }
    }

    /// One more.
    pub fn with<P, Taken, A: Arg<P>>(
        mut self,
        task: &'static str,
        keyword: &'static str,
        value: A,
    ) -> Keywords<Taken> {
        match value.into_json() {
            Ok(value) => {
                self.kwargs.insert(keyword.to_owned(), value);
            }
            Err(source) => {
                let error = FlowError::argument(task, format!("keyword argument `{keyword}`"), source);
                self.error.get_or_insert(error);
            }
        }
        Keywords { kwargs: self.kwargs, error: self.error, parameters: PhantomData }
    }
}
