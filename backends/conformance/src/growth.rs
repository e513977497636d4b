//! Whole runs that grow, worked off by hand: what a worker reports comes several times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Backend, DEFAULT_QUEUE, Delivery, WorkerId};
use celeriac_engine::text;
use celeriac_primitives::{Canvas, Json, Kwargs, Limits, Outcome, Signature, TaskId, TaskMessage, TaskName};
use celeriac_runtime::{App, CoordinatorOptions, GetError};

use crate::tasks;
use crate::whole::Runs;

const LEASE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs canvases of the suite's tasks, with small limits. Where queueing a leaf and noting that are two steps, it comes at
/// least once: two coordinators that handle reports on the same leaf may both queue what follows.
///
/// # Panics
/// When a promise is broken.
pub async fn check(backend: impl Backend + Clone, runs: Runs) {
    let limits = Limits { replacements_max: 3, run_nodes_max: 12, ..Limits::default() };
    let app = App::builder("growth").backend(backend).limits(limits).build().expect("it has no tasks");
    let _coordinators = [0, 1].map(|_| app.coordinator(CoordinatorOptions::default()));
    let gives = async |canvas: &str, expect: &str| {
        assert_eq!(
            run(&app, canvas, runs, thrice).await.map(|value| value.to_string()),
            Ok(expect.to_owned()),
            "{canvas}"
        );
    };
    let fails = async |canvas: &str, expect: &str| {
        let error = run(&app, canvas, runs, thrice).await.expect_err(canvas);
        assert!(error.starts_with(expect), "{canvas}: {error}");
    };
    gives("add_replaced.s(1, 2) | add.s(3)", "6").await;
    gives("chord([down.s(2), add_replaced.s(1, 1)], tsum.s()) | add.s(1)", "5").await;
    gives("become.s(text='group()') | identity.s()", "[]").await;
    fails("fail_replaced.s().link_error(echo.s())", "replacement (fail) failed: ValueError: boom").await;
    gives("chord([adds.s(1, canvases=['add.s(1, 1)', 'add.s(1, 2)']), add.s(2, 2)], echo.s())", "[1,2,3,4]")
        .await;
    gives("group(adds.s(1, canvases=['fail.s()', 'add.s(1, 1)'])).set(on_failure='drop')", "[1,2]").await;
    fails(
        "add.s(1, 1) | adds.s(canvases=['add.s(1, 1)'])",
        "chain[1] (adds) failed: ValueError: the task is no member",
    )
    .await;
    fails(
        "group(adds.s(1, canvases=['add.s(1, 1)', 'fail.s()'])).link_error(echo.s())",
        "group[0].replacement.added[1] (fail) failed: ValueError: boom",
    )
    .await;
    gives("down.s(3)", "3").await;
    let deep = "replacement.chain[0].replacement.chain[0].replacement.chain[0] (down) failed: LimitError: leaves \
                were replaced, or added others, more than 3 times in a row (replacements_max); let one task loop";
    fails("down.s(4)", deep).await;
    let deep = "group[0].replacement.added[0].replacement.added[0].replacement.added[0] (adds) failed: LimitError: leaves \
                were replaced, or added others, more than 3 times in a row";
    gives(&adding(3), "[1,1,1,3]").await;
    fails(&adding(4), deep).await;
    let full = "chain[1] (add_to_all) failed: LimitError: the run would have more than 12 nodes with its replacements \
                (run_nodes_max); use chunks";
    gives("identity.s([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) | add_to_all.s(1)", "[2,3,4,5,6,7,8,9,10,11]").await;
    fails("identity.s([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) | add_to_all.s(1)", full).await;
    let bodiless = r#"{"task":"celery.chord","kwargs":{"header":[],"body":null},"subtask_type":"chord"}"#;
    fails(
        &format!("become.s(canvas={})", bodiless.replace("null", "None")),
        "canvas (become) failed: CompileError: the canvas that was returned cannot run: canvas: this chord has no body",
    )
    .await;
}

/// A leaf that comes several times may return something else each time, also what cannot run: the first counts.
///
/// # Panics
/// When another one does.
pub async fn check_that_the_first_counts(backend: impl Backend + Clone) {
    fn another(message: &TaskMessage) -> Vec<Outcome> {
        let replaced = matches!(execute(message), Outcome::Replace(_));
        let others = [Outcome::Replace(Json::null()), Outcome::Success(Json::null())];
        std::iter::once(execute(message)).chain(others.into_iter().filter(|_| replaced)).collect()
    }
    let app = App::builder("growth").backend(backend).build().expect("it has no tasks");
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    for canvas in ["become.s(text='add.s(1, 2)') | add.s(3)", "become.s(text='down.s(3)') | add.s(3)"] {
        let value = run(&app, canvas, Runs::AtLeastOnce, another).await.map(|value| value.to_string());
        assert_eq!(value, Ok("6".to_owned()), "{canvas}");
    }
}

/// A group of a leaf that adds one that adds one, so often.
fn adding(times: u32) -> String {
    let innermost = text::parse("add.s(1, 2)").expect("the canvas is well written");
    let adds = |inner: Canvas, _| {
        let canvases = Json::list([Json::from_compact(inner.to_json())]);
        let kwargs = Kwargs::from([("canvases".to_owned(), canvases)]);
        let signature = Signature::of(TaskName::new("adds").expect("a good name"));
        Canvas::from(Signature { args: vec![Json::from_compact("1")], kwargs, ..signature })
    };
    Canvas::group([(0..times).fold(innermost, adds)]).to_string()
}

/// What a worker reports of a leaf.
type Reports = fn(&TaskMessage) -> Vec<Outcome>;

/// The same three times.
fn thrice(message: &TaskMessage) -> Vec<Outcome> {
    vec![execute(message); 3]
}

/// Runs a canvas to its end: its value, or why there is none.
async fn run(app: &App, canvas: &str, runs: Runs, reports: Reports) -> Result<Json, String> {
    let canvas: Canvas = text::parse(canvas).expect("the canvas is well written");
    let run = app.submit(canvas).await.expect("the canvas is accepted");
    let mut called: BTreeMap<TaskId, u32> = BTreeMap::new();
    let worked = async {
        let ended = run.ended();
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                biased;
                ended = &mut ended => return ended.expect("the run is known"),
                () = work(app.backend(), &mut called, reports) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, worked).await.expect("a run ends");
    let twice: Vec<_> = called.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty() || runs == Runs::AtLeastOnce, "leaves come once: {twice:?}");
    let value = match run.get_json(None).await {
        Ok(value) => Ok(value),
        Err(GetError::Failed(failure)) => Err(failure.to_string()),
        Err(error) => panic!("there is no value: {error}"),
    };
    let backend = app.backend();
    let (stored, _) = backend.find(run.id()).await.expect("reading works").expect("the run is known");
    let segments = backend.segments(stored).await.expect("reading works");
    run.forget().await.expect("forgetting works");
    for segment in segments {
        assert!(backend.status(segment).await.expect("reading works").is_none(), "forgotten with its run");
    }
    value
}

/// Takes leaves and reports them.
async fn work(backend: &Arc<dyn Backend>, called: &mut BTreeMap<TaskId, u32>, reports: Reports) {
    let (worker, queues) = (WorkerId::new("w"), [DEFAULT_QUEUE.into()]);
    let taken = backend
        .receive(&worker, &queues, celeriac_backends::Take::new(10, LEASE).wait(SOON))
        .await
        .expect("receive works");
    let mut done = Vec::new();
    for Delivery { id, message, .. } in taken {
        *called.entry(message.task_id).or_default() += 1;
        done.extend(reports(&message).into_iter().map(|outcome| (id.clone(), message.completion(outcome))));
    }
    if !done.is_empty() {
        backend.finish(&done).await.expect("finish works");
    }
}

fn execute(message: &TaskMessage) -> Outcome {
    let args: Vec<Json> = message.args.to().expect("arguments are a list");
    let kwargs: Kwargs = message.kwargs.to().expect("keyword arguments are an object");
    tasks::outcome(tasks::run(message.task.as_str(), message.call, &args, &kwargs))
}
