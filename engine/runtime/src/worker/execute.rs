//! Running one leaf: look the task up, decode, call, catch.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use celeriac_dsl::{Arguments, Handler, States, TaskContext, TaskDef};
use celeriac_primitives::{Call, Json, Outcome, TaskError, TaskMessage};
use futures::FutureExt;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::Registry;

/// Runs leaves of the tasks in a registry.
pub(super) struct Executor {
    registry: Arc<Registry>,
    states: Arc<States>,
    cancellation: CancellationToken,
}

impl Executor {
    pub(super) fn new(registry: Arc<Registry>, states: Arc<States>) -> Self {
        Self { registry, states, cancellation: CancellationToken::new() }
    }

    /// Tells the running tasks that they will be cut off.
    pub(super) fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// Runs a leaf to its end. Whatever the task does, there is an outcome.
    pub(super) async fn execute(&self, message: &TaskMessage) -> Outcome {
        let Some(task) = self.registry.task(&message.task) else { return Outcome::UnknownTask };
        match message.call {
            Call::Once => self.call(task, message, message.args.clone(), message.kwargs.clone()).await,
            Call::Map | Call::Starmap => self.map(task, message).await,
        }
    }

    /// One call per item, one after the other; the first that does not succeed is the outcome of them all.
    async fn map(&self, task: &TaskDef, message: &TaskMessage) -> Outcome {
        let items: Vec<Box<RawValue>> = match message.args.to() {
            Ok(items) => items,
            Err(error) => return Outcome::Undecodable(format!("the items of a map: {error}")),
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let item = Json::from_compact(String::from(Box::<str>::from(item)));
            let args = if message.call == Call::Map { Json::list([&item]) } else { item };
            match self.call(task, message, args, message.kwargs.clone()).await {
                Outcome::Success(value) => values.push(value),
                Outcome::Replace(_) => return in_a_map(),
                other => return other,
            }
        }
        Outcome::Success(Json::list(values))
    }

    async fn call(&self, task: &TaskDef, message: &TaskMessage, args: Json, kwargs: Json) -> Outcome {
        let TaskMessage { task_id, attempt, .. } = *message;
        let context = TaskContext::new(task_id, attempt, self.cancellation.clone(), self.states.clone());
        let (arguments, asked) = (Arguments::new(args, kwargs), context.clone());
        let outcome = match task.handler {
            // The call itself is inside the future, so a panic before the first await is caught as well.
            Handler::Async(run) => {
                let future = AssertUnwindSafe(async move { run(context, arguments).await });
                future.catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic))
            }
            Handler::Blocking(run) => {
                let call = move || std::panic::catch_unwind(AssertUnwindSafe(|| run(context, arguments)));
                match tokio::task::spawn_blocking(call).await {
                    Ok(outcome) => outcome.unwrap_or_else(|panic| panicked(&*panic)),
                    Err(error) => Outcome::Failed(TaskError::new("RuntimeError", error.to_string())),
                }
            }
        };
        asked.outcome(outcome)
    }
}

/// A canvas stands for a whole leaf, and an item is only a part of one.
fn in_a_map() -> Outcome {
    let message = "an item of a map, a starmap or chunks cannot be replaced; call the task once for each item, in a \
                   group";
    Outcome::Failed(TaskError::new("ReplaceError", message))
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome::Failed(TaskError::new("Panic", text.unwrap_or("the task panicked with a value that is no text")))
}
