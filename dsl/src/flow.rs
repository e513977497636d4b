//! A canvas with its types.

use std::fmt;
use std::marker::PhantomData;
use std::ops::BitOr;
use std::sync::Arc;

use celeriac_primitives::{Canvas, Json, JsonError, Kwargs, OptionError, Options, Signature};
use serde::Serialize;
use serde_json::Value;

use crate::bind::BindError;
use crate::keyword::Keywords;
use crate::task::{Output, Task};
use crate::wiring::{Accepts, Callback, Complete, Errback, Last, PartialArguments};

/// A canvas that takes `In` and gives `Out`.
///
/// `In` is the tuple of the inputs that are still missing: `()` when there are none, `(T,)` when the
/// result of what comes before is taken, [`Ignored`] when it is not, [`Variadic`](crate::Variadic) when
/// it may be there or not. `Form` tells a group ([`Grouped`]) from everything else, because a group
/// directly inside a group is flattened.
///
/// A flow is data: nothing runs until it is submitted. An argument without a JSON form does not stop
/// the writing of a canvas; the error is kept and comes out of [`Flow::untyped`] and of the submission.
#[must_use = "a flow is only data until it is submitted"]
pub struct Flow<In, Out, Form = One> {
    canvas: Result<Canvas, FlowError>,
    types: PhantomData<fn(In) -> (Out, Form)>,
}

/// The input of a flow that takes no interest in what comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {}

/// The form of a flow that is no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum One {}

/// The form of a flow that is a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouped {}

/// The form of a group that has its own policy for members that fail. A group around it would flatten
/// it and has another one, so it is no member of groups; `chain((group,))` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerant {}

/// What is wrong with a flow although its types are right.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// An argument without a JSON form: a map whose keys are not strings, for example.
    #[error("{argument} of {task} is {source}")]
    Argument {
        /// The task's name.
        task: String,
        /// Which argument.
        argument: String,
        /// What the JSON writer says.
        source: Arc<JsonError>,
    },
    /// An option whose value does not fit.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// An option without a JSON form.
    #[error("option {name} is {source}")]
    OptionValue {
        /// The option.
        name: String,
        /// What the JSON writer says.
        source: Arc<JsonError>,
    },
    /// A chain of no steps, where nothing comes before it that it could hand on.
    #[error("a chain of no steps gives no result; put at least one step in it")]
    EmptyChain,
}

impl FlowError {
    pub(crate) fn argument(task: &str, argument: String, source: JsonError) -> Self {
        Self::Argument { task: task.to_owned(), argument, source: Arc::new(source) }
    }

    pub(crate) fn bind(task: &str, (place, source): BindError) -> Self {
        Self::argument(task, format!("argument {}", place + 1), source)
    }
}

impl<In, Out, Form> Flow<In, Out, Form> {
    /// Takes an untyped canvas at your word: it takes `In` and gives `Out`.
    ///
    /// The way to put tasks of other programs into a typed canvas. Nothing is checked; a result of
    /// another type fails the task that is given it.
    pub fn assume(canvas: impl Into<Canvas>) -> Self {
        Self::of(Ok(canvas.into()))
    }

    /// The same canvas with other types.
    pub(crate) fn retyped<O, F>(self) -> Flow<In, O, F> {
        Flow::of(self.canvas)
    }

    pub(crate) fn of(canvas: Result<Canvas, FlowError>) -> Self {
        Self { canvas, types: PhantomData }
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut Canvas) -> Result<(), FlowError>) -> Self {
        if let Ok(canvas) = &mut self.canvas
            && let Err(error) = change(canvas)
        {
            self.canvas = Err(error);
        }
        self
    }

    /// The canvas without its types.
    ///
    /// # Errors
    /// See [`FlowError`].
    pub fn untyped(self) -> Result<Canvas, FlowError> {
        self.canvas
    }

    /// Lays options over those that are set: queue, priority, countdown, …
    pub fn set(self, options: Options) -> Self {
        self.change(|canvas| {
            canvas.options_mut().merge(&options);
            Ok(())
        })
    }

    /// Sets one option by Celery's name for it. A value that does not fit comes out as a [`FlowError`].
    pub fn option<V: Serialize>(self, name: &str, value: V) -> Self {
        self.change(|canvas| {
            let value = Json::new(&value).map_err(|source| FlowError::OptionValue {
                name: name.to_owned(),
                source: Arc::new(source),
            })?;
            Ok(canvas.options_mut().set(name, value)?)
        })
    }

    /// Adds a callback, which gets the result when there is one. A group's callback gets nothing.
    pub fn link<I, O, F>(self, callback: Flow<I, O, F>) -> Self
    where
        I: Callback<Out, Form>,
    {
        self.change(|canvas| {
            canvas.link(callback.canvas?);
            Ok(())
        })
    }

    /// Stamps every task of the canvas (Celery's `stamp`): each can read the value with
    /// [`TaskContext::stamp`](crate::TaskContext::stamp), and so can those that run in its place.
    pub fn stamp(self, name: &str, value: impl Serialize) -> Self {
        self.change(|canvas| {
            let value = Json::new(&value).map_err(|source| FlowError::OptionValue {
                name: name.to_owned(),
                source: Arc::new(source),
            })?;
            canvas.stamp(name, &value);
            Ok(())
        })
    }

    /// Adds an error callback, which gets the [`Failure`](celeriac_primitives::Failure) of a leaf.
    pub fn link_error<I: Errback, O, F>(self, errback: Flow<I, O, F>) -> Self {
        self.change(|canvas| {
            canvas.link_error(errback.canvas?);
            Ok(())
        })
    }

    /// Adds what runs once when this canvas has ended, either way. It gets the
    /// [`Entry`](celeriac_primitives::Entry) of the result or failure, or ignores it: `.si(...)`. How
    /// it ends changes nothing else.
    pub fn finally<I: Last<Out>, O, F>(self, last: Flow<I, O, F>) -> Self {
        self.change(|canvas| {
            canvas.finally(last.canvas?);
            Ok(())
        })
    }

    /// Celery's other name for [`Flow::link_error`].
    pub fn on_error<I: Errback, O, F>(self, errback: Flow<I, O, F>) -> Self {
        self.link_error(errback)
    }

    /// Binds missing inputs now: one value, or a tuple for the last of several.
    ///
    /// As in Celery they go to the first task of a chain, to every member of a group, and to every
    /// member of a chord's header.
    pub fn partial<A, Missing, M>(self, arguments: A) -> Flow<Missing, Out, Form>
    where
        A: PartialArguments<In, Missing, M>,
    {
        let canvas = self.canvas.and_then(|mut canvas| {
            let values = arguments.bind().map_err(|error| FlowError::bind("the canvas", error))?;
            Canvas::bind(&mut canvas, &values, &Kwargs::new());
            Ok(canvas)
        });
        Flow::of(canvas)
    }

    /// This canvas, taking no interest in what comes before it (Celery's `.set(immutable=True)`).
    pub fn immutable(self) -> Flow<Ignored, Out, Form>
    where
        In: Complete,
    {
        Flow::of(self.canvas.map(Canvas::into_immutable))
    }
}

/// What `.s(…)` and `.si(…)` of every task do: a signature with these arguments.
pub fn signature<T: Task, In, S>(
    keywords: Keywords<S>,
    arguments: Result<Vec<Json>, BindError>,
    immutable: bool,
) -> Flow<In, T::Output> {
    if let Some(error) = keywords.error {
        return Flow::of(Err(error));
    }
    let args = arguments.map_err(|error| FlowError::bind(T::NAME, error));
    let options = Options::new().with_declared(T::declared());
    let signature = |args| Signature { task: T::name(), args, kwargs: keywords.kwargs, options, immutable };
    Flow::of(args.map(|args| signature(args).into()))
}

impl<In, Mid, Form, Next, Out, NextForm> BitOr<Flow<Next, Out, NextForm>> for Flow<In, Mid, Form>
where
    Next: Accepts<Mid>,
{
    type Output = Flow<In, Out>;

    /// This canvas, then the other, which gets this one's result.
    fn bitor(self, next: Flow<Next, Out, NextForm>) -> Flow<In, Out> {
        Flow::of(self.canvas.and_then(|canvas| Ok(canvas.then(next.canvas?))))
    }
}

/// What can be submitted: a canvas without missing inputs.
///
/// Untyped canvases and signatures give a [`serde_json::Value`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a canvas",
    label = "not a canvas",
    note = "write a canvas, such as `add.s((2, 2))` or `canvas!(add.s(2, 2) | mul.s(8))`"
)]
pub trait IntoCanvas {
    /// What it gives.
    type Output: Output;

    /// The canvas.
    ///
    /// # Errors
    /// See [`FlowError`].
    fn into_canvas(self) -> Result<Canvas, FlowError>;
}

impl<In: Complete, Out: Output, Form> IntoCanvas for Flow<In, Out, Form> {
    type Output = Out;
    fn into_canvas(self) -> Result<Canvas, FlowError> {
        self.canvas
    }
}

#[diagnostic::do_not_recommend]
impl IntoCanvas for Canvas {
    type Output = Value;
    fn into_canvas(self) -> Result<Canvas, FlowError> {
        Ok(self)
    }
}

#[diagnostic::do_not_recommend]
impl IntoCanvas for Signature {
    type Output = Value;
    fn into_canvas(self) -> Result<Canvas, FlowError> {
        Ok(self.into())
    }
}

impl<In, Out, Form> Clone for Flow<In, Out, Form> {
    fn clone(&self) -> Self {
        Self::of(self.canvas.clone())
    }
}

impl<In, Out, Form> fmt::Debug for Flow<In, Out, Form> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<In, Out, Form> fmt::Display for Flow<In, Out, Form> {
    /// Operator text, such as `proj.tasks.add.s(4, 4) | proj.tasks.mul.s(8)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.canvas {
            Ok(canvas) => canvas.fmt(f),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}
