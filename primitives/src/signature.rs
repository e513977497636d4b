//! One task with its arguments: the leaf of every canvas.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Json, JsonError, NameError, Options, TaskName};

/// Keyword arguments by name.
pub type Kwargs = BTreeMap<String, Json>;

/// A task's name with some or all of its arguments, and options: Celery's signature.
///
/// The result of whatever comes before it is prepended to `args`, unless the signature is immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// The full name of the task.
    pub task: TaskName,
    /// The bound positional arguments.
    pub args: Vec<Json>,
    /// The bound keyword arguments.
    pub kwargs: Kwargs,
    /// Queue, priority, callbacks, …
    pub options: Options,
    /// Whether the results of predecessors are ignored (Celery's `.si`).
    pub immutable: bool,
}

impl Signature {
    /// A signature of a task by name, with no arguments yet.
    ///
    /// This is also the way to call a task of another program: its name and JSON arguments are all that is needed.
    ///
    /// # Errors
    /// When the text is no task name.
    pub fn new(task: &str) -> Result<Self, NameError> {
        TaskName::new(task).map(Self::of)
    }

    /// A signature of a task whose name is already checked.
    pub fn of(task: TaskName) -> Self {
        Self { task, args: Vec::new(), kwargs: Kwargs::new(), options: Options::new(), immutable: false }
    }

    /// This signature with one more positional argument.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn arg<T: Serialize>(mut self, value: T) -> Result<Self, JsonError> {
        self.args.push(Json::new(&value)?);
        Ok(self)
    }

    /// This signature with a keyword argument.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn kwarg<T: Serialize>(mut self, name: &str, value: T) -> Result<Self, JsonError> {
        self.kwargs.insert(name.to_owned(), Json::new(&value)?);
        Ok(self)
    }

    /// This signature, ignoring the results of its predecessors: it only waits for them.
    #[must_use]
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// This signature with these options laid over its own.
    #[must_use]
    pub fn set(mut self, options: &Options) -> Self {
        self.options.merge(options);
        self
    }
}
