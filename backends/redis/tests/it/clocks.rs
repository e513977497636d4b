//! Clocks that jump by an hour, and shards that disagree by a minute: nothing is lost, done twice or stuck.
//!
//! Time is the store's. So when its clock jumps, what waits for a moment comes by the new time, and all else
//! goes on as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_backends::{Events as _, Queue as _, Store as _, Take, WorkerId};
use celeriac_dsl::{State, TaskContext, chain, chord, task, tasks};
use celeriac_primitives::{NodeNo, Options, TaskId};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, Handle, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::time::{Instant, sleep, timeout};

use crate::leases::{self, LEASE};

const HOUR: i64 = 3600;
const MINUTE: i64 = 60;
const PATIENCE: Duration = Duration::from_secs(60);

/// How often each leaf has begun, and when it did first, by the clock of the test.
type Began = Arc<Mutex<BTreeMap<TaskId, (u32, Instant)>>>;

#[task(crate = celeriac_dsl, name = "clocks.step")]
async fn step(number: u64, ctx: TaskContext, began: State<Began>) -> u64 {
    let mut began = began.lock().unwrap();
    began.entry(ctx.task_id()).or_insert((0, Instant::now())).0 += 1;
    number + 1
}

#[task(crate = celeriac_dsl, name = "clocks.sum")]
async fn sum(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

async fn backend(url: String) -> RedisBackend {
    let builder = RedisBackend::builder(url).prefix("clocks").queues_kept_for(Duration::from_secs(2));
    builder.connect().await.expect("it answers")
}

fn app(backend: RedisBackend, began: &Began) -> App {
    let app = App::builder("clocks").tasks(tasks![step, sum]).state(began.clone());
    app.backend(backend).build().expect("all is there")
}

fn coordinator() -> CoordinatorOptions {
    CoordinatorOptions { sweep_every: Duration::from_millis(100), ..CoordinatorOptions::default() }
}

fn after(countdown: Duration) -> Options {
    Options::new().with_countdown(countdown)
}

/// A chain, a chord that is stored in parts and a leaf that waits a moment; their values.
async fn submit_some(app: &App) -> [(Handle<u64>, u64); 3] {
    let steps = app.submit(step.s(0) | chain([(); 3].map(|()| step.s(())))).await.unwrap();
    let many = app.submit(chord((0..600).map(|_| step.s(1)), sum.s(()))).await.unwrap();
    let late = app.submit(step.s(4).set(after(Duration::from_millis(200)))).await.unwrap();
    [(steps, 4), (many, 1200), (late, 5)]
}

async fn until_ended(runs: Vec<(Handle<u64>, u64)>) {
    for (run, value) in runs {
        let got = timeout(PATIENCE, run.get()).await;
        assert_eq!(got.expect("it is not stuck").unwrap(), value, "{}", run.id());
    }
}

fn each_began_once(began: &Began) {
    let began = began.lock().unwrap();
    let twice: Vec<_> = began.iter().filter(|(_, (times, _))| *times > 1).collect();
    assert!(twice.is_empty() && !began.is_empty(), "of {} began again: {twice:?}", began.len());
}

/// Work goes on while `set` sets one clock or another to each of these.
async fn work_goes_on(url: String, mut set: impl FnMut(i64), ahead: &[i64]) {
    let began = Began::default();
    let app = app(backend(url).await, &began);
    let _coordinators = [app.coordinator(coordinator()), app.coordinator(coordinator())];
    let _workers = [app.worker(WorkerOptions::default()), app.worker(WorkerOptions::default())];
    let mut late = Vec::new();
    for seconds in ahead {
        let (mut meanwhile, [before, large, waits]) = (Vec::new(), submit_some(&app).await);
        set(*seconds);
        meanwhile.extend([before, large]);
        // Its moment may have been made later by an hour.
        late.push(waits);
        meanwhile.extend(submit_some(&app).await);
        until_ended(meanwhile).await;
    }
    until_ended(late).await;
    each_began_once(&began);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_while_the_clock_jumps_by_an_hour() {
    let server = Server::builder().clock().start();
    work_goes_on(server.url(), |seconds| server.set_clock(seconds), &[HOUR, 0, -HOUR, 0, HOUR]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_while_the_clock_of_a_shard_jumps_by_an_hour() {
    let cluster = Cluster::start_with(Server::builder().clock());
    let mut nodes = cluster.nodes().iter().cycle();
    let set = |seconds| nodes.next().expect("there are some").set_clock(seconds);
    work_goes_on(cluster.url(), set, &[HOUR, -HOUR, HOUR, 0, 0, 0, HOUR]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_may_be_a_minute_apart() {
    for [first, second, third] in [[MINUTE, 0, -MINUTE], [-MINUTE, MINUTE, 0], [0, -MINUTE, MINUTE]] {
        let cluster = Cluster::start_with(Server::builder().clock());
        cluster.nodes().iter().zip([first, second, third]).for_each(|(node, ahead)| node.set_clock(ahead));
        let began = Began::default();
        let app = app(backend(cluster.url()).await, &began);
        let _coordinator = app.coordinator(coordinator());
        let _worker = app.worker(WorkerOptions::default());
        // In each slot, in time.
        let start = Instant::now();
        let mut runs = Vec::new();
        for _ in 0..4 {
            runs.extend(submit_some(&app).await);
        }
        until_ended(runs).await;
        assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
        each_began_once(&began);
        // A countdown goes by one clock alone.
        let start = Instant::now();
        let run = app.submit(step.s(0).set(after(Duration::from_millis(1500)))).await.unwrap();
        assert_eq!(timeout(PATIENCE, run.get()).await.expect("it comes").unwrap(), 1);
        let first = began.lock().unwrap()[&run.id().task(NodeNo::from_index(0))].1;
        assert!(first - start >= Duration::from_millis(1500), "{:?}", first - start);
        // What has hours left begins.
        let expires = Options::new().with_expires(Duration::from_secs(7200));
        let run = app.submit(step.s(0).set(expires)).await.unwrap();
        assert_eq!(timeout(PATIENCE, run.get()).await.expect("it comes").unwrap(), 1);
    }
}

/// Ten leases, while the clock jumps there and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_leaf_runs_once_while_the_clock_jumps() {
    for ahead in [HOUR, -HOUR] {
        let server = Server::builder().clock().start();
        let (seen, _) = leases::seen();
        let app = leases::app(server.url(), &seen).await;
        let _coordinators = [app.coordinator(leases::coordinator()), app.coordinator(leases::coordinator())];
        let _workers = [app.worker(leases::worker()), app.worker(leases::worker())];
        let run = app.submit(leases::sig("slow")).await.unwrap();
        while seen.calls.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        for seconds in [ahead, 0, ahead] {
            server.set_clock(seconds);
            sleep(LEASE * 2).await;
        }
        assert_eq!(run.get_json(Some(PATIENCE)).await.unwrap().as_str(), "7");
        assert_eq!(seen.calls.load(Ordering::SeqCst), 1, "it runs once");
    }
}

/// A leaf and an event whose owners die, before the clock jumps or after; who sweeps has seen it jump or has
/// not.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_lost_its_owner_comes_again_when_the_clock_jumps() {
    for ahead in [HOUR, -HOUR] {
        for newcomer in [false, true] {
            let server = Server::builder().clock().start();
            let app = app(backend(server.url()).await, &Began::default());
            let owner = backend(server.url()).await;
            let other = backend(server.url()).await;
            app.submit(step.s(0)).await.unwrap();
            app.submit(chord((0..600).map(|_| step.s(1)), sum.s(()))).await.unwrap();
            let (dead, next) = (WorkerId::new("dead"), WorkerId::new("next"));
            let queues = ["celery".into()];
            let taken = owner.receive(&dead, &queues, Take::new(1, LEASE).wait(PATIENCE)).await.unwrap();
            let events = owner.events(10, LEASE, PATIENCE).await.unwrap();
            assert_eq!((taken.len(), events.len()), (1, 1));
            other.sweep(5).await.unwrap();
            server.set_clock(ahead);
            let sweeper = if newcomer { backend(server.url()).await } else { other.clone() };
            let (deadline, mut again) = (Instant::now() + PATIENCE, (0, 0));
            while again != (1, 1) {
                assert!(Instant::now() < deadline, "{ahead}, a newcomer: {newcomer}: {again:?}");
                sweeper.sweep(5).await.unwrap();
                let leaves = sweeper.receive(&next, &queues, Take::new(5, PATIENCE)).await.unwrap();
                again.0 += leaves.iter().filter(|leaf| leaf.deliveries > 1).count();
                again.1 += sweeper.events(10, PATIENCE, Duration::ZERO).await.unwrap().len();
                sleep(LEASE / 10).await;
            }
        }
    }
}

/// Who claimed it is no more, and the clock is set back before that is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_free_again_when_the_clock_is_set_back() {
    let cluster = Cluster::start_with(Server::builder().clock());
    let app = app(backend(cluster.url()).await, &Began::default());
    let store = backend(cluster.url()).await;
    let run = app.submit(step.s(0)).await.unwrap();
    let (run, _) = store.find(run.id()).await.unwrap().expect("it is there");
    assert!(store.claim_outbox(run, 1, LEASE).await.unwrap());
    assert!(!store.claim_outbox(run, 2, LEASE).await.unwrap());
    cluster.nodes().iter().for_each(|node| node.set_clock(-HOUR));
    let deadline = Instant::now() + PATIENCE / 4;
    while !store.claim_outbox(run, 2, LEASE).await.unwrap() {
        assert!(Instant::now() < deadline, "it is claimed for ever");
        sleep(LEASE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_leaf_of_a_forgotten_run_is_taken_when_the_clock_was_set_back() {
    let server = Server::builder().clock().start();
    let store = backend(server.url()).await;
    let app = app(store.clone(), &Began::default());
    let run = app.submit(step.s(0)).await.unwrap();
    server.set_clock(-HOUR);
    let (run, _) = store.find(run.id()).await.unwrap().expect("it is there");
    assert!(store.forget(run).await.unwrap());
    for _ in 0..3 {
        store.sweep(5).await.unwrap();
        let take = Take::new(5, LEASE);
        assert!(store.receive(&WorkerId::new("w"), &["celery".into()], take).await.unwrap().is_empty());
    }
}

/// Queues are kept for two seconds here.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_removes_no_queue_that_is_used_and_keeps_none_that_is_not() {
    let server = Server::builder().clock().start();
    let store = backend(server.url()).await;
    let app = app(store.clone(), &Began::default());
    let names = || server.keys("clocks:{events}:names");
    for ahead in [HOUR, -HOUR] {
        server.set_clock(0);
        let run = app.submit(step.s(0)).await.unwrap();
        let (run, _) = store.find(run.id()).await.unwrap().expect("it is there");
        assert!(store.forget(run).await.unwrap());
        store.receive(&WorkerId::new("w"), &["celery".into()], Take::new(5, LEASE)).await.unwrap();
        store.sweep(5).await.unwrap();
        server.set_clock(ahead);
        let jumped = Instant::now();
        store.sweep(5).await.unwrap();
        if jumped.elapsed() < Duration::from_secs(1) {
            assert!(!names().is_empty(), "{ahead}: it was used a moment ago");
        }
        let deadline = Instant::now() + PATIENCE / 2;
        while !names().is_empty() {
            assert!(Instant::now() < deadline, "{ahead}: it was not used for long");
            sleep(Duration::from_millis(200)).await;
            store.sweep(5).await.unwrap();
        }
    }
}

/// A moment an hour away comes with the clock, and one that was near goes away with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_moment_goes_by_the_clock_of_the_store() {
    let server = Server::builder().clock().start();
    let app = app(backend(server.url()).await, &Began::default());
    let _coordinator = app.coordinator(coordinator());
    let _worker = app.worker(WorkerOptions::default());
    let far = app.submit(step.s(0).set(after(Duration::from_secs(1800)))).await.unwrap();
    let expires = Options::new().with_queue("nobody").unwrap().with_expires(Duration::from_secs(1800));
    let expired = app.submit(step.s(0).set(expires)).await.unwrap();
    let near = app.submit(step.s(0).set(after(Duration::from_secs(4)))).await.unwrap();
    // Until the timers are set.
    sleep(Duration::from_millis(1500)).await;
    server.set_clock(-HOUR);
    sleep(Duration::from_millis(3500)).await;
    assert!(!near.ready().await.unwrap() && !far.ready().await.unwrap());
    server.set_clock(HOUR);
    assert_eq!(timeout(PATIENCE, near.get()).await.expect("it comes").unwrap(), 1);
    assert_eq!(timeout(PATIENCE, far.get()).await.expect("it comes").unwrap(), 1);
    assert!(timeout(PATIENCE, expired.get()).await.expect("it ends").is_err());
}

/// By the clock of the store, which a test can set.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_the_oldest_event_that_nobody_has_taken_is_known() {
    let cluster = Cluster::start_with(Server::builder().clock());
    let server = Server::builder().clock().start();
    let nodes: Vec<&Server> = cluster.nodes().iter().chain([&server]).collect();
    for url in [server.url(), cluster.url()] {
        nodes.iter().for_each(|node| node.set_clock(0));
        let store = backend(url).await;
        let app = app(store.clone(), &Began::default());
        assert_eq!(store.oldest_event().await.unwrap(), None);
        app.submit(chord((0..600).map(|_| step.s(1)), sum.s(()))).await.unwrap();
        nodes.iter().for_each(|node| node.set_clock(MINUTE));
        let age = store.oldest_event().await.unwrap().expect("there is one");
        assert!((Duration::from_secs(59)..PATIENCE * 2).contains(&age), "{age:?}");
        let taken = store.events(10, PATIENCE, PATIENCE).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(store.oldest_event().await.unwrap(), None, "it is somebody's");
    }
}
