//! The app that the processes are: the suite's tasks, which note what they do in the ledger, take a while,
//! and now and then ask to run again; and the [`rogues`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use celeriac::App;
use celeriac::dsl::{Arguments, Handler, TaskContext, TaskDef};
use celeriac::primitives::{Call, Json, Kwargs, Options, Outcome, Retry, TaskError, TaskId, TaskName, When};
use celeriac_conformance::tasks;
use futures::future::BoxFuture;

use crate::ledger::{End, Writer, digest};
use crate::options::LEASE;
use crate::rogues;

/// Where a process of the crew writes its part of the ledger.
pub(crate) const LEDGER: &str = "CELERIAC_CHAOS_LEDGER";

/// The header of leaves whose run will be forgotten.
pub(crate) const FORGOTTEN: &str = "forgotten";

/// Does what the program's arguments say, as the app.
pub(crate) fn play(ledger: PathBuf) -> ExitCode {
    let writer = Arc::new(Writer::create(&ledger));
    leave_with_the_parent();
    note_stalls(writer.clone());
    let app = App::builder("chaos").tasks(definitions()).state(writer).build();
    celeriac::cli::main(app.expect("the suite's tasks have different names"))
}

/// Whoever started this holds the other end of its stdin, and has gone when that is closed.
pub(crate) fn leave_with_the_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(99);
    });
}

/// On a machine that is busy a process may stand still for longer than its lease, as if somebody had
/// stopped it.
fn note_stalls(writer: Arc<Writer>) {
    std::thread::spawn(move || {
        let mut last = crate::ledger::now_us();
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = crate::ledger::now_us();
            if now - last > LEASE.as_micros() as u64 / 4 {
                writer.stalled(last, now);
            }
            last = now;
        }
    });
}

fn definitions() -> Vec<TaskDef> {
    macro_rules! definition {
        ($($place:literal)*) => {
            [$(Handler::Async(entry::<$place>)),*]
        };
    }
    let handlers = definition!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17);
    assert_eq!(handlers.len(), tasks::NAMES.len(), "one handler for each task");
    let suite = handlers.into_iter().zip(tasks::NAMES).map(|(handler, name)| definition(name, handler));
    suite.chain(rogues::definitions()).collect()
}

pub(crate) fn definition(name: &str, handler: Handler) -> TaskDef {
    TaskDef {
        name: TaskName::new(name).expect("the suite's names are good"),
        params: &[],
        states: Vec::new(),
        options: Options::new(),
        handler,
        description: "a task of the suite",
    }
}

fn entry<const PLACE: usize>(context: TaskContext, arguments: Arguments) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let (_, hash) = begins(&context, &arguments);
        let task = context.task_id();
        tokio::time::sleep(takes(&context)).await;
        let outcome = match (context.attempt(), tries_again(task), tasks::flaky(&context)) {
            // Its policy has it run again.
            (_, _, Some(error)) => Outcome::Failed(error),
            (1, true, None) => again(task),
            _ => call(tasks::NAMES[PLACE], &arguments),
        };
        ends(&context, hash, outcome)
    })
}

/// Notes that a call begins; its ledger, and the digest of its arguments.
pub(crate) fn begins(context: &TaskContext, arguments: &Arguments) -> (Arc<Writer>, u64) {
    let ledger = ledger(context);
    let hash = digest(tasks::without_failures(arguments.args()).as_str());
    if is_forgotten(context) {
        ledger.begins_forgotten(context.task_id());
    } else {
        ledger.begins(context.task_id(), context.attempt(), hash);
    }
    (ledger, hash)
}

/// Notes how a call ends.
pub(crate) fn ends(context: &TaskContext, hash: u64, outcome: Outcome) -> Outcome {
    let end = match &outcome {
        Outcome::Success(_) | Outcome::Replace(_) | Outcome::Add(_) => End::Ok,
        Outcome::Retry(_) => End::Retry,
        Outcome::Failed(error) if error.kind == tasks::FLAKY => End::Retry,
        _ => End::Failed,
    };
    if !is_forgotten(context) {
        ledger(context).ends(context.task_id(), context.attempt(), hash, end);
    }
    outcome
}

fn ledger(context: &TaskContext) -> Arc<Writer> {
    let ledger = context.state::<Arc<Writer>>().expect("the app has a ledger");
    Arc::clone(&ledger)
}

fn is_forgotten(context: &TaskContext) -> bool {
    context.header(FORGOTTEN) == Some(true)
}

pub(crate) fn call(name: &str, arguments: &Arguments) -> Outcome {
    match (arguments.args().to::<Vec<Json>>(), arguments.kwargs().to::<Kwargs>()) {
        (Ok(args), Ok(kwargs)) => tasks::outcome(tasks::run(name, Call::Once, &args, &kwargs)),
        _ => Outcome::Undecodable(format!("{arguments:?}")),
    }
}

/// How long a leaf takes; a few take longer than a lease. Those that must not run twice take longer than
/// others, so that more befalls them.
fn takes(context: &TaskContext) -> Duration {
    let once = context.options().is_some_and(|options| options.acks_late == Some(false));
    match chance(context.task_id(), 1) % 1000 {
        0..2 => LEASE * 3 / 2,
        more if once => Duration::from_millis(more % 400),
        more => Duration::from_millis(more % 40),
    }
}

/// Once more, at once or a little later.
fn again(task: TaskId) -> Outcome {
    let start = Some(When::After(chance(task, 3) % 300));
    Outcome::Retry(Box::new(Retry { start, ..Retry::new(TaskError::new("Busy", "once more")) }))
}

fn tries_again(task: TaskId) -> bool {
    chance(task, 2).is_multiple_of(37)
}

fn chance(task: TaskId, salt: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(task.uuid().as_bytes(), salt)
}
