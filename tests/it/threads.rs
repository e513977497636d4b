//! Blocking tasks that hang past their limit, and the threads that they keep.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use celeriac::prelude::*;
use celeriac::primitives::{Json, Options};
use tokio::time::Instant;

/// What blocks until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    blocked: AtomicUsize,
}

impl Gate {
    fn wait(&self) {
        self.blocked.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[task(name = "threads.hang")]
fn hang(gate: State<Arc<Gate>>) -> bool {
    gate.wait();
    true
}

#[task(name = "threads.hang_item")]
fn hang_item(_number: u64, gate: State<Arc<Gate>>) -> bool {
    gate.wait();
    true
}

#[task(name = "threads.quick")]
fn quick(number: u64) -> u64 {
    number
}

#[task(name = "threads.work")]
fn work(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

#[task(name = "threads.light")]
async fn light(number: u64) -> u64 {
    number
}

fn limit(ms: u64) -> Options {
    Options::new().with_time_limit(Duration::from_millis(ms))
}

const SOON: Duration = Duration::from_secs(20);

/// An app whose gate is opened when this is dropped: nothing hangs when a test fails.
struct Open(App, Arc<Gate>);

impl Drop for Open {
    fn drop(&mut self) {
        self.1.open();
    }
}

fn app() -> Open {
    let gate = Arc::new(Gate::default());
    let app = App::builder("threads").tasks(tasks![hang, hang_item, quick, work, light]).state(gate.clone());
    Open(app.build().unwrap(), gate)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lets so many blocking leaves hang past their limit.
async fn let_hang(app: &App, count: usize) {
    let run = app.submit(group((0..count).map(|_| hang.s(()).set(limit(30))))).await.unwrap();
    let error = run.get_timeout(SOON).await.unwrap_err();
    assert_eq!(error.task_error().unwrap().kind, "TimeLimitExceeded");
    run.ended().await.unwrap();
}

#[tokio::test]
async fn a_thread_that_hangs_is_counted_until_it_comes_back() {
    let open = app();
    let Open(app, gate) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().concurrency(2));
    assert_eq!(worker.hung_threads(), 0);
    let_hang(app, 3).await;
    until("three hang", || worker.hung_threads() == 3).await;
    assert_eq!(worker.vitals().complaint(), None, "there are others");
    gate.open();
    until("they are back", || worker.hung_threads() == 0).await;
}

#[tokio::test]
async fn without_threads_blocking_leaves_wait_and_all_others_go_on() {
    let open = app();
    let Open(app, gate) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().concurrency(4).threads(2));
    let_hang(app, 2).await;
    until("it is said", || worker.vitals().complaint().is_some()).await;
    let complaint = worker.vitals().complaint().unwrap();
    assert_eq!(complaint, "all 2 threads for blocking tasks hang, the last in threads.hang");
    // More than lanes: none of them takes one.
    let blocking = app.submit(group((0..10).map(|i| quick.s(i).set(limit(1000))))).await.unwrap();
    for number in 0..20 {
        let run = app.submit(light.s(number)).await.unwrap();
        assert_eq!(run.get_timeout(SOON).await.unwrap(), number);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!blocking.ready().await.unwrap());
    gate.open();
    assert_eq!(blocking.get_timeout(SOON).await.unwrap(), (0..10).collect::<Vec<_>>(), "none timed out");
    assert_eq!(worker.vitals().complaint(), None);
}

#[tokio::test]
async fn a_worker_with_threads_runs_what_one_without_cannot() {
    let open = app();
    let Open(app, _) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().threads(2));
    let_hang(app, 2).await;
    let blocking = app.submit(group((0..10).map(|i| quick.s(i)))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _second = app.worker(WorkerOptions::default());
    assert_eq!(blocking.get_timeout(SOON).await.unwrap(), (0..10).collect::<Vec<_>>());
    assert_eq!(worker.hung_threads(), 2);
}

#[tokio::test]
async fn a_time_limit_begins_when_the_task_has_a_thread() {
    let open = app();
    let Open(app, _) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default().concurrency(4).threads(1));
    let first = app.submit(work.s(400)).await.unwrap();
    let waits = app.submit(group((0..3).map(|i| quick.s(i).set(limit(150))))).await.unwrap();
    assert_eq!(waits.get_timeout(SOON).await.unwrap(), [0, 1, 2]);
    assert_eq!(first.get_timeout(SOON).await.unwrap(), 400);
}

/// Here the runtime has no more threads, and the worker does not know it.
#[test]
fn a_time_limit_begins_when_the_runtime_has_a_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async {
        let open = app();
        let Open(app, _) = &open;
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(WorkerOptions::default().concurrency(4));
        let first = app.submit(work.s(400)).await.unwrap();
        let waits = app.submit(group((0..3).map(|i| quick.s(i).set(limit(150))))).await.unwrap();
        assert_eq!(waits.get_timeout(SOON).await.unwrap(), [0, 1, 2]);
        assert_eq!(first.get_timeout(SOON).await.unwrap(), 400);
    });
}

#[tokio::test]
async fn more_blocking_leaves_than_threads_all_have_their_turn() {
    let open = app();
    let Open(app, _) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().concurrency(8).threads(2));
    let start = Instant::now();
    let run = app.submit(group((0..60).map(|_| work.s(10).set(limit(5000))))).await.unwrap();
    assert_eq!(run.get_timeout(SOON).await.unwrap(), vec![10; 60]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(worker.shutdown(Duration::from_secs(1)).await, 0);
}

#[tokio::test]
async fn a_map_that_hangs_keeps_one_thread() {
    let open = app();
    let Open(app, gate) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().threads(2));
    let items = (0..5).map(|item: u64| Json::new(&item).unwrap());
    let task = Signature::new("threads.hang_item").unwrap().task;
    let run = app.submission(Canvas::map(task, items)).time_limit(Duration::from_millis(50)).await;
    let run = run.unwrap();
    assert_eq!(run.get_json(Some(SOON)).await.unwrap_err().task_error().unwrap().kind, "TimeLimitExceeded");
    until("one hangs", || worker.hung_threads() == 1).await;
    gate.open();
    until("it is back", || worker.hung_threads() == 0).await;
    assert_eq!(gate.blocked.load(Ordering::SeqCst), 1, "the other items were not begun");
}

#[tokio::test]
async fn what_waits_for_a_thread_is_given_back_when_the_worker_stops() {
    let open = app();
    let Open(app, _) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().threads(1));
    let first = app.submit(work.s(300)).await.unwrap();
    let waits = app.submit(quick.s(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(worker.shutdown(Duration::from_secs(5)).await, 0);
    assert_eq!(first.get_timeout(SOON).await.unwrap(), 300);
    let _second = app.worker(WorkerOptions::default());
    assert_eq!(waits.get_timeout(SOON).await.unwrap(), 1);
}

#[tokio::test]
async fn a_free_lane_takes_leaves_beside_blocking_ones() {
    let open = app();
    let Open(app, gate) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default().concurrency(4));
    let _held = app.submit(group((0..3).map(|_| hang.s(())))).await.unwrap();
    until("three lanes are busy", || gate.blocked.load(Ordering::SeqCst) == 3).await;
    for number in 0..20 {
        let (one, two) =
            (app.submit(light.s(number)).await.unwrap(), app.submit(quick.s(number)).await.unwrap());
        assert_eq!(one.get_timeout(SOON).await.unwrap() + two.get_timeout(SOON).await.unwrap(), 2 * number);
    }
    assert_eq!(worker.hung_threads(), 0, "they are within their limits, having none");
}

#[tokio::test]
async fn a_blocking_leaf_that_runs_at_most_once_is_lost_when_its_worker_stops_at_once() {
    let open = app();
    let Open(app, gate) = &open;
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default());
    let run = app.submit(hang.s(()).set(Options::new().with_acks_late(false))).await.unwrap();
    until("it runs", || gate.blocked.load(Ordering::SeqCst) == 1).await;
    worker.stopper().stop_at_once();
    assert_eq!(worker.shutdown(SOON).await, 1);
    let _second = app.worker(WorkerOptions::default());
    let error = run.get_timeout(SOON).await.unwrap_err();
    assert_eq!(error.task_error().unwrap().kind, "WorkerLostError");
    gate.open();
    assert_eq!(gate.blocked.load(Ordering::SeqCst), 1);
}
