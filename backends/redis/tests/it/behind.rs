//! A part of the store that went back to an older state, or from which somebody removed keys: what is
//! missing is found, and what can be done again is.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_backends::{Advance, Advanced, Store as _};
use celeriac_dsl::{IntoCanvas, State, TaskContext, task, tasks};
use celeriac_primitives::{Completion, Json, NodeNo, Options, Outcome, RunRef};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Handle, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::time::{Instant, sleep};

use crate::strange::At;

const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_secs(1);

/// A queue that nobody serves at first.
const QUEUE: &str = "later";

/// How often a body has run.
type Runs = Arc<AtomicUsize>;

#[task(crate = celeriac_dsl, name = "behind.add")]
async fn add(x: i64, y: i64, runs: State<Runs>) -> i64 {
    runs.fetch_add(1, Ordering::SeqCst);
    x + y
}

#[task(crate = celeriac_dsl, name = "behind.once", acks_late = false)]
async fn once(x: i64, runs: State<Runs>) -> i64 {
    runs.fetch_add(1, Ordering::SeqCst);
    x
}

/// Is replaced by a leaf on the queue.
#[task(crate = celeriac_dsl, name = "behind.becomes")]
async fn becomes(x: i64, ctx: TaskContext) -> Result<i64, celeriac_primitives::TaskError> {
    ctx.replace(add.s((x, 1)).set(on_queue()))
}

fn on_queue() -> Options {
    Options::new().with_queue(QUEUE).unwrap()
}

/// A store with an app, and who is at work there.
struct There {
    at: At,
    app: App,
    backend: RedisBackend,
    runs: Runs,
}

impl There {
    async fn start(at: At) -> Self {
        let runs = Runs::default();
        let backend = Self::connect(&at).await;
        let app = Self::app(&backend, &runs);
        Self { at, app, backend, runs }
    }

    async fn connect(at: &At) -> RedisBackend {
        let builder = RedisBackend::builder(at.url()).prefix("behind");
        builder.connect().await.expect("it answers")
    }

    fn app(backend: &RedisBackend, runs: &Runs) -> App {
        let app = App::builder("behind").tasks(tasks![add, once, becomes]).state(runs.clone());
        app.backend(backend.clone()).build().expect("it fits together")
    }

    async fn coordinator(&self) -> Coordinator {
        let options = CoordinatorOptions {
            lease: LEASE,
            sweep_every: Duration::from_millis(200),
            ..CoordinatorOptions::default()
        };
        Self::app(&Self::connect(&self.at).await, &self.runs).coordinator(options)
    }

    async fn worker(&self, queues: &[&str]) -> Worker {
        let mut options = WorkerOptions::default().queues(queues.iter().copied());
        options.lease = LEASE;
        Self::app(&Self::connect(&self.at).await, &self.runs).worker(options)
    }

    fn count(&self, command: &str, key: &str) -> u64 {
        self.at.run(key, redis::cmd(command).arg(key))
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !is_so().await {
            assert!(start.elapsed() < PATIENCE, "{what}");
            sleep(SOON).await;
        }
    }

    async fn until_there(&self, command: &str, key: &str) {
        self.until(key, async || self.count(command, key) > 0).await;
    }

    fn remove(&self, key: &str) {
        assert_eq!(self.at.run::<u64>(key, redis::cmd("DEL").arg(key)), 1, "{key} was there");
    }
}

const STREAM: &str = "behind:{q:later}:stream";

/// What was queued is removed from its queue, and a worker comes.
async fn comes_again(at: At, signature: impl FnOnce(Options) -> Options, command: &str, key: &str) {
    let there = There::start(at).await;
    let _coordinator = there.coordinator().await;
    let _other = there.worker(&["celery"]).await;
    let canvas = add.s((1, 1)) | add.s(2).set(signature(on_queue())) | add.s(3);
    let run = there.app.submit(canvas).await.unwrap();
    there.until_there(command, key).await;
    there.remove(key);
    let _worker = there.worker(&[QUEUE]).await;
    assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 7, "{key}");
    assert_eq!(there.runs.load(Ordering::SeqCst), 3, "{key}: each has run once");
}

async fn leaves_come_again(at: impl Fn() -> At) {
    let urgent = |options: Options| options.with_priority(9).unwrap();
    let countdown = |options: Options| options.with_countdown(Duration::from_secs(2));
    tokio::join!(
        comes_again(at(), |options| options, "XLEN", STREAM),
        comes_again(at(), countdown, "ZCARD", "behind:{q:later}:delayed"),
        comes_again(at(), urgent, "XLEN", "behind:{q:later}:l0:stream"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_in_no_queue_any_more_is_queued_again() {
    leaves_come_again(|| At::One(Server::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_in_no_queue_any_more_is_queued_again_on_a_cluster() {
    leaves_come_again(|| At::Cluster(Cluster::start())).await;
}

/// A worker has reported, and the report is removed before anybody has read it.
async fn report_is_lost(there: &There, canvas: impl IntoCanvas<Output = i64>) -> Handle<i64> {
    let coordinator = there.coordinator().await;
    let run = there.app.submit(canvas).await.unwrap();
    there.until_there("XLEN", "behind:{q:celery}:stream").await;
    coordinator.shutdown().await;
    let worker = there.worker(&["celery"]).await;
    there.until_there("XLEN", "behind:{q:celery}:done:stream").await;
    worker.shutdown(PATIENCE).await;
    there.remove("behind:{q:celery}:done:stream");
    run
}

async fn reports_that_are_lost(at: impl Fn() -> At) {
    let there = There::start(at()).await;
    let run = report_is_lost(&there, add.s((1, 2))).await;
    let (_coordinator, _worker) = (there.coordinator().await, there.worker(&["celery"]).await);
    assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 3);
    assert_eq!(there.runs.load(Ordering::SeqCst), 2, "nobody knew that it had run");

    let there = There::start(at()).await;
    let run = report_is_lost(&there, once.s(1)).await;
    let (_coordinator, _worker) = (there.coordinator().await, there.worker(&["celery"]).await);
    let error = run.get_timeout(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("worker"), "{error}");
    assert_eq!(there.runs.load(Ordering::SeqCst), 1, "it runs once at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_report_is_lost_runs_again_unless_it_may_not() {
    reports_that_are_lost(|| At::One(Server::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_report_is_lost_runs_again_unless_it_may_not_on_a_cluster() {
    reports_that_are_lost(|| At::Cluster(Cluster::start())).await;
}

/// A run whose leaf was replaced; what runs in its place waits in the queue.
async fn replaced(there: &There) -> (Handle<i64>, RunRef) {
    let run = there.app.submit(becomes.s(4) | add.s(3)).await.unwrap();
    there.until_there("XLEN", STREAM).await;
    let outer = there.backend.find(run.id()).await.unwrap().unwrap().0;
    (run, outer)
}

async fn segments_that_are_lost(at: impl Fn() -> At) {
    let there = There::start(at()).await;
    let (_coordinator, _other) = (there.coordinator().await, there.worker(&["celery"]).await);
    let (run, _) = replaced(&there).await;
    there.remove(STREAM);
    let _worker = there.worker(&[QUEUE]).await;
    assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 8, "a leaf of what runs in its place");

    let there = There::start(at()).await;
    let (_coordinator, _other) = (there.coordinator().await, there.worker(&["celery"]).await);
    let (run, outer) = replaced(&there).await;
    for segment in there.backend.segments(outer).await.unwrap() {
        there.remove(&format!("behind:{{{segment}}}:run"));
    }
    let error = run.get_timeout(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("what ran in its place is not there any more"), "{error}");

    // Whoever decided what runs in its place died before the leaf heard of it, and the event is lost, too.
    let there = There::start(at()).await;
    let (coordinator, _other) = (there.coordinator().await, there.worker(&["celery"]).await);
    let (run, outer) = replaced(&there).await;
    coordinator.shutdown().await;
    there.remove(STREAM);
    let segment = there.backend.segments(outer).await.unwrap()[0].incarnation(outer.incarnation);
    let completion = Completion {
        task_id: segment.task(NodeNo::from_index(0)),
        attempt: 1,
        outcome: Outcome::Success(Json::new(&5).unwrap()),
        incarnation: segment.incarnation,
    };
    let decided = there.backend.settle(&[Advance::new(segment, vec![completion])]).await.unwrap();
    let Ok(Advanced::Settled { settled, .. }) = &decided[0] else { panic!("{decided:?}") };
    assert!(settled.decided, "{settled:?}");
    let _coordinator = there.coordinator().await;
    assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 8, "what was decided reaches its leaf");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_in_the_place_of_a_leaf_is_brought_back_or_its_leaf_fails() {
    segments_that_are_lost(|| At::One(Server::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_in_the_place_of_a_leaf_is_brought_back_or_its_leaf_fails_on_a_cluster() {
    segments_that_are_lost(|| At::Cluster(Cluster::start())).await;
}

/// The lists are removed while a run waits, and when another has ended.
async fn lists_come_again(at: At) {
    let there = There::start(at).await;
    let (_coordinator, _other) = (there.coordinator().await, there.worker(&["celery"]).await);
    let ended = there.app.submit(add.s((1, 1))).await.unwrap();
    assert_eq!(ended.get_timeout(PATIENCE).await.unwrap(), 2);
    let waits =
        there.app.submit(add.s((1, 1)) | add.s(2).set(on_queue().with_priority(9).unwrap())).await.unwrap();
    there.until_there("XLEN", "behind:{q:later}:l0:stream").await;
    let listed: HashSet<_> = there.backend.list(None, 9).await.unwrap().into_iter().collect();
    assert_eq!(listed, HashSet::from([ended.id(), waits.id()]));
    for list in ["runs", "ended", "names", "lanes"] {
        there.remove(&format!("behind:{{events}}:{list}"));
    }
    there
        .until("all are listed again", async || {
            let again: HashSet<_> = there.backend.list(None, 9).await.unwrap().into_iter().collect();
            again == listed
        })
        .await;
    there.until_there("ZCARD", "behind:{events}:ended").await;
    let _worker = there.worker(&[QUEUE]).await;
    assert_eq!(waits.get_timeout(PATIENCE).await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_no_list_is_listed_again() {
    lists_come_again(At::One(Server::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_no_list_is_listed_again_on_a_cluster() {
    lists_come_again(At::Cluster(Cluster::start())).await;
}

/// A leaf that takes long, and one that waits long for a worker, stand still, and have lost nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_waits_is_queued_once() {
    let there = There::start(At::One(Server::start())).await;
    let (_coordinator, _other) = (there.coordinator().await, there.worker(&["celery"]).await);
    let waits = there.app.submit(add.s((1, 1)).set(on_queue())).await.unwrap();
    let timed = there
        .app
        .submit(add.s((1, 1)).set(on_queue().with_countdown(Duration::from_secs(20))))
        .await
        .unwrap();
    there.until_there("ZCARD", "behind:{q:later}:delayed").await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!((there.count("XLEN", STREAM), there.count("ZCARD", "behind:{q:later}:delayed")), (1, 1));
    let _worker = there.worker(&[QUEUE]).await;
    for run in [waits, timed] {
        assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 2);
    }
    assert_eq!(there.runs.load(Ordering::SeqCst), 2);
}
