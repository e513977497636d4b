//! A coordinator that has much to do: it keeps what it works on, and does small things meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::backends::{Backend, Events, Queue, Take, WorkerId};
use celeriac::memory::Memory;
use celeriac::prelude::*;
use tokio::time::{Instant, timeout};

const LEASE: Duration = Duration::from_millis(100);

#[task(name = "coordinator.one")]
async fn one(calls: State<Calls>) -> i64 {
    calls.fetch_add(1, Ordering::SeqCst);
    1
}

#[task(name = "coordinator.plus")]
async fn plus(x: i64) -> i64 {
    x + 1
}

type Calls = Arc<AtomicUsize>;

fn app(memory: &Memory, calls: &Calls) -> App {
    let tasks = tasks![one, plus];
    App::builder("coordinator").tasks(tasks).state(calls.clone()).backend(memory.clone()).build().unwrap()
}

fn options() -> CoordinatorOptions {
    CoordinatorOptions { lease: LEASE, sweep_every: LEASE / 5, ..CoordinatorOptions::default() }
}

/// What a submission brings to do takes many leases; the others sweep all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_longer_than_its_lease_is_done_once() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let app = app(&memory, &calls);
    let _coordinators: Vec<_> = (0..3).map(|_| app.coordinator(options())).collect();
    let _worker = app.worker(WorkerOptions::default());
    let run = app.submit(group((0..20_000).map(|_| one.s(())))).await.unwrap();
    assert_eq!(run.get().await.unwrap().len(), 20_000);
    run.ended().await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 20_000);
}

/// A run of very many leaves is dispatched in slices; a chain that is submitted afterwards runs meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn small_runs_pass_a_huge_one_that_is_being_dispatched() {
    // On a busy machine all may be dispatched before the first chain is there: then there were too few.
    for leaves in [100_000, 200_000, 400_000, 800_000] {
        let (passed, slowest) = passing(leaves).await;
        println!(
            "{passed} chains of ten have ended before {leaves} were dispatched, the slowest in {slowest:?}"
        );
        assert!(slowest < Duration::from_secs(2), "{passed} chains, the slowest took {slowest:?}");
        if passed > 0 {
            return;
        }
    }
    panic!("no chain ends before a huge run is dispatched that was submitted before it");
}

/// How many chains begin and end while a run of so many leaves is dispatched, and how long the slowest takes.
async fn passing(leaves: usize) -> (usize, Duration) {
    let (memory, calls) = (Memory::new(), Calls::default());
    let app = app(&memory, &calls);
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    let huge = group((0..leaves).map(|_| one.s(()).set(Options::new().with_queue("nobody").unwrap())));
    let huge = app.submit(huge).await.unwrap();
    let small = || one.s(()) | chain([(); 9].map(|()| plus.s(())));
    let (mut passed, mut slowest) = (0, Duration::ZERO);
    while dispatched(&memory) < leaves {
        let start = Instant::now();
        assert_eq!(app.submit(small()).await.unwrap().get().await.unwrap(), 10);
        slowest = slowest.max(start.elapsed());
        passed += usize::from(dispatched(&memory) < leaves);
    }
    huge.forget().await.unwrap();
    (passed, slowest)
}

fn dispatched(memory: &Memory) -> usize {
    memory.census()["leaves waiting"]
}

/// What is taken, and never finished, is still somebody's: others are not told before its coordinator is
/// gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_kept_as_long_as_its_coordinator_works_on_it() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let app = app(&memory, &calls);
    let coordinator = app.coordinator(options());
    // A wide run whose leaves nobody takes: its dispatch is what the coordinator works on.
    let run = app.submit(group((0..100_000).map(|_| one.s(())))).await.unwrap();
    while run.status().await.unwrap().open > 0 && dispatched(&memory) < 100_000 {
        memory.sweep(5).await.unwrap();
        let stolen = memory.events(10, LEASE, Duration::ZERO).await.unwrap();
        assert!(stolen.is_empty(), "another coordinator gets {stolen:?}");
        tokio::task::yield_now().await;
    }
    timeout(Duration::from_secs(20), coordinator.shutdown()).await.expect("it stops");
    let queues = ["celery".into()];
    let taken = memory.receive(&WorkerId::new("w"), &queues, Take::new(200_000, LEASE)).await.unwrap();
    assert_eq!(taken.len(), 100_000, "each leaf once");
    let _: &dyn Backend = &memory;
}

/// As when somebody has removed its event by hand: nobody waits until what coordinators before have died of
/// has come again.
#[tokio::test(start_paused = true)]
async fn what_is_owed_without_an_event_is_dispatched_soon_after_a_restart() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let app = app(&memory, &calls);
    let wide = || group((0..200).map(|_| one.s(())));
    let lost = app.submit(wide()).await.unwrap();
    let events = memory.events(10, LEASE, Duration::ZERO).await.unwrap();
    memory.acknowledge(&events.iter().map(|event| event.id).collect::<Vec<_>>()).await.unwrap();
    // One that has its event, with a coordinator that died.
    let held = app.submit(wide()).await.unwrap();
    let lease = CoordinatorOptions::default().lease;
    assert_eq!(memory.events(10, lease, Duration::ZERO).await.unwrap().len(), 1);
    let start = Instant::now();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    lost.get().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    held.get().await.unwrap();
    let waited = start.elapsed();
    assert!(waited >= lease && waited < 2 * lease, "it comes again and is counted: {waited:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 400);
}

/// In memory as in Redis: what had a run each and holds nothing any more takes no room.
#[tokio::test(start_paused = true)]
async fn queues_that_nobody_uses_go_away() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let app = app(&memory, &calls);
    let names: Vec<String> = (0..1_000).map(|number| format!("brief{number}")).collect();
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default().queues(names.clone()));
    for name in &names {
        let run = app.submit(one.s(()).set(Options::new().with_queue(name).unwrap())).await.unwrap();
        assert_eq!(run.get().await.unwrap(), 1);
    }
    assert!(memory.census()["queues"] > 0);
    tokio::time::sleep(CoordinatorOptions::default().sweep_every * 2).await;
    assert_eq!(memory.census()["queues"], 0);
}

/// More queues than a canvas may name are refused at once, whatever way they are named; the others go on.
#[tokio::test]
async fn a_canvas_that_names_too_many_queues_is_refused_and_the_others_go_on() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let app = app(&memory, &calls);
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    let named = |number: usize| one.s(()).set(Options::new().with_queue(&format!("q{number}")).unwrap());
    for count in [1_001, 50_000] {
        let error = app.submit(group((0..count).map(named))).await.unwrap_err().to_string();
        assert!(error.contains(&format!("name {count} queues, more than 1000 (queues_max)")), "{error}");
        let json = Canvas::group((0..count).map(|number| {
            let leaf = Signature::new("coordinator.one").unwrap();
            leaf.set(&Options::new().with_queue(&format!("q{number}")).unwrap()).into()
        }));
        let json = Canvas::from_json(&json.to_json()).unwrap();
        assert!(app.submit(json).await.unwrap_err().to_string().contains("queues_max"));
    }
    app.submit(group((0..1_000).map(named))).await.unwrap().forget().await.unwrap();
    assert_eq!(app.submit(one.s(())).await.unwrap().get().await.unwrap(), 1);
}
