//! Which output fits which input.
//!
//! Every trait here is a sentence that the compiler says when a canvas is wired wrongly.

use std::collections::{BTreeMap, HashMap};

use celeriac_primitives::{Entry, Failure, Json};
use serde_json::Value;

use crate::bind::{Bind, BindError, Reach};
use crate::flow::{Grouped, Ignored, One, Tolerant};
use crate::list::{Nil, Tuple};

/// Missing inputs to which the result `T` can be given.
#[diagnostic::on_unimplemented(
    message = "what comes next misses more than one input: `{Self}`",
    label = "misses `{Self}`, but gets one value",
    note = "bind all but the first parameter: `add.s(8)` binds the last one"
)]
pub trait Accepts<T> {}

#[diagnostic::do_not_recommend]
impl<T> Accepts<T> for Ignored {}
impl<T: Fits<P>, P> Accepts<T> for (P,) {}
impl<T: NoInput> Accepts<T> for () {}

/// Never: a task whose arguments are all bound has no place for a result.
#[diagnostic::on_unimplemented(
    message = "what comes next has all its arguments and cannot take a result, here `{Self}`",
    label = "takes no input",
    note = "to ignore the result, write `.si(...)`; to take it, leave the first parameter open: `mul.s(8)`"
)]
pub trait NoInput {}

/// A result that can be given for an input of type `P`: their JSON forms are the same.
#[diagnostic::on_unimplemented(
    message = "what comes next takes `{P}`, but is given `{Self}`",
    label = "takes `{P}`, is given `{Self}`",
    note = "the result of what comes before is the first argument; a group gives the list of its members' results, \
            `Vec<T>` or a tuple"
)]
pub trait Fits<P> {}

#[diagnostic::do_not_recommend]
impl<T> Fits<T> for T {}
#[diagnostic::do_not_recommend]
impl<T> Fits<Option<T>> for T {}

// A `Value` or a `Json` takes whatever there is.
macro_rules! fit_value {
    ($($type:ty),* $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        impl Fits<Value> for $type {}
        #[diagnostic::do_not_recommend]
        impl Fits<Json> for $type {}
    )*};
}
fit_value!((), bool, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, String, Failure);
#[diagnostic::do_not_recommend]
impl<T> Fits<Value> for Entry<T> {}
#[diagnostic::do_not_recommend]
impl<T> Fits<Json> for Entry<T> {}
#[diagnostic::do_not_recommend]
impl<T> Fits<Value> for Vec<T> {}
#[diagnostic::do_not_recommend]
impl<T> Fits<Json> for Vec<T> {}
#[diagnostic::do_not_recommend]
impl<K, V> Fits<Value> for BTreeMap<K, V> {}
#[diagnostic::do_not_recommend]
impl<K, V> Fits<Json> for BTreeMap<K, V> {}
#[diagnostic::do_not_recommend]
impl<K, V, S> Fits<Value> for HashMap<K, V, S> {}
#[diagnostic::do_not_recommend]
impl<K, V, S> Fits<Json> for HashMap<K, V, S> {}
#[diagnostic::do_not_recommend]
impl Fits<Json> for Value {}
#[diagnostic::do_not_recommend]
impl Fits<Value> for Json {}

/// Tuples of results of one type are lists, too.
macro_rules! fit_tuples {
    ($(($($name:ident)*))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<T, $($name: Fits<T>),*> Fits<Vec<T>> for ($($name,)*) {}
        #[diagnostic::do_not_recommend]
        impl<$($name),*> Fits<Value> for ($($name,)*) {}
        #[diagnostic::do_not_recommend]
        impl<$($name),*> Fits<Json> for ($($name,)*) {}
    )*};
}
fit_tuples!((A)(A B)(A B C)(A B C D)(A B C D E)(A B C D E F)(A B C D E F G)(A B C D E F G H));

/// Inputs of a flow that can run by itself.
#[diagnostic::on_unimplemented(
    message = "this canvas still misses its input `{Self}`",
    label = "misses `{Self}`",
    note = "bind it with `.partial(...)` or in `.s(...)`, or put what gives it in front: `add.s((2, 2)) | mul.s(8)`"
)]
pub trait Complete {}
#[diagnostic::do_not_recommend]
impl Complete for () {}
#[diagnostic::do_not_recommend]
impl Complete for Ignored {}

/// Inputs of a callback for a flow that gives `T`.
#[diagnostic::on_unimplemented(
    message = "this callback misses `{Self}`, but the result is `{T}`",
    label = "cannot be called with `{T}`",
    note = "a callback takes the result as its only missing input, or ignores it: `.si(...)`",
    note = "a callback of a group gets no result: bind all its arguments, or write `group(...) | callback`"
)]
pub trait Callback<T, Form> {}
#[diagnostic::do_not_recommend]
impl<T, Form> Callback<T, Form> for Ignored {}
#[diagnostic::do_not_recommend]
impl<T: Fits<P>, P> Callback<T, One> for (P,) {}
#[diagnostic::do_not_recommend]
impl<T> Callback<T, Grouped> for () {}
#[diagnostic::do_not_recommend]
impl<T> Callback<T, Tolerant> for () {}

/// Inputs of an error callback.
#[diagnostic::on_unimplemented(
    message = "an error callback takes one `Failure`, but this one misses `{Self}`",
    label = "cannot be called with a `Failure`",
    note = "write `#[task] async fn on_failed(failure: Failure)` and `.link_error(on_failed.s(()))`, or ignore the \
            failure: `.si(...)`"
)]
pub trait Errback {}
#[diagnostic::do_not_recommend]
impl Errback for (Failure,) {}
#[diagnostic::do_not_recommend]
impl Errback for (Value,) {}
#[diagnostic::do_not_recommend]
impl Errback for Ignored {}

/// Inputs of what runs when a flow that gives `T` has ended.
#[diagnostic::on_unimplemented(
    message = "what runs finally takes one `Entry<{T}>`, but this one misses `{Self}`",
    label = "cannot be called with an `Entry<{T}>`",
    note = "write `#[task] async fn clean_up(ended: Entry<{T}>)` and `.finally(clean_up.s(()))`, or ignore how it ended: \
            `.si(...)`"
)]
pub trait Last<T> {}
#[diagnostic::do_not_recommend]
impl<T: Fits<P>, P> Last<T> for (Entry<P>,) {}
#[diagnostic::do_not_recommend]
impl<T> Last<T> for (Value,) {}
#[diagnostic::do_not_recommend]
impl<T> Last<T> for Ignored {}

/// Arguments for the missing inputs `In`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fit the missing input `{In}`",
    label = "the canvas misses `{In}`",
    note = "`.partial(...)` binds the last missing inputs: one value, or a tuple of them"
)]
pub trait PartialArguments<In, Missing, M> {
    /// The arguments as JSON.
    fn bind(self) -> Result<Vec<Json>, BindError>;
}

#[diagnostic::do_not_recommend]
impl<In: Tuple, Missing, A, M> PartialArguments<In, Missing, M> for A
where
    A: Bind<Reach<Nil, In::Reversed, Nil>, M, Missing = Missing>,
{
    fn bind(self) -> Result<Vec<Json>, BindError> {
        Bind::bind(self)
    }
}
