//! Tasks that take any number of arguments, Python's `*args`.
//!
//! One type stands for them wherever a rule asks: [`Variadic<P>`](Variadic) ends the list of a task's parameters, and
//! where nothing is before it, it also is what such a task still takes. However many arguments are bound, one more in
//! front fits, and none is needed.

use std::marker::PhantomData;

use celeriac_primitives::{Failure, Json};

use crate::arg::Arg;
use crate::bind::{
    Bare, Bind, BindError, Defaults, Extended, FromFirst, NoneNeeded, Positional, Split, Spread, one, push,
};
use crate::chain::Repeats;
use crate::flow::{Grouped, Ignored, One};
use crate::group::Unify;
use crate::list::{Cons, Nil, Tuple};
use crate::wiring::{Accepts, Callback, Complete, Errback, Fits, PartialArguments};

/// The input of a flow that starts with a task of any number of arguments: it takes what comes before as one more `P`
/// in front, and runs by itself, too.
///
/// ```
/// # extern crate celeriac_dsl as celeriac;
/// use celeriac::{Flow, Variadic, canvas, task};
///
/// #[task(name = "proj.tasks.xsum")]
/// async fn xsum(#[rest] numbers: Vec<i64>) -> i64 {
///     numbers.iter().sum()
/// }
///
/// let alone: Flow<Variadic<i64>, i64> = canvas!(xsum.s(1, 2));
/// let piped: Flow<Variadic<i64>, i64> = canvas!(xsum.s(1, 2) | xsum.s() | xsum.s(3, 4));
/// ```
///
/// A task with parameters before the `#[rest]` has its usual inputs: required ones stay open, and arguments go to the
/// rest when all others have theirs.
#[derive(Debug)]
pub struct Variadic<P>(PhantomData<P>);

// The end of a task's parameters.

impl<P> Split for Variadic<P> {
    type Required = Nil;
    type Optional = Self;
}

impl<P> NoneNeeded for Variadic<P> {}

impl<A: Arg<P>, P, As: Defaults<Variadic<P>>> FromFirst<Nil, Variadic<P>> for Cons<A, As> {
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError> {
        Defaults::<Variadic<P>>::push(self, values)
    }
}

impl<A: Arg<P>, P, As: Defaults<Variadic<P>>> Defaults<Variadic<P>> for Cons<A, As> {
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError> {
        push(self.0, values)?;
        self.1.push(values)
    }
}

// All of a task's parameters.

impl<P> Positional for Variadic<P> {
    type Reach = Self;
}

impl<A: Arg<P>, P> Bind<Variadic<P>, Bare> for A {
    type Missing = Variadic<P>;
    fn bind(self) -> Result<Vec<Json>, BindError> {
        one(self)
    }
}

impl<A: Tuple, P> Bind<Variadic<P>, Spread<Extended>> for A
where
    A::List: Defaults<Variadic<P>>,
{
    type Missing = Variadic<P>;
    fn bind(self) -> Result<Vec<Json>, BindError> {
        let mut values = Vec::new();
        self.into_list().push(&mut values)?;
        Ok(values)
    }
}

// The input of a flow.

#[diagnostic::do_not_recommend]
impl<P> Complete for Variadic<P> {}
// Recommended, so that a result of another type is explained by `Fits`.
impl<T: Fits<P>, P> Accepts<T> for Variadic<P> {}
#[diagnostic::do_not_recommend]
impl<T: Fits<P>, P> Callback<T, One> for Variadic<P> {}
#[diagnostic::do_not_recommend]
impl<T, P> Callback<T, Grouped> for Variadic<P> {}
#[diagnostic::do_not_recommend]
impl<P> Errback for Variadic<P> where Failure: Fits<P> {}

#[diagnostic::do_not_recommend]
impl<P> Repeats<P> for Variadic<P> {
    // Nothing may come before it, and then there is nothing to hand on.
    const HANDS_ON: bool = false;
}

#[diagnostic::do_not_recommend]
impl<A: Bind<Variadic<P>, M>, P, M> PartialArguments<Variadic<P>, Variadic<P>, M> for A {
    fn bind(self) -> Result<Vec<Json>, BindError> {
        Bind::bind(self)
    }
}

// A member of a group takes the input of the others, or like them none.

impl<P> Unify<Variadic<P>> for Variadic<P> {
    type Input = Self;
}
impl<P> Unify<Ignored> for Variadic<P> {
    type Input = Self;
}
impl<P> Unify<()> for Variadic<P> {
    type Input = ();
}
impl<P> Unify<Variadic<P>> for () {
    type Input = ();
}
impl<T: Fits<P>, P> Unify<(T,)> for Variadic<P> {
    type Input = (T,);
}
impl<T: Fits<P>, P> Unify<Variadic<P>> for (T,) {
    type Input = (T,);
}
