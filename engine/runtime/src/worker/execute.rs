//! Running one leaf: call its task, once or for each item, within its limits, and again when its policy says so.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use celeriac_dsl::{Reporter, States, Surroundings, TaskContext, TaskDef};
use celeriac_primitives::{
    Call, Json, LeafOptions, NotAMember, Outcome, Own, Retry, RetryPolicy, TaskError, TaskMessage, TaskName,
    When,
};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::call::call;
use super::threads::Thread;
use crate::{Registry, declared};

/// How often a task that asks to run again does so when nothing else is said, as in Celery.
const MAX_RETRIES: u32 = 3;

/// Runs leaves of the tasks in a registry.
pub(super) struct Executor {
    registry: Arc<Registry>,
    surroundings: Arc<Surroundings>,
}

impl Executor {
    pub(super) fn new(registry: Arc<Registry>, states: Arc<States>, reporter: Arc<dyn Reporter>) -> Self {
        let (cancellation, reporter) = (CancellationToken::new(), Some(reporter));
        Self { registry, surroundings: Arc::new(Surroundings { cancellation, states, reporter }) }
    }

    /// The task of this name.
    pub(super) fn task(&self, name: &TaskName) -> Option<&TaskDef> {
        self.registry.task(name)
    }

    /// Tells the running tasks that they will be cut off.
    pub(super) fn cancel(&self) {
        self.surroundings.cancellation.cancel();
    }

    /// The options of a leaf: its own, and for what they leave open those with which its task was declared here.
    pub(super) fn options(&self, message: &TaskMessage) -> Option<Arc<LeafOptions>> {
        let declared = self.registry.options(&message.task).map(|options| &options.leaf);
        match (&message.options, declared) {
            (own, None) => own.clone(),
            (None, Some(declared)) => Some(Arc::new(declared.clone())),
            (Some(own), Some(declared)) => Some(Arc::new(own.or(declared))),
        }
    }

    /// Runs a leaf to its end. Whatever the task does, there is an outcome.
    pub(super) async fn execute(
        &self,
        task: &TaskDef,
        message: &TaskMessage,
        options: Option<Arc<LeafOptions>>,
        thread: Option<&Thread>,
    ) -> Outcome {
        match options {
            None => {
                let context = self.context(message, None, None);
                let outcome = self.run(task, message, context, thread).await;
                if matches!(outcome, Outcome::Success(_)) {
                    return outcome;
                }
                retried(outcome, message, &LeafOptions::default())
            }
            // In a box, and so is all that is rare: else every lane would have room for it.
            Some(options) => Box::pin(self.execute_with(task, message, options, thread)).await,
        }
    }

    async fn execute_with(
        &self,
        task: &TaskDef,
        message: &TaskMessage,
        options: Arc<LeafOptions>,
        thread: Option<&Thread>,
    ) -> Outcome {
        let cancellation = self.surroundings.cancellation.child_token();
        let context = self.context(message, Some(options.clone()), Some(cancellation.clone()));
        let alive = alive(context.clone(), options.heartbeat_ms);
        let run = self.run(task, message, context, thread);
        // On a thread it begins when it has one.
        let begins = async {
            if let Some(thread) = thread {
                thread.has_begun().await;
            }
        };
        let outcome = limited(run, begins, alive, &options, &cancellation).await;
        match retried(outcome, message, &options) {
            outcome if options.ignore_result == Some(true) => without_value(outcome),
            outcome => outcome,
        }
    }

    fn context(
        &self,
        message: &TaskMessage,
        options: Option<Arc<LeafOptions>>,
        cancellation: Option<CancellationToken>,
    ) -> TaskContext {
        let surroundings = self.surroundings.clone();
        TaskContext::within(surroundings, message, options, cancellation)
    }

    async fn run(
        &self,
        task: &TaskDef,
        message: &TaskMessage,
        context: TaskContext,
        thread: Option<&Thread>,
    ) -> Outcome {
        let asked = match message.call {
            Call::Once => {
                let arguments = (message.args.clone(), message.kwargs.clone());
                call(task, context, arguments, thread).await
            }
            Call::Map | Call::Starmap => return Box::pin(map(task, message, context, thread)).await,
        };
        match asked {
            (outcome @ (Outcome::Replace(_) | Outcome::Add(_)), context) => {
                declared::attach(&self.registry, outcome, &context.declared())
            }
            (outcome, _) => outcome,
        }
    }
}

/// One call per item, one after the other; the first that does not succeed is the outcome of them all.
async fn map(
    task: &TaskDef,
    message: &TaskMessage,
    context: TaskContext,
    thread: Option<&Thread>,
) -> Outcome {
    let items: Vec<Box<RawValue>> = match message.args.to() {
        Ok(items) => items,
        Err(error) => return Outcome::Undecodable(format!("the items of a map: {error}")),
    };
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let item = Json::from_compact(String::from(Box::<str>::from(item)));
        let args = if message.call == Call::Map { Json::list([&item]) } else { item };
        match call(task, context.clone(), (args, message.kwargs.clone()), thread).await.0 {
            Outcome::Success(value) => values.push(value),
            Outcome::Replace(_) => return in_a_map(),
            Outcome::Add(_) => return Outcome::Failed(NotAMember.into()),
            other => return other,
        }
    }
    Outcome::Success(Json::list(values))
}

/// Runs within the time limits, which begin when the task does: past the soft one the task is told,
/// past the hard one it is dropped. A blocking task cannot be dropped: it goes on in its thread, and
/// nobody waits for it any more.
async fn limited(
    run: impl Future<Output = Outcome>,
    begins: impl Future<Output = ()>,
    alive: impl Future<Output = Outcome>,
    options: &LeafOptions,
    cancellation: &CancellationToken,
) -> Outcome {
    if options.time_limit_ms.is_none()
        && options.soft_time_limit_ms.is_none()
        && options.heartbeat_ms.is_none()
    {
        return run.await;
    }
    let mut run = std::pin::pin!(run);
    tokio::select! {
        biased;
        outcome = &mut run => return outcome,
        () = begins => {}
    }
    let soft = async {
        match options.soft_time_limit_ms {
            Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
        cancellation.cancel();
        std::future::pending::<Outcome>().await
    };
    let limited = async {
        tokio::select! {
            outcome = run => outcome,
            outcome = soft => outcome,
            outcome = alive => outcome,
        }
    };
    match options.time_limit_ms {
        Some(limit_ms) => tokio::time::timeout(Duration::from_millis(limit_ms), limited)
            .await
            .unwrap_or(Outcome::TimedOut { limit_ms }),
        None => limited.await,
    }
}

/// Ends when the task has not been heard of for so long.
async fn alive(context: TaskContext, heartbeat_ms: Option<u64>) -> Outcome {
    let Some(ms) = heartbeat_ms else { return std::future::pending().await };
    loop {
        let before = context.heartbeats();
        tokio::time::sleep(Duration::from_millis(ms.max(1))).await;
        if context.heartbeats() == before {
            return Outcome::Failed(TaskError::new("HeartbeatTimeout", format!("not heard of for {ms} ms")));
        }
    }
}

/// What becomes of an outcome by the policy of the leaf: a failure may be worth another attempt, and a
/// task that asks for one may have had all.
fn retried(outcome: Outcome, message: &TaskMessage, options: &LeafOptions) -> Outcome {
    let (attempt, policy) = (message.attempt, options.retry.as_ref());
    match outcome {
        Outcome::Failed(error) => match policy.filter(|policy| policy.allows(attempt, &error)) {
            Some(policy) => {
                let start = When::after(policy.delay(attempt, chance(message)));
                again(Retry { start: Some(start), ..Retry::new(error) }, message, options)
            }
            None => Outcome::Failed(error),
        },
        Outcome::Retry(mut retry) => {
            let own = retry.max_retries.take().map(RetryPolicy::new);
            let is_left = match own.as_ref().or(policy) {
                Some(policy) => policy.has_left(attempt),
                None => attempt <= MAX_RETRIES,
            };
            if is_left {
                return again(*retry, message, options);
            }
            Outcome::Failed(match retry.error {
                // The task gave no reason.
                TaskError { kind, .. } if kind == "Retry" => TaskError::new(
                    "MaxRetriesExceededError",
                    format!("{} asked for another attempt after attempt {attempt}", message.task),
                ),
                error => error,
            })
        }
        outcome => outcome,
    }
}

/// Another attempt, with what this one was given and the next one cannot know.
fn again(mut retry: Retry, message: &TaskMessage, options: &LeafOptions) -> Outcome {
    if retry.arguments.is_none() && message.replaced {
        retry.arguments = Some((message.args.clone(), message.kwargs.clone()));
    }
    if let Some(When::At(ms)) = options.expires {
        retry.expires_ms = Some(ms);
    }
    Outcome::Retry(Box::new(retry))
}

/// A number from 0 to 1 that is another for every attempt at every leaf, and the same for each of its reports.
fn chance(message: &TaskMessage) -> f64 {
    let mut hasher = DefaultHasher::new();
    (message.task_id, message.attempt).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The same, with nothing to keep.
fn without_value(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Success(_) => Outcome::Success(Json::null()),
        Outcome::Add(mut addition) => {
            if let Own::Value(value) = &mut addition.own {
                *value = Json::null();
            }
            Outcome::Add(addition)
        }
        outcome => outcome,
    }
}

/// A canvas stands for a whole leaf, and an item is only a part of one.
fn in_a_map() -> Outcome {
    let message = "an item of a map, a starmap or chunks cannot be replaced; call the task once for each item, in a \
                   group";
    Outcome::Failed(TaskError::new("ReplaceError", message))
}
