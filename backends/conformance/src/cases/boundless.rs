//! What tasks and clients hand over that has no end, or nearly none: it is refused or cut, and whoever
//! took it lives on.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use celeriac_dsl::{Flow, IntoTaskError, Retry, TaskContext, group, task, tasks};
use celeriac_primitives::{Canvas, Json, Limits, Signature, TaskError};
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, GetError, SubmitError, Worker, WorkerOptions};
use tokio::time::Instant;

use crate::Subject;
use crate::bench::LEASE;

type BoxError = Box<dyn Error + Send + Sync>;

/// An error that has itself as its cause, and says its text again and again where it is endless.
#[derive(Debug)]
struct Round {
    is_endless: bool,
}

static ROUND: Round = Round { is_endless: false };
static ENDLESS: Round = Round { is_endless: true };

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = std::iter::repeat("round and ");
        let mut texts = texts.take(if self.is_endless { usize::MAX } else { 1 });
        texts.try_for_each(|text| f.write_str(text))
    }
}

impl Error for Round {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(if self.is_endless { &ENDLESS } else { &ROUND })
    }
}

/// Fails in one of the ways.
#[task(crate = celeriac_dsl, name = "boundless.fails")]
async fn fails(how: String) -> Result<i64, BoxError> {
    let round = |is_endless| Round { is_endless };
    match how.as_str() {
        "round" => Err(round(false).into()),
        "endless" => Err(round(true).into()),
        "task error" => Err(round(true).into_task_error().into()),
        "retry" => Err(Retry::now().because(round(true)).max_retries(1).into()),
        "many causes" => {
            Err(TaskError { causes: vec![String::new(); 1_000_000], ..TaskError::new("E", "m") }.into())
        }
        "panic" => std::panic::resume_unwind(Box::new("p".repeat(3 << 20))),
        other => Err(format!("there is no {other}").into()),
    }
}

fn nested(depth: usize) -> Canvas {
    let leaf = Canvas::from(Signature::new("boundless.one").expect("a good name"));
    (0..depth).fold(leaf, |inner, level| match level % 3 {
        0 => Canvas::group([inner]),
        1 => Canvas::chain([inner]),
        _ => {
            let mut around = Canvas::from(Signature::new("boundless.one").expect("a good name"));
            around.options_mut().add_link(inner);
            around
        }
    })
}

#[task(crate = celeriac_dsl, name = "boundless.one")]
async fn one() -> i64 {
    1
}

#[task(crate = celeriac_dsl, name = "boundless.becomes")]
async fn becomes(depth: usize, ctx: TaskContext) -> Result<i64, TaskError> {
    ctx.replace(Flow::<(), i64>::assume(nested(depth)))
}

#[task(crate = celeriac_dsl, name = "boundless.adds")]
async fn adds(depth: usize, ctx: TaskContext) -> Result<i64, TaskError> {
    ctx.add_to_chord(nested(depth))?;
    Ok(1)
}

/// Says so with a state of so many bytes, and waits.
#[task(crate = celeriac_dsl, name = "boundless.says")]
async fn says(state: usize, meta: usize, ctx: TaskContext) -> Result<i64, TaskError> {
    ctx.update_state(&"S".repeat(state), &"m".repeat(meta))?;
    ctx.cancellation().cancelled().await;
    Ok(1)
}

struct House {
    app: App,
    _coordinator: Coordinator,
    _worker: Worker,
}

impl House {
    fn start(subject: &dyn Subject, limits: Limits) -> Self {
        let builder = App::builder("boundless").tasks(tasks![fails, one, becomes, adds, says]).limits(limits);
        let app = builder.build().expect("the tasks fit together").on(subject.shared());
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(WorkerOptions::default().lease(LEASE * 10));
        Self { app, _coordinator, _worker }
    }

    async fn error(&self, canvas: impl Into<Canvas>) -> TaskError {
        let run = self.app.submit(canvas.into()).await.expect("it is accepted");
        match run.get_timeout(Duration::from_secs(60)).await {
            Err(GetError::Failed(failure)) => failure.error,
            other => panic!("{other:?}"),
        }
    }

    async fn lives(&self) {
        let run = self.app.submit(one.s(())).await.expect("it is accepted");
        assert_eq!(run.get_timeout(Duration::from_secs(60)).await.expect("it succeeds"), 1);
    }
}

fn call(task: &str, arg: impl serde::Serialize) -> Canvas {
    let signature = Signature::new(task).expect("the cases use good names");
    signature.arg(arg).expect("it has a JSON form").into()
}

pub async fn an_error_without_an_end_is_cut_and_its_worker_lives(subject: &dyn Subject) {
    let limits = Limits::default();
    let house = House::start(subject, limits);
    for how in ["round", "endless", "task error", "retry", "many causes", "panic"] {
        let error = house.error(call("boundless.fails", how)).await;
        let bytes = error.message.len() + error.causes.iter().map(String::len).sum::<usize>();
        assert!(bytes < limits.error_bytes_max + 200, "{how}: {bytes} bytes");
        assert!(error.causes.len() <= TaskError::CAUSES_MAX + 1, "{how}: {} causes", error.causes.len());
        let last = error.causes.last().unwrap_or(&error.message);
        assert!(last.contains('…'), "{how}: {}", error.kind);
    }
    house.lives().await;
}

pub async fn a_canvas_nested_too_deep_fails_the_leaf_that_asks_for_it(subject: &dyn Subject) {
    let house = House::start(subject, Limits::default());
    for depth in [65, 1_000, 100_000] {
        for canvas in [call("boundless.becomes", depth), Canvas::group([call("boundless.adds", depth)])] {
            let error = house.error(canvas).await;
            assert_eq!(error.kind, "LimitError", "{depth}");
            assert!(error.message.contains("nested more than 64 deep"), "{depth}: {error}");
        }
    }
    house.lives().await;
}

pub async fn a_submission_nested_too_deep_is_refused_and_its_client_lives(subject: &dyn Subject) {
    let house = House::start(subject, Limits::default());
    for depth in [65, 1_000, 100_000] {
        let canvas = nested(depth);
        let flow = Flow::<(), i64>::assume(canvas.clone());
        for error in [
            house.app.submit(flow.clone()).await.map(drop),
            house.app.submit(canvas.clone()).await.map(drop),
            house.app.submission(flow).key("deep").await.map(drop),
            house.app.submission(canvas).countdown(Duration::from_secs(1)).await.map(drop),
        ] {
            let error = error.expect_err("it is too deep");
            assert!(matches!(error, SubmitError::Compile(_)), "{error}");
            assert!(error.to_string().contains("nested more than 64 deep"), "{error}");
        }
    }
    let json: Json = Json::parse(&nested(2_000).to_json()).expect("it is JSON");
    let error = Canvas::from_json(json.as_str()).expect_err("it is too deep");
    assert!(error.to_string().contains("nested more than 64 deep"), "{error}");
    assert_eq!(subject.backend().list(None, 9).await.unwrap(), [], "nothing was stored");
    house.lives().await;
}

pub async fn a_state_of_any_length_is_cut_and_takes_no_other_report_along(subject: &dyn Subject) {
    let house = House::start(subject, Limits::default());
    let max = Limits::default().progress_bytes_max;
    let sizes = [(20_000_000, 10), (5, 10), (max + 1, max - 2), (8, 20_000_000), (max, 10), (5, 5)];
    let run = house.app.submit(group(sizes.map(|sizes| says.s(sizes)))).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while run.progress().await.unwrap().len() < sizes.len() {
        assert!(Instant::now() < until, "{} of {}", run.progress().await.unwrap().len(), sizes.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut reports = run.progress().await.unwrap();
    reports.sort_by_key(|report| report.task_id.node());
    for (report, (state, meta)) in reports.iter().zip(sizes) {
        let cut = format!("… (cut, {state} bytes)");
        assert_eq!(
            report.state.strip_prefix(&"S".repeat(state.min(max))),
            Some(if state > max { &*cut } else { "" })
        );
        assert_eq!(report.meta.as_str().starts_with("\"m"), meta + 2 <= max);
    }
    house.lives().await;
}
