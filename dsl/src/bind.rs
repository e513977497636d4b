//! Which arguments a task takes, and which of its parameters stay open.
//!
//! The result of what comes before a task is *prepended* to its arguments. So arguments bind the last required
//! parameters, and the open ones are the first: `mul.s(8)` leaves `x` open and binds `y`. When all required parameters
//! are bound, further arguments bind those with a default, and then go to the rest, if there is one (`variadic`).
//!
//! Which rule holds is chosen by the shape of the arguments. The choice is a type parameter (`Bare`, `Spread`) that is
//! always inferred: only one rule fits.

use std::marker::PhantomData;

use celeriac_primitives::{Json, JsonError};

use crate::arg::Arg;
use crate::list::{AsTuple, Cons, Nil, Reverse, Tuple};

/// A parameter without a default.
#[derive(Debug)]
pub struct Need<P>(PhantomData<P>);

/// A parameter with a default.
#[derive(Debug)]
pub struct May<P>(PhantomData<P>);

/// A parameter that a keyword has given.
#[derive(Debug)]
pub struct Given;

/// The parameters that positional arguments can reach: the required ones, the same backwards, and those with a default.
#[derive(Debug)]
pub struct Reach<Required, Reversed, Optional>(PhantomData<(Required, Reversed, Optional)>);

/// A list of parameters, some of them perhaps given by keyword.
pub trait Positional {
    /// Those in reach of positional arguments.
    type Reach;
}

impl Positional for Nil {
    type Reach = Reach<Nil, Nil, Nil>;
}

impl<P, Rest, Required: Reverse, Optional> Positional for Cons<P, Rest>
where
    Self: Split<Required = Required, Optional = Optional>,
{
    type Reach = Reach<Required, Required::Reversed, Optional>;
}

/// Parts the parameters into required and optional ones, up to the first that is given by keyword.
pub trait Split {
    /// Those without a default.
    type Required;
    /// Those with one.
    type Optional;
}

impl Split for Nil {
    type Required = Nil;
    type Optional = Nil;
}

impl<P, Rest: Split> Split for Cons<Need<P>, Rest> {
    type Required = Cons<P, Rest::Required>;
    type Optional = Rest::Optional;
}

impl<P, Rest: Split> Split for Cons<May<P>, Rest> {
    type Required = Rest::Required;
    type Optional = Cons<P, Rest::Optional>;
}

// A positional argument cannot jump over a parameter that is given by keyword: Python would give that one twice.
impl<Rest: NoneNeeded> Split for Cons<Given, Rest> {
    type Required = Nil;
    type Optional = Nil;
}

/// Parameters of which none is required any more.
pub trait NoneNeeded {}
impl NoneNeeded for Nil {}
impl<P, Rest: NoneNeeded> NoneNeeded for Cons<May<P>, Rest> {}
impl<Rest: NoneNeeded> NoneNeeded for Cons<Given, Rest> {}

/// Why an argument could not be bound: its place, and what the JSON writer says.
pub type BindError = (usize, JsonError);

/// Arguments that fit the parameters in reach.
pub trait Bind<Reach, Rule> {
    /// The parameters that stay open, as a tuple.
    type Missing;
    /// The arguments as JSON.
    fn bind(self) -> Result<Vec<Json>, BindError>;
}

/// One value that is no tuple of arguments.
#[derive(Debug)]
pub enum Bare {}

/// A tuple of arguments.
#[derive(Debug)]
pub struct Spread<Rule>(PhantomData<Rule>);

/// Arguments for the last required parameters.
#[derive(Debug)]
pub enum Trailing {}

/// Arguments for all required parameters and some with a default.
#[derive(Debug)]
pub enum Extended {}

pub(crate) fn one<P, A: Arg<P>>(argument: A) -> Result<Vec<Json>, BindError> {
    Ok(vec![argument.into_json().map_err(|error| (0, error))?])
}

impl<A: Arg<P>, P, Before: Reverse, Required, Optional> Bind<Reach<Required, Cons<P, Before>, Optional>, Bare>
    for A
where
    Before::Reversed: AsTuple,
{
    type Missing = <Before::Reversed as AsTuple>::Tuple;
    fn bind(self) -> Result<Vec<Json>, BindError> {
        one(self)
    }
}

impl<A: Arg<P>, P, Rest> Bind<Reach<Nil, Nil, Cons<P, Rest>>, Bare> for A {
    type Missing = ();
    fn bind(self) -> Result<Vec<Json>, BindError> {
        one(self)
    }
}

impl<A: Tuple, Required, Reversed, Optional> Bind<Reach<Required, Reversed, Optional>, Spread<Trailing>> for A
where
    A::Reversed: FromLast<Reversed>,
{
    type Missing = <A::Reversed as FromLast<Reversed>>::Missing;
    fn bind(self) -> Result<Vec<Json>, BindError> {
        let mut values = Vec::new();
        let place = |(from_last, error)| (A::LEN - 1 - from_last, error);
        self.into_reversed().push(&mut values).map_err(place)?;
        values.reverse();
        Ok(values)
    }
}

impl<A: Tuple, Required, Reversed, Optional> Bind<Reach<Required, Reversed, Optional>, Spread<Extended>> for A
where
    A::List: FromFirst<Required, Optional>,
{
    type Missing = ();
    fn bind(self) -> Result<Vec<Json>, BindError> {
        let mut values = Vec::new();
        self.into_list().push(&mut values)?;
        Ok(values)
    }
}

pub(crate) fn push<P, A: Arg<P>>(argument: A, values: &mut Vec<Json>) -> Result<(), BindError> {
    values.push(argument.into_json().map_err(|error| (values.len(), error))?);
    Ok(())
}

/// Arguments, the last one first, for required parameters, the last one first.
pub trait FromLast<Reversed> {
    /// The parameters that stay open, as a tuple.
    type Missing;
    /// Appends the values, the last one first.
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError>;
}

impl<Before: Reverse> FromLast<Before> for Nil
where
    Before::Reversed: AsTuple,
{
    type Missing = <Before::Reversed as AsTuple>::Tuple;
    fn push(self, _: &mut Vec<Json>) -> Result<(), BindError> {
        Ok(())
    }
}

impl<A: Arg<P>, P, As: FromLast<Ps>, Ps> FromLast<Cons<P, Ps>> for Cons<A, As> {
    type Missing = As::Missing;
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError> {
        push(self.0, values)?;
        self.1.push(values)
    }
}

/// Arguments for every required parameter and at least one with a default.
pub trait FromFirst<Required, Optional> {
    /// Appends the values.
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError>;
}

impl<A: Arg<P>, P, As, Ps, Optional> FromFirst<Cons<P, Ps>, Optional> for Cons<A, As>
where
    As: FromFirst<Ps, Optional>,
{
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError> {
        push(self.0, values)?;
        self.1.push(values)
    }
}

impl<A: Arg<P>, P, As: Defaults<Ps>, Ps> FromFirst<Nil, Cons<P, Ps>> for Cons<A, As> {
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError> {
        push(self.0, values)?;
        self.1.push(values)
    }
}

/// Arguments for some parameters with a default, perhaps none.
pub trait Defaults<Optional> {
    /// Appends the values.
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError>;
}

impl<Optional> Defaults<Optional> for Nil {
    fn push(self, _: &mut Vec<Json>) -> Result<(), BindError> {
        Ok(())
    }
}

impl<A: Arg<P>, P, As: Defaults<Ps>, Ps> Defaults<Cons<P, Ps>> for Cons<A, As> {
    fn push(self, values: &mut Vec<Json>) -> Result<(), BindError> {
        push(self.0, values)?;
        self.1.push(values)
    }
}

/// An item of a starmap: one call's arguments, as a tuple or an array.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of arguments",
    label = "an item should be a tuple, such as `(1, 2)`",
    note = "`map` takes one argument per item; `starmap` and `chunks` take a tuple of arguments per item"
)]
pub trait Row {
    /// The arguments as a tuple.
    type Arguments;
    /// The arguments as a tuple.
    fn into_arguments(self) -> Self::Arguments;
}

macro_rules! rows {
    ($($count:literal ($($name:ident)*) ($($same:ident)*))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($name),*> Row for ($($name,)*) {
            type Arguments = Self;
            fn into_arguments(self) -> Self {
                self
            }
        }
        #[diagnostic::do_not_recommend]
        impl<T> Row for [T; $count] {
            type Arguments = ($($same,)*);
            #[allow(non_snake_case, reason = "the values have the names of the types")]
            fn into_arguments(self) -> Self::Arguments {
                let [$($name),*] = self;
                ($($name,)*)
            }
        }
    )*};
}
rows! {
    1 (A) (T)
    2 (A B) (T T)
    3 (A B C) (T T T)
    4 (A B C D) (T T T T)
    5 (A B C D E) (T T T T T)
    6 (A B C D E F) (T T T T T T)
    7 (A B C D E F G) (T T T T T T T)
    8 (A B C D E F G H) (T T T T T T T T)
}
