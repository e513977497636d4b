//! Canvases in typed Rust.
//!
//! `#[task]` makes a task of a function, and a task's `.s(…)` makes a [`Flow`]: a canvas that knows what it takes and
//! what it gives. Wiring that does not fit does not compile. [`canvas!`] takes the writing that Celery's users know.
//!
//! ```
//! # extern crate celeriac_dsl as celeriac;
//! use celeriac::{Flow, canvas, group, task};
//!
//! #[task(name = "proj.tasks.add")]
//! async fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! #[task(name = "proj.tasks.xsum")]
//! async fn xsum(numbers: Vec<i64>) -> i64 {
//!     numbers.iter().sum()
//! }
//!
//! let typed: Flow<(), i64> = group((0..10).map(|i| add.s((i, i)))) | xsum.s(());
//! let literal: Flow<(), i64> = canvas!(group(add.s(i, i) for i in 0..10) | xsum.s());
//! assert_eq!(typed.untyped()?, literal.untyped()?);
//! # Ok::<(), celeriac::FlowError>(())
//! ```
//!
//! ```text
//! fn add ──#[task]──► add ──.s((4, 4))──► Flow<(), i64> ──|──► Flow<(), i64> ──submit──► the runtime
//!                      │  ──.s(8)───────► Flow<(i64,), i64> ──┘
//!                      └──definition()──► TaskDef: name, parameters, states, handler ──► a worker
//! ```
//!
//! Celery prepends the result of a task to the arguments of the next. So `mul.s(8)` binds the *last* parameter and
//! misses the first one: a `Flow<(i64,), i64>`. `.si(…)` ignores what comes before: a `Flow<Ignored, i64>`.
//! A task whose only parameter is `#[rest] numbers: Vec<i64>` takes any number, with one more in front or without: a
//! `Flow<`[`Variadic`]`<i64>, i64>`.
//!
//! The other side is here, too: a [`TaskDef`] is what a worker knows of a task, [`Arguments`] brings JSON arguments to
//! typed parameters, [`TaskContext`] and [`State`] are what a task may ask its worker for.
//!
//! What it leaves to others: a canvas is data ([`celeriac_primitives::Canvas`]) until somebody submits it; what it
//! means is the engine's, and running it the runtime's. Expansions of `#[task]` name the facade, `::celeriac`; a crate
//! without that dependency says `#[task(crate = celeriac_dsl)]`.

mod arg;
mod arguments;
mod bind;
mod chain;
mod context;
mod error;
mod flow;
mod group;
mod keyword;
mod list;
mod mapped;
mod name;
mod nearest;
mod state;
mod task;
mod variadic;
mod verbs;
mod wiring;

pub use arg::Arg;
pub use arguments::{Arguments, Slots};
pub use bind::Row;

pub use celeriac_macros::task;
pub use chain::{Steps, chain};
pub use context::{Reporter, Surroundings, TaskContext};
pub use error::IntoTaskError;
pub use flow::{Flow, FlowError, Grouped, Ignored, IntoCanvas, One, Tolerant};
pub use group::{Header, Members, chord, group};
pub use state::{State, StateType, States};
pub use task::{Handler, Output, Param, Parameter, Task, TaskDef};
pub use variadic::Variadic;
pub use verbs::{Ignore, Reject, Retry};
pub use wiring::{Accepts, Callback, Complete, Errback, Fits, Last, PartialArguments};

/// What the expansions of the macros name; nothing here is for users.
#[doc(hidden)]
pub mod __private {
    pub use std::sync::OnceLock;

    pub use celeriac_macros::{canvas, tasks};
    pub use celeriac_primitives::{Json, Options, Outcome, RetryPolicy, TaskError, TaskName};
    pub use futures::future::BoxFuture;

    pub use crate::arg::Arg;
    pub use crate::bind::{Bare, Bind, BindError, May, Need, Positional, Row, Spread};
    pub use crate::chain::first;
    pub use crate::flow::signature;
    pub use crate::keyword::{After, First, Key, Keywords, Take};
    pub use crate::list::{Cons, Nil};
    pub use crate::mapped::{chunks, map, starmap};
    pub use crate::name::{checked, dotted, dotted_len, is_repeated};
    pub use crate::task::{Fallible, Is, IsNot, entry, fallible, name_of, outcome};
    pub use crate::{
        Arguments, Complete, Flow, Handler, Ignored, IntoTaskError, Param, StateType, Task, TaskContext,
        TaskDef, Variadic, chain, chord, group,
    };
}

/// A canvas in Celery's own writing, checked by the compiler: it becomes the typed form, a [`Flow`].
///
/// ```
/// # extern crate celeriac_dsl as celeriac;
/// # use celeriac::{canvas, task};
/// # #[task] async fn add(x: i64, y: i64) -> i64 { x + y }
/// # #[task] async fn mul(x: i64, y: i64) -> i64 { x * y }
/// # #[task] async fn xsum(numbers: Vec<i64>) -> i64 { numbers.iter().sum() }
/// canvas!(add.s(4, 4) | mul.s(8));
/// canvas!(add.s(4, y = 4));
/// canvas!(group(add.s(i, i) for i in 0..10) | xsum.s());
/// canvas!(chord([add.s(1, 1), add.s(2, 2)], xsum.s()));
/// canvas!(chord((add.s(i, i) for i in 0..10 if i != 5), xsum.s()));
/// canvas!(chain(add.s(4, 4), mul.s(8)).set(queue = "hi", priority = 5));
/// canvas!(group(add.s(1, 1), mul.s(2, 2)).link_error(xsum.si([])));
/// ```
///
/// Everything else is Rust: arguments are expressions, and a variable that holds a flow may stand where a canvas does.
/// Inside, `group`, `chain` and `chord` always are the primitives, and `.s(…)` with several arguments or keywords is a
/// signature wherever it stands.
#[macro_export]
macro_rules! canvas {
    ($($tokens:tt)*) => { $crate::__private::canvas! { ($crate) $($tokens)* } };
}

/// A list of tasks, for an app: `tasks![add, mul, other::xsum]` is a `Vec<`[`TaskDef`]`>`.
///
/// Two tasks of one name do not compile.
#[macro_export]
macro_rules! tasks {
    ($($tokens:tt)*) => { $crate::__private::tasks! { ($crate) $($tokens)* } };
}
