//! Workers and coordinators: any number, coming and going.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use celeriac::memory::Memory;
use celeriac::prelude::*;
use futures::FutureExt as _;

#[derive(Default)]
struct Seen {
    running: AtomicUsize,
    most: AtomicUsize,
    threads: Mutex<HashSet<std::thread::ThreadId>>,
    /// The run that [`looks`] looks at.
    before: OnceLock<Handle<u64>>,
}

#[task(name = "worker.nap")]
async fn nap(ms: u64, seen: State<Arc<Seen>>) -> u64 {
    let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(running, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    seen.running.fetch_sub(1, Ordering::SeqCst);
    ms
}

#[task(name = "worker.blocks")]
fn blocks(seen: State<Arc<Seen>>) -> bool {
    seen.threads.lock().unwrap().insert(std::thread::current().id());
    true
}

#[task(name = "worker.panics")]
async fn panics(text: String) -> i64 {
    panic!("no {text}")
}

#[task(name = "worker.panics_blocking")]
fn panics_blocking() -> i64 {
    panic!("not here either")
}

#[task(name = "worker.waits")]
async fn waits(ctx: TaskContext, seen: State<Arc<Seen>>) -> bool {
    ctx.cancellation().cancelled().await;
    seen.most.store(99, Ordering::SeqCst);
    true
}

/// Whether another run has ended, asked by a task that leaves its thread to nobody.
#[task(name = "worker.looks")]
async fn looks(seen: State<Arc<Seen>>) -> bool {
    let before = seen.before.get().expect("the other was submitted");
    before.ready().now_or_never().expect("the memory answers at once").unwrap()
}

#[task(name = "worker.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn builder() -> celeriac::runtime::AppBuilder {
    App::builder("worker")
        .tasks(tasks![nap, blocks, panics, panics_blocking, waits, looks, add])
        .state(Arc::new(Seen::default()))
}

#[tokio::test(start_paused = true)]
async fn a_worker_runs_as_many_leaves_at_a_time_as_it_may() {
    let app = builder().build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default().concurrency(3));
    let run = app.submit(group((0..20).map(|_| nap.s(100)))).await.unwrap();
    let before = tokio::time::Instant::now();
    run.get().await.unwrap();
    let rounds = before.elapsed().as_millis() / 100;
    assert!((7..=8).contains(&rounds), "20 leaves by threes took {rounds} rounds");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_sleeping_leaves_fit_in_one_worker() {
    let app = builder().build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default().concurrency(10_000));
    let run = app.submit(group((0..10_000).map(|_| nap.s(1000)))).await.unwrap();
    let before = tokio::time::Instant::now();
    assert_eq!(run.get().await.unwrap().len(), 10_000);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_text() {
    let app = builder().run_embedded(WorkerOptions::default()).build().unwrap();
    let error = app.submit(panics.s("way")).await.unwrap().get().await.unwrap_err();
    assert_eq!(error.to_string(), "canvas (worker.panics) failed: Panic: no way");
    let error = app.submit(panics_blocking.s(())).await.unwrap().get().await.unwrap_err();
    assert_eq!(error.to_string(), "canvas (worker.panics_blocking) failed: Panic: not here either");
    // The worker is none the worse for it.
    assert_eq!(app.submit(add.s((1, 2))).await.unwrap().get().await.unwrap(), 3);
}

#[tokio::test]
async fn blocking_tasks_run_off_the_async_threads() {
    // One async thread, this one: a task on it would be seen as its own.
    let seen = Arc::new(Seen::default());
    let app = App::embedded().tasks(tasks![blocks]).state(seen.clone()).build().unwrap();
    let run = app.submit(blocks.s(()) | blocks.si(())).await.unwrap();
    assert!(run.get().await.unwrap());
    let threads = seen.threads.lock().unwrap();
    assert!(!threads.is_empty() && !threads.contains(&std::thread::current().id()), "{threads:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_told_before_it_is_cut_off() {
    let seen = Arc::new(Seen::default());
    let app = App::builder("told").tasks(tasks![waits]).state(seen.clone()).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let worker = app.worker(WorkerOptions::default());
    let run = app.submit(waits.s(())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(worker.shutdown(Duration::from_millis(100)).await, 0, "it ended when it was told");
    assert_eq!(seen.most.load(Ordering::SeqCst), 99);
    assert!(run.get().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn two_workers_share_what_there_is() {
    let app = builder().build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let options = WorkerOptions::default().concurrency(4);
    let _workers = [app.worker(options.clone()), app.worker(options)];
    let run = app.submit(group((0..64).map(|_| nap.s(1000)))).await.unwrap();
    let before = tokio::time::Instant::now();
    run.get().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(10), "64 naps by eights: {:?}", before.elapsed());
}

#[tokio::test]
async fn an_unknown_task_and_a_wrong_argument_are_failures() {
    let app = builder().run_embedded(WorkerOptions::default()).build().unwrap();
    let run = app.submit(Signature::new("worker.nobody").unwrap()).await.unwrap();
    let error = run.get().await.unwrap_err();
    assert_eq!(error.task_error().unwrap().kind, "NotRegistered");
    let run =
        app.submit(Signature::new("worker.add").unwrap().arg("x").unwrap().arg(1).unwrap()).await.unwrap();
    let error = run.get().await.unwrap_err();
    assert_eq!(error.task_error().unwrap().kind, "TypeError");
    assert!(error.to_string().contains("argument 'x' should be i64"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_in_order_loses_nothing() {
    let backend = Memory::new();
    let app = builder().backend(backend.clone()).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let first = app.worker(WorkerOptions::default().concurrency(2).prefetch(100));
    let run = app.submit(group((0..50).map(|_| nap.s(100)))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(first.shutdown(Duration::from_secs(5)).await, 0, "running leaves end within the deadline");
    // Six ended; the others were given back at once, not after a lease.
    let before = tokio::time::Instant::now();
    let _second = app.worker(WorkerOptions::default().concurrency(50));
    run.get().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_outlasts_the_deadline_is_cut_off_and_given_back_at_once() {
    let backend = Memory::new();
    let app = builder().backend(backend.clone()).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let first = app.worker(WorkerOptions::default());
    let run = app.submit(nap.s(3_000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(first.shutdown(Duration::from_secs(1)).await, 1);
    let before = tokio::time::Instant::now();
    let _second = app.worker(WorkerOptions::default());
    run.get().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_outlasts_many_leases_runs_once() {
    let seen = Arc::new(Seen::default());
    let app = builder().state(seen.clone()).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let options = WorkerOptions::default().lease(Duration::from_secs(2));
    let _workers = [app.worker(options.clone()), app.worker(options)];
    let run = app.submit(nap.s(60_000)).await.unwrap();
    let before = tokio::time::Instant::now();
    run.get().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(62), "{:?}", before.elapsed());
    assert_eq!(seen.most.load(Ordering::SeqCst), 1, "it was started once");
}

#[tokio::test(start_paused = true)]
async fn a_lost_worker_costs_its_lease() {
    let app = builder().build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let options = WorkerOptions::default().lease(Duration::from_secs(3));
    let first = app.worker(options.clone());
    let run = app.submit(group((0..8).map(|_| nap.s(1000)))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(first);
    let _second = app.worker(options);
    let before = tokio::time::Instant::now();
    run.get().await.unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(3 + 5 + 1 + 1),
        "lease, sweep and the nap: {:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_goes_away_is_replaced_by_any_other() {
    let app = builder().build().unwrap();
    let _worker = app.worker(WorkerOptions::default());
    let first = app.coordinator(CoordinatorOptions::default());
    let run = app.submit(nap.s(1000) | nap.si(1000) | nap.si(1000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    first.shutdown().await;
    tokio::time::sleep(Duration::from_millis(5000)).await;
    assert!(!run.ready().await.unwrap(), "nobody advances it");
    let _second = app.coordinator(CoordinatorOptions::default());
    run.get_timeout(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_coordinators_and_workers_share_one_backend() {
    let app = builder().build().unwrap();
    let _coordinators: Vec<_> = (0..3).map(|_| app.coordinator(CoordinatorOptions::default())).collect();
    let _workers: Vec<_> = (0..4).map(|_| app.worker(WorkerOptions::default().concurrency(4))).collect();
    let canvas = || group((0..100).map(|i| add.s((i, i)) | add.s(1)));
    let runs = futures::future::join_all((0..50).map(|_| app.submit(canvas()))).await;
    let expect: Vec<i64> = (0..100).map(|i| 2 * i + 1).collect();
    for run in runs {
        assert_eq!(run.unwrap().get().await.unwrap(), expect);
    }
}

/// In virtual time, so to the millisecond.
#[tokio::test(start_paused = true)]
async fn a_free_lane_begins_a_leaf_within_five_milliseconds() {
    let app = builder().build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    for before in [0, 1, 100, 4_000] {
        // Leaves like these tell the worker how slow they are.
        app.submit(group((0..40).map(|_| nap.s(before)))).await.unwrap().get().await.unwrap();
        let long = app.submit(nap.s(4_000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..20 {
            let start = tokio::time::Instant::now();
            app.submit(nap.s(0)).await.unwrap().get().await.unwrap();
            // The clock of timers goes by whole milliseconds, and the nap takes one.
            assert!(start.elapsed() <= Duration::from_millis(5), "{:?} after {before} ms", start.elapsed());
        }
        assert!(!long.ready().await.unwrap());
        long.get().await.unwrap();
    }
}

/// All lanes of the one are busy with long leaves, after many quick ones; the other has nothing to do.
#[tokio::test(start_paused = true)]
async fn what_one_worker_cannot_begin_another_has_within_twenty_milliseconds() {
    let app = builder().build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _first = app.worker(WorkerOptions::default().concurrency(8));
    app.submit(group((0..500).map(|_| nap.s(0)))).await.unwrap().get().await.unwrap();
    // Eight that run, and as many as it thinks that it begins soon.
    let long = app.submit(group((0..16).map(|_| nap.s(10_000)))).await.unwrap();
    let _second = app.worker(WorkerOptions::default().concurrency(8));
    let start = tokio::time::Instant::now();
    long.get().await.unwrap();
    assert!(start.elapsed() <= Duration::from_millis(10_020), "{:?}", start.elapsed());
}

/// On the only thread there is nobody else who could report it.
#[tokio::test]
async fn on_a_single_thread_a_leaf_is_reported_before_the_next_of_its_lane_begins() {
    let seen = Arc::new(Seen::default());
    let app = App::builder("worker").tasks(tasks![nap, looks]).state(seen.clone()).build().unwrap();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let first = app.submit(nap.s(3)).await.unwrap();
    let run = app.submit(looks.s(())).await.unwrap();
    seen.before.set(first).expect("it is set once");
    // It has both in hand.
    let _worker = app.worker(WorkerOptions::default().concurrency(1).prefetch(4));
    assert!(run.get_timeout(Duration::from_secs(10)).await.unwrap(), "the next had begun before");
}
