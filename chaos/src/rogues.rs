//! Tasks that misbehave, and what the reference evaluator says of them.
//!
//! | task | what it does | how its leaf ends |
//! |---|---|---|
//! | `kills(*args, tag, always)` | aborts its process, once or always | as `tag`, or as lost with its worker |
//! | `hangs(*args)` | blocks its thread long past its time limit | over its time limit |
//! | `lingers(*args)` | never ends, and panics when it is dropped | over its time limit |
//! | `slips(*args)` | returns, and panics when what is left of it is dropped | with the panic |
//! | `swells(*args, tag, size)` | returns a text of so many bytes | with it |
//! | `naps(*args, tag)` | blocks its thread for a moment | as `tag` |

use std::time::Duration;

use celeriac::dsl::{Arguments, Handler, TaskContext, TaskDef};
use celeriac::engine::eager::{Leaf, Returned};
use celeriac::primitives::{Json, Kwargs, Options, Outcome, Signature, TaskError, TaskName};
use celeriac_conformance::tasks;
use futures::future::BoxFuture;

use crate::app;

/// The limit of leaves that hang.
const LIMIT: Duration = Duration::from_millis(300);

/// How long a thread is lost.
const HANG: Duration = Duration::from_secs(20);

/// What a panic says that is written in a canvas.
const SLIPPED: &str = "dropped, as written";

/// A signature of one of these tasks, with the options that it needs.
pub(crate) fn signature(task: &'static str, kwargs: &[(&str, Json)]) -> Signature {
    let mut signature = Signature::of(TaskName::new(task).expect("these names are good"));
    signature.kwargs.extend(kwargs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    if matches!(task, "hangs" | "lingers") {
        signature.options = Options::new().with_time_limit(LIMIT);
    }
    signature
}

/// How a leaf of these tasks ends; `None` when it is of another. `note` hears of its arguments.
pub(crate) fn run_leaf(leaf: &Leaf<'_>, note: impl FnOnce(&[Json])) -> Option<Result<Returned, TaskError>> {
    let failed = |outcome: Outcome| outcome.error().expect("it is a failure");
    let ended = match leaf.task.as_str() {
        "kills" if is_set("always", leaf.kwargs) => Err(failed(Outcome::WorkerLost { deliveries: 0 })),
        "hangs" | "lingers" => Err(failed(Outcome::TimedOut { limit_ms: LIMIT.as_millis() as u64 })),
        "slips" => Err(TaskError::new("Panic", SLIPPED)),
        "kills" | "naps" => tasks::call("tag", &leaf.args, leaf.kwargs),
        "swells" => swollen(leaf.kwargs).map(Returned::Value),
        _ => return None,
    };
    note(&leaf.args);
    Some(ended)
}

/// Whether a leaf of this task with these keyword arguments never succeeds, whoever runs it.
pub(crate) fn always_kills(task: &str, kwargs: &str) -> bool {
    let kwargs = Json::parse(kwargs).and_then(|kwargs| kwargs.to());
    task == "kills" && kwargs.is_ok_and(|kwargs: Kwargs| is_set("always", &kwargs))
}

pub(crate) fn definitions() -> impl Iterator<Item = TaskDef> {
    let tasks = [
        ("kills", Handler::Async(kills)),
        ("hangs", Handler::Blocking(hangs)),
        ("lingers", Handler::Async(lingers)),
        ("slips", Handler::Async(slips)),
        ("swells", Handler::Async(swells)),
        ("naps", Handler::Blocking(naps)),
    ];
    tasks.into_iter().map(|(name, handler)| app::definition(name, handler))
}

fn kills(context: TaskContext, arguments: Arguments) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let (ledger, hash) = app::begins(&context, &arguments);
        // What its worker has begun beside it dies with it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if ledger.is_first_death(context.task_id()) || always_kills("kills", arguments.kwargs().as_str()) {
            ledger.dies(context.task_id());
            std::process::abort();
        }
        app::ends(&context, hash, tag(&arguments))
    })
}

fn hangs(context: TaskContext, arguments: Arguments) -> Outcome {
    app::begins(&context, &arguments);
    std::thread::sleep(HANG);
    // Nobody waits for this any more.
    Outcome::Ignored
}

fn lingers(context: TaskContext, arguments: Arguments) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let _slippery = Slippery;
        app::begins(&context, &arguments);
        std::future::pending().await
    })
}

fn slips(context: TaskContext, arguments: Arguments) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let _slippery = Slippery;
        let (_, hash) = app::begins(&context, &arguments);
        app::ends(&context, hash, Outcome::Failed(TaskError::new("Panic", SLIPPED)))
    })
}

fn swells(context: TaskContext, arguments: Arguments) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let (_, hash) = app::begins(&context, &arguments);
        let kwargs: Kwargs = arguments.kwargs().to().unwrap_or_default();
        app::ends(&context, hash, tasks::outcome(swollen(&kwargs).map(Returned::Value)))
    })
}

fn naps(context: TaskContext, arguments: Arguments) -> Outcome {
    let (_, hash) = app::begins(&context, &arguments);
    std::thread::sleep(Duration::from_millis(hash % 40));
    app::ends(&context, hash, tag(&arguments))
}

fn tag(arguments: &Arguments) -> Outcome {
    app::call("tag", arguments)
}

/// A text that shows its tag, and is as long as was asked.
fn swollen(kwargs: &Kwargs) -> Result<Json, TaskError> {
    let number = |name: &str| kwargs.get(name).and_then(|value| value.to::<usize>().ok());
    match (number("tag"), number("size")) {
        (Some(tag), Some(size)) => Ok(Json::string(&format!("{tag:08}").repeat(size.div_ceil(8)))),
        _ => Err(TaskError::new("TypeError", "swells() takes tag and size")),
    }
}

fn is_set(name: &str, kwargs: &Kwargs) -> bool {
    kwargs.get(name).is_some_and(|value| value.as_str() == "true")
}

/// Panics when it is dropped.
struct Slippery;

impl Drop for Slippery {
    fn drop(&mut self) {
        panic!("{SLIPPED}");
    }
}
