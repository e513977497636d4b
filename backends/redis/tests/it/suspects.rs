//! Tasks that take their workers along: whoever was beside them runs again, and they alone fail.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Begin, DEFAULT_QUEUE, Queue as _, Take, WorkerId};
use celeriac_dsl::{State, task, tasks};
use celeriac_primitives::{Json, Options, Outcome};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, GetError, Handle, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::leases::LEASE;

const PATIENCE: Duration = Duration::from_secs(120);

type Kills = mpsc::UnboundedSender<()>;

/// Has its worker killed.
#[task(crate = celeriac_dsl, name = "suspects.kill")]
async fn kill(kills: State<Kills>) -> u64 {
    kills.send(()).expect("the test lives");
    std::future::pending().await
}

#[task(crate = celeriac_dsl, name = "suspects.nap")]
async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn app(url: String, kills: Kills) -> App {
    let backend = RedisBackend::builder(url).prefix("suspects").connect().await.expect("the server answers");
    App::builder("suspects")
        .tasks(tasks![kill, nap])
        .state(kills)
        .backend(backend)
        .build()
        .expect("all is there")
}

/// Workers that are there again when they were killed.
async fn workers(url: &str, count: usize) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for _ in 0..count {
        let (kills, mut killed) = mpsc::unbounded_channel();
        let app = app(url.to_owned(), kills).await;
        workers.spawn(async move {
            loop {
                let worker = app.worker(WorkerOptions::default().lease(LEASE));
                killed.recv().await.expect("the app lives");
                drop(worker);
                // What it did in its last moment.
                while killed.try_recv().is_ok() {}
            }
        });
    }
    workers
}

fn coordinator() -> CoordinatorOptions {
    CoordinatorOptions { sweep_every: Duration::from_millis(50), ..CoordinatorOptions::default() }
}

async fn lost(run: &Handle<u64>) {
    match run.get_timeout(PATIENCE).await {
        Err(GetError::Failed(failure)) => assert_eq!(failure.error.kind, "WorkerLostError"),
        other => panic!("{other:?}"),
    }
}

async fn check(url: String, culprits: usize, naps: &[u64]) {
    let (kills, _killed) = mpsc::unbounded_channel();
    let app = app(url.clone(), kills).await;
    let _coordinator = app.coordinator(coordinator());
    let (mut guilty, mut innocent) = (Vec::new(), Vec::new());
    for ms in naps {
        innocent.push((*ms, app.submit(nap.s(*ms)).await.unwrap()));
        if guilty.len() < culprits {
            guilty.push(app.submit(kill.s(())).await.unwrap());
        }
    }
    let _workers = workers(&url, 2).await;
    for (ms, run) in &innocent {
        assert_eq!(run.get_timeout(PATIENCE).await.expect("it is not its fault"), *ms);
    }
    for run in &guilty {
        lost(run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_that_kills_its_workers_takes_none_of_twenty_others_with_it() {
    let server = Server::start();
    check(server.url(), 1, &[50; 20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_that_kills_its_workers_takes_none_of_twenty_others_with_it_on_a_cluster() {
    let cluster = Cluster::start();
    check(cluster.url(), 1, &[50; 20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tasks_that_kill_their_workers_take_no_long_leaf_with_them() {
    let server = Server::start();
    check(server.url(), 3, &[10, 10, 3000, 200, 10, 10]).await;
}

/// Dead between queueing and noting, somebody leaves a leaf that is queued a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_was_queued_twice_on_a_cluster_begins_once() {
    let cluster = Cluster::start();
    let (kills, _killed) = mpsc::unbounded_channel();
    let app = app(cluster.url(), kills).await;
    let coordinator = app.coordinator(coordinator());
    let once = nap.s(1).set(Options::new().with_acks_late(false));
    let run = app.submit(once).await.unwrap();
    let backend = RedisBackend::builder(cluster.url()).prefix("suspects").connect().await.unwrap();
    let (one, two, queues) = (WorkerId::new("one"), WorkerId::new("two"), [Arc::from(DEFAULT_QUEUE)]);
    let take = Take::new(1, Duration::from_secs(60)).wait(PATIENCE);
    let first = backend.receive(&one, &queues, take).await.unwrap().remove(0);
    let stream = "suspects:{q:celery}:stream";
    let mut connection = cluster.node_of(stream).connection();
    let entries: Vec<(String, Vec<Vec<u8>>)> =
        redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut connection).unwrap();
    redis::cmd("XADD").arg(stream).arg("*").arg(&entries[0].1).exec(&mut connection).unwrap();
    let second = backend.receive(&two, &queues, take).await.unwrap().remove(0);
    assert_eq!(first.message.task_id, second.message.task_id);
    assert_eq!(backend.begin(&two, &second, true).await.unwrap(), Begin::Run);
    assert_eq!(backend.begin(&one, &first, true).await.unwrap(), Begin::Gone, "the other one answers for it");
    let report = second.message.completion(Outcome::Success(Json::new(&7).unwrap()));
    backend.finish(&[(second.id, report)]).await.unwrap();
    assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 7);
    let left: u64 = redis::cmd("XLEN").arg(stream).query(&mut connection).unwrap();
    assert_eq!(left, 0, "the copy is taken out");
    coordinator.shutdown().await;
}
