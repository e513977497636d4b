//! Panics where none is expected: in what tasks are made of, and in the parts of workers and coordinators.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac::dsl::IntoCanvas;
use celeriac::prelude::*;
use celeriac::primitives::Json;
use serde::{Deserialize, Serialize};

use crate::flaky::{Flaky, Panics};

/// Panics when it is dropped.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Bomb(u8);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            match self.0 {
                0 => panic!("a bomb"),
                // The panic that it throws panics when it is dropped, and so on.
                more => std::panic::panic_any(Bomb(more - 1)),
            }
        }
    }
}

/// What one parameter of a task is: a number, and what panics when it is dropped.
#[derive(Debug, Serialize, Deserialize)]
struct Loaded {
    bomb: Option<Bomb>,
}

#[task(name = "panics.sleeps")]
async fn sleeps(ms: u64) -> u64 {
    let _bomb = Bomb(0);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

#[task(name = "panics.sleeps_nested")]
async fn sleeps_nested(ms: u64) -> u64 {
    let _bomb = Bomb(40);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

#[task(name = "panics.takes")]
async fn takes(_loaded: Loaded) -> i64 {
    1
}

#[task(name = "panics.takes_blocking")]
fn takes_blocking(_loaded: Loaded) -> i64 {
    1
}

#[task(name = "panics.gives")]
async fn gives() -> Loaded {
    Loaded { bomb: Some(Bomb(0)) }
}

#[task(name = "panics.gives_blocking")]
fn gives_blocking() -> Loaded {
    Loaded { bomb: Some(Bomb(0)) }
}

#[task(name = "panics.throws")]
async fn throws(nested: u8) -> i64 {
    tokio::task::yield_now().await;
    std::panic::panic_any(Bomb(nested))
}

#[task(name = "panics.throws_blocking")]
fn throws_blocking(nested: u8) -> i64 {
    std::panic::panic_any(Bomb(nested))
}

#[task(name = "panics.throws_late")]
fn throws_late(ms: u64) -> i64 {
    std::thread::sleep(Duration::from_millis(ms));
    std::panic::panic_any(Bomb(3))
}

#[task(name = "panics.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn app() -> App {
    let app = App::builder("panics").tasks(tasks![
        sleeps,
        sleeps_nested,
        takes,
        takes_blocking,
        gives,
        gives_blocking,
        throws,
        throws_blocking,
        throws_late,
        add
    ]);
    app.build().unwrap()
}

fn limit(ms: u64) -> Options {
    Options::new().with_time_limit(Duration::from_millis(ms))
}

/// A call with what panics when it is dropped; here it is text.
fn with_bomb(task: &str, nested: u8) -> Canvas {
    let bomb = Json::parse(&format!("{{\"bomb\":{nested}}}")).unwrap();
    Signature::new(task).unwrap().arg(bomb).unwrap().into()
}

/// Runs a canvas on a worker of one lane, which is there afterwards, holds nothing, and complains of nothing.
async fn kind_of_failure(canvas: impl IntoCanvas) -> String {
    let app = app();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().concurrency(1));
    let run = app.submit(canvas.into_canvas().unwrap()).await.unwrap();
    let ended = run.get_json(Some(Duration::from_secs(20))).await;
    let error = ended.expect_err("it does not succeed");
    let kind = error.task_error().unwrap_or_else(|| panic!("{error}")).kind.clone();
    for number in 0..3 {
        let next = app.submit(add.s((number, 1))).await.unwrap();
        assert_eq!(next.get_timeout(Duration::from_secs(20)).await.unwrap(), number + 1, "after {kind}");
    }
    assert_eq!(worker.vitals().complaint(), None);
    assert_eq!(worker.shutdown(Duration::from_secs(5)).await, 0, "nothing is held");
    kind
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panics_when_it_is_dropped_at_its_time_limit_is_timed_out() {
    for canvas in [sleeps.s(60_000).set(limit(50)), sleeps_nested.s(60_000).set(limit(50))] {
        assert_eq!(kind_of_failure(canvas).await, "TimeLimitExceeded");
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panics_when_it_is_dropped_since_it_was_not_heard_of_has_failed_for_that() {
    let options = Options::new().with_heartbeat(Duration::from_millis(50));
    assert_eq!(kind_of_failure(sleeps.s(60_000).set(options)).await, "HeartbeatTimeout");
}

#[tokio::test]
async fn what_panics_when_a_task_is_done_with_it_fails_the_leaf() {
    for nested in [0, 1, 40] {
        for task in ["panics.takes", "panics.takes_blocking"] {
            assert_eq!(kind_of_failure(with_bomb(task, nested)).await, "Panic");
        }
        assert_eq!(kind_of_failure(throws.s(nested)).await, "Panic");
        assert_eq!(kind_of_failure(throws_blocking.s(nested)).await, "Panic");
    }
    assert_eq!(kind_of_failure(gives.s(())).await, "Panic");
    assert_eq!(kind_of_failure(gives_blocking.s(())).await, "Panic");
    assert_eq!(kind_of_failure(sleeps.s(1)).await, "Panic");
}

#[tokio::test]
async fn what_panics_in_an_item_of_a_map_fails_the_leaf() {
    for (name, item) in [
        ("panics.throws", "3"),
        ("panics.throws_blocking", "3"),
        ("panics.takes", r#"{"bomb":2}"#),
        ("panics.takes_blocking", r#"{"bomb":2}"#),
    ] {
        let task = Signature::new(name).unwrap().task;
        let canvas = Canvas::map(task, [Json::parse(item).unwrap(), Json::parse(item).unwrap()]);
        assert_eq!(kind_of_failure(canvas).await, "Panic", "{name}");
    }
}

#[tokio::test]
async fn a_blocking_task_that_panics_when_nobody_waits_for_it_any_more_takes_nothing_along() {
    assert_eq!(kind_of_failure(throws_late.s(400).set(limit(50))).await, "TimeLimitExceeded");
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cuts_off_what_panics_when_it_is_dropped_gives_it_back() {
    let app = app();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    for once in [false, true] {
        let worker = app.worker(WorkerOptions::default());
        let canvas = sleeps.s(60_000).set(Options::new().with_acks_late(!once));
        let run = app.submit(canvas).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(worker.shutdown(Duration::ZERO).await, 1);
        let _second = app.worker(WorkerOptions::default());
        let error = run.get_timeout(Duration::from_secs(100)).await.unwrap_err();
        let kind = &error.task_error().unwrap().kind;
        assert_eq!(kind, if once { "WorkerLostError" } else { "Panic" }, "it runs to its end");
    }
}

/// An app on memory of which some operations panic so many times.
fn shaky(panics: &[(&'static str, usize)]) -> (App, Panics) {
    let panics: Panics = Arc::new(Mutex::new(panics.iter().copied().collect()));
    (app().on(Arc::new(Flaky::panicking(panics.clone()))), panics)
}

/// What the parts of a worker and of a coordinator ask.
const ASKED: [&str; 9] =
    ["receive", "finish", "renew", "note_progress", "events", "settle", "acknowledge", "fire", "sweep"];

#[tokio::test(start_paused = true)]
async fn a_part_that_panics_starts_again_and_nothing_is_lost() {
    for operation in ASKED {
        let (app, panics) = shaky(&[(operation, 2)]);
        let coordinator = app.coordinator(CoordinatorOptions::default());
        let worker = app.worker(WorkerOptions::default().lease(Duration::from_secs(3)));
        let canvas = chord([add.s((1, 1)), add.s((2, 2))], add.si((20, 20))) | add.s(2);
        let run = app.submit(canvas).await.unwrap();
        // What was at hand of a coordinator that panicked comes again when its lease has passed.
        let value = run.get_timeout(Duration::from_secs(200)).await;
        assert_eq!(value.unwrap_or_else(|error| panic!("{operation}: {error}")), 42);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let left = panics.lock().unwrap_or_else(PoisonError::into_inner)[operation];
        // Nothing here is asked for by chance; progress and acknowledging are when there is a reason.
        assert!(left == 0 || ["note_progress", "acknowledge", "renew"].contains(&operation), "{operation}");
        assert_eq!((worker.vitals().complaint(), coordinator.vitals().complaint()), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_panics_makes_its_process_red_for_a_while() {
    let (app, _) = shaky(&[("receive", 1), ("fire", 1)]);
    let coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(worker.vitals().complaint().unwrap(), "the fetcher has panicked: receive panics");
    assert_eq!(coordinator.vitals().complaint().unwrap(), "the keeper of timers has panicked: fire panics");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((worker.vitals().complaint(), coordinator.vitals().complaint()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_panics_again_and_again_is_said_to_have_failed() {
    for operation in ["receive", "renew", "finish", "events", "fire", "sweep"] {
        let (app, _) = shaky(&[(operation, usize::MAX)]);
        let coordinator = app.coordinator(CoordinatorOptions::default());
        let worker = app.worker(WorkerOptions::default().lease(Duration::from_secs(1)));
        let _run = app.submit(sleeps.s(2_000)).await.unwrap();
        let (of_worker, of_coordinator) = (worker.vitals(), coordinator.vitals());
        let failed = async {
            tokio::select! {
                why = of_worker.failed() => why,
                why = of_coordinator.failed() => why,
            }
        };
        let why = tokio::time::timeout(Duration::from_secs(60), failed).await;
        let why = why.unwrap_or_else(|_| panic!("{operation}"));
        assert!(why.ends_with(&format!("has panicked 5 times in a row: {operation} panics")), "{why}");
        let stopped = tokio::time::timeout(Duration::from_secs(60), async {
            worker.shutdown(Duration::from_secs(1)).await;
            coordinator.shutdown().await;
        });
        stopped.await.unwrap_or_else(|_| panic!("they stop all the same: {operation}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_embedded_app_starts_its_parts_anew_when_one_has_failed() {
    let panics: Panics = Arc::new(Mutex::new([("receive", 5)].into()));
    let app = App::embedded().tasks(tasks![add]).backend(Flaky::panicking(panics)).build().unwrap();
    let first = app.submit(add.s((1, 1))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!first.ready().await.unwrap());
    let second = app.submit(add.s((2, 2))).await.unwrap();
    assert_eq!(second.get_timeout(Duration::from_secs(60)).await.unwrap(), 4);
    assert_eq!(first.get_timeout(Duration::from_secs(60)).await.unwrap(), 2);
}
