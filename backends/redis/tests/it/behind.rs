//! A part of the store that went back to an older state, or from which somebody removed keys: what is
//! missing is found, and what can be done again is.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_backends::{Advance, Advanced, DeadLetters as _, Store as _};
use celeriac_dsl::{IntoCanvas, State, TaskContext, chord, task, tasks};
use celeriac_primitives::{Completion, Json, NodeNo, Options, Outcome, RunRef};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, GetError, Handle, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Fsync, Server};
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

#[task(crate = celeriac_dsl, name = "behind.sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
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
        let app = App::builder("behind").tasks(tasks![add, once, sum, becomes]).state(runs.clone());
        app.backend(backend.clone()).build().expect("it fits together")
    }

    async fn coordinator(&self) -> Coordinator {
        self.coordinator_of(&Self::connect(&self.at).await)
    }

    fn coordinator_of(&self, backend: &RedisBackend) -> Coordinator {
        let options = CoordinatorOptions {
            lease: LEASE,
            sweep_every: Duration::from_millis(200),
            ..CoordinatorOptions::default()
        };
        Self::app(backend, &self.runs).coordinator(options)
    }

    async fn worker(&self, queues: &[&str]) -> Worker {
        let mut options = WorkerOptions::default().queues(queues.iter().copied());
        options.lease = LEASE;
        Self::app(&Self::connect(&self.at).await, &self.runs).worker(options)
    }

    /// Runs of four kinds, one after the other for about a second, and their values.
    async fn submit_some(&self) -> Vec<(Handle<i64>, i64)> {
        let (app, mut runs) = (&self.app, Vec::new());
        for number in 0..80 {
            let (run, value) = match number % 4 {
                0 => (app.submit(add.s((1, 1)) | add.s(2) | add.s(3).set(on_queue())).await, 7),
                1 => {
                    let header = [add.s((1, 1)), add.s((1, 2)).set(on_queue()), add.s((1, 3))];
                    (app.submit(chord(header, sum.s(()))).await, 9)
                }
                2 => (app.submit(becomes.s(4) | add.s(3)).await, 8),
                _ => {
                    let later = Options::new().with_countdown(Duration::from_millis(700));
                    (app.submit(add.s((1, 1)).set(later)).await, 2)
                }
            };
            runs.push((run.expect("all nodes are there"), value));
            sleep(Duration::from_millis(10)).await;
        }
        runs
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

/// Nobody reports again and again how a leaf ends of which nothing can be settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_states_are_not_whole_is_left_alone() {
    let there = There::start(At::One(Server::start())).await;
    let backend = There::connect(&there.at).await;
    let (_coordinator, _other) = (there.coordinator_of(&backend), there.worker(&["celery"]).await);
    let (run, outer) = replaced(&there).await;
    let hash = format!("behind:{{{}}}:run", run.id());
    let states: String = there.at.run(&hash, redis::cmd("HGET").arg(&hash).arg("s"));
    assert_eq!(states, "PW");
    there.at.run::<()>(&hash, redis::cmd("HSET").arg(&hash).arg("s").arg("P"));
    for segment in there.backend.segments(outer).await.unwrap() {
        there.remove(&format!("behind:{{{segment}}}:run"));
    }
    there.remove(STREAM);
    let is_said = async || backend.strain().await.unwrap().is_some_and(|strain| strain.contains(&hash));
    there.until("health says what is broken", is_said).await;
    // Twice as long as it takes until a run is looked at again.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(there.backend.dead_letters(None, 9).await.unwrap(), []);
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

/// Somebody takes the list of lanes away again and again: the leaf waits in a lane that is on no list.
async fn a_lane_that_is_on_no_list(at: At) {
    let there = There::start(at).await;
    let (_coordinator, _other) = (there.coordinator().await, there.worker(&["celery"]).await);
    let urgent = || on_queue().with_priority(9).unwrap();
    let mut waits = Vec::new();
    for _ in 0..8 {
        waits.push(there.app.submit(add.s((1, 1)) | add.s(2).set(urgent())).await.unwrap());
        sleep(Duration::from_millis(500)).await;
    }
    let (lane, start) = ("behind:{q:later}:l0:stream", Instant::now());
    let list = "behind:{events}:lanes";
    while start.elapsed() < Duration::from_secs(12) {
        there.at.run::<u64>(list, redis::cmd("DEL").arg(list));
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(there.count("XLEN", lane), 8, "none of them is queued again");
    let _worker = there.worker(&[QUEUE]).await;
    for run in waits {
        assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 4);
    }
    assert_eq!(there.runs.load(Ordering::SeqCst), 16, "each has run once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_lane_that_is_on_no_list_is_queued_once() {
    a_lane_that_is_on_no_list(At::One(Server::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_lane_that_is_on_no_list_is_queued_once_on_a_cluster() {
    a_lane_that_is_on_no_list(At::Cluster(Cluster::start())).await;
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

/// A node of three goes back by a second while runs of all kinds come and go. Each run ends with its
/// value, or says what was lost: a run that was submitted meanwhile is not there any more, if that node
/// had it, and a leaf whose replacement is not there any more fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_back_to_an_older_state_holds_up_nobody() {
    // Without an fsync that could put off a write: what was answered is in the backup.
    let cluster = Cluster::start_with(Server::builder().appendfsync(Fsync::No));
    let there = There::start(At::Cluster(cluster)).await;
    let At::Cluster(cluster) = &there.at else { unreachable!("it is one") };
    let _coordinators = (there.coordinator().await, there.coordinator().await);
    let _workers = (there.worker(&["celery"]).await, there.worker(&[QUEUE]).await);
    let mut all_gone = 0;
    for node in cluster.nodes() {
        let mut runs = there.submit_some().await;
        let (before, backup) = (runs.len(), node.backup());
        runs.extend(there.submit_some().await);
        node.restore(&backup);
        let (mut gone, mut failed) = (0, 0);
        for (number, (run, value)) in runs.into_iter().enumerate() {
            match run.get_timeout(PATIENCE).await {
                Ok(got) => assert_eq!(got, value),
                Err(GetError::Failed(failure)) => {
                    assert_eq!(failure.error.kind, "ReplacementLost", "{failure}");
                    failed += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("no such run"), "{error}");
                    let key = format!("behind:{{{}}}:run", run.id());
                    assert_eq!(cluster.node_of(&key).port(), node.port(), "{error}");
                    assert!(number >= before, "{error}");
                    gone += 1;
                }
            }
        }
        eprintln!("node {}: {gone} runs are gone, {failed} have failed", node.port());
        all_gone += gone;
        there
            .until("nothing is left in any line", async || {
                let lines = cluster.keys("behind:*:stream");
                lines.iter().all(|line| there.count("XLEN", line) == 0)
            })
            .await;
    }
    // A client remembers what it was told; on the runs of the first node it had been told nothing.
    assert!(all_gone > 0, "the backups are older than what was there");
}
