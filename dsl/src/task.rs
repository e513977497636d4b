//! A task as the worker sees it: a name, parameters, and a function from JSON to JSON.

use std::fmt;
use std::sync::OnceLock;

use celeriac_primitives::{Json, Options, Outcome, TaskError, TaskName};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::Arguments;
use crate::context::TaskContext;
use crate::error::IntoTaskError;
use crate::state::{StateType, States};

/// A function that workers can run. `#[task]` implements it; nobody else needs to.
///
/// The type is a unit struct of the function's name, so that the name is also its value: `add.s((2, 2))`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "not a task",
    note = "put `#[task]` on the function, and name it here without calling it"
)]
pub trait Task: Copy + Send + Sync + 'static {
    /// The full name, such as `proj.tasks.add`.
    const NAME: &'static str;
    /// What the function returns when it succeeds.
    type Output;

    /// The full name, ready for a signature.
    fn name() -> TaskName;
    /// The options with which it was declared, as `#[task(queue = "slow")]`.
    fn declared() -> &'static Options;
    /// What a worker needs to run it.
    fn definition() -> TaskDef;
}

/// What a worker needs to run a task.
#[derive(Clone, Debug)]
pub struct TaskDef {
    /// The full name.
    pub name: TaskName,
    /// The parameters that take an argument, in order.
    pub params: &'static [Param],
    /// The states that the function asks for.
    pub states: Vec<StateType>,
    /// Options of its leaves that do not set their own.
    pub options: Options,
    /// The function.
    pub handler: Handler,
    /// The function's doc comment.
    pub description: &'static str,
}

/// A parameter that takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, which is also its keyword when it is no rest.
    pub name: &'static str,
    /// The type of its argument, or of each when it is a rest, as it is written in the function.
    pub type_name: &'static str,
    /// Its default, as it is written in the function.
    pub default: Option<&'static str>,
    /// Whether it takes all positional arguments that are left. Only the last parameter does.
    pub rest: bool,
}

/// How to call the function.
#[derive(Clone, Copy)]
pub enum Handler {
    /// An `async fn`.
    Async(fn(TaskContext, Arguments) -> BoxFuture<'static, Outcome>),
    /// A plain `fn`: it may block, and must run off the async threads.
    Blocking(fn(TaskContext, Arguments) -> Outcome),
}

impl TaskDef {
    /// The names of the states that the task asks for and `states` does not have. A worker refuses to start when
    /// there are any.
    pub fn missing_states(&self, states: &States) -> Vec<&'static str> {
        self.states.iter().filter(|state| !states.contains(state)).map(StateType::name).collect()
    }
}

impl fmt::Display for Param {
    /// `z: i64 = 0`, or `*numbers: i64`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.rest { "*" } else { "" };
        write!(f, "{star}{}: {}", self.name, self.type_name)?;
        self.default.map_or(Ok(()), |default| write!(f, " = {default}"))
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "Async",
            Self::Blocking(_) => "Blocking",
        })
    }
}

/// A type that a task can take: it travels as JSON, both ways, and owns what it holds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a task's parameter",
    label = "cannot travel as JSON",
    note = "derive serde's `Serialize` and `Deserialize` for it, and let it own what it holds (`String`, not `&str`)",
    note = "`TaskContext` and `State<T>` are the only parameters that need neither: they are handed in by the worker"
)]
pub trait Parameter: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Parameter for T {}

/// A type that a task can return: it travels as JSON, both ways, and owns what it holds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a task's result",
    label = "cannot travel as JSON",
    note = "derive serde's `Serialize` and `Deserialize` for it, and let it own what it holds (`String`, not `&str`)"
)]
pub trait Output: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Output for T {}

/// What a function whose return type is called `Result` returns when it succeeds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is called `Result`, but is not `std::result::Result`",
    label = "not the `Result` of the standard library",
    note = "return a `Result<T, E>`, or give the type another name"
)]
pub trait Fallible {
    /// The type of the success.
    type Success;
}

impl<T, E> Fallible for Result<T, E> {
    type Success = T;
}

/// The result of a function, with how the leaf ends in the place of its error.
///
/// # Errors
/// The function's own.
pub fn fallible<T, E: IntoTaskError>(result: Result<T, E>) -> Result<T, Outcome> {
    result.map_err(E::into_outcome)
}

/// Asks whether `T` is a `Result`: the answer of the type's own constant goes before the trait's.
#[derive(Debug)]
pub struct Is<T>(std::marker::PhantomData<T>);

impl<T, E> Is<Result<T, E>> {
    /// Yes.
    pub const RESULT: bool = true;
}

/// The answer for every other type.
pub trait IsNot {
    /// No.
    const RESULT: bool = false;
}

impl<T> IsNot for Is<T> {}

/// The task's name, made once and shared.
pub fn name_of<T: Task>(name: &OnceLock<TaskName>) -> TaskName {
    name.get_or_init(|| TaskName::new(T::NAME).expect("the name was checked when the program was built"))
        .clone()
}

/// What a list of tasks keeps of each: its name, and how to make its definition.
pub const fn entry<T: Task>(_: &T) -> (&'static str, fn() -> TaskDef) {
    (T::NAME, T::definition)
}

/// The outcome of a function that returned.
pub fn outcome<T: Output>(result: Result<T, Outcome>) -> Outcome {
    let value = match result {
        Ok(value) => value,
        Err(outcome) => return outcome,
    };
    match Json::new(&value) {
        Ok(json) => Outcome::Success(json),
        // A map with keys that are not strings, for example: known only when the value is there.
        Err(error) => Outcome::Failed(TaskError::new("EncodeError", format!("the result is {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_result_without_a_json_form_fails_the_task() {
        assert_eq!(outcome(Ok(4)), Outcome::Success(Json::new(&4).unwrap()));
        assert_eq!(outcome(Ok(())), Outcome::Success(Json::null()));
        let Outcome::Failed(error) = outcome(Ok(BTreeMap::from([((1, 2), 3)]))) else { panic!() };
        assert_eq!(error.to_string(), "EncodeError: the result is not a JSON value: key must be a string");
    }
}
