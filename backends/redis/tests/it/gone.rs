//! Letting runs go: what queues are told of them goes, too, and what somebody began is brought to its end.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{DEFAULT_QUEUE, ErrorKind, NewRun, Queue, Store, Submitted, Take, WorkerId};
use celeriac_conformance::bench::{run_id, sigs};
use celeriac_engine::Plan;
use celeriac_primitives::{Canvas, Incarnation, Outcome, RunRef};
use celeriac_redis::RedisBackend;
use celeriac_testkit::{Cluster, Server};

use crate::backend::{Backends, NoResults};

const LEASE: Duration = Duration::from_secs(60);

/// Submits a group of so many leaves, and queues them.
async fn queued(backend: &RedisBackend, run: RunRef, leaves: usize) {
    let plan = Arc::new(Plan::compile(&Canvas::group(sigs(&vec!["a"; leaves]))).unwrap());
    assert_eq!(backend.submit(NewRun::new(run, plan.clone())).await.unwrap(), Submitted::Accepted);
    let leaf = |release| celeriac_backends::Dispatch {
        release,
        queue: DEFAULT_QUEUE.into(),
        message: Arc::new(plan.message(run, release, &NoResults).unwrap()),
        start: None,
        lane: celeriac_backends::Lane::default(),
    };
    let leaves: Vec<_> = backend.outbox(run).await.unwrap().into_iter().map(leaf).collect();
    backend.dispatch(run, &leaves).await.unwrap();
}

async fn take(backend: &RedisBackend, max: usize) -> Vec<celeriac_backends::Delivery> {
    backend.receive(&WorkerId::new("w"), &[DEFAULT_QUEUE.into()], Take::new(max, LEASE)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_queue_was_told_goes_when_it_holds_nothing_older() {
    let server = Server::start();
    let backend = server.backend().await;
    let told = || server.keys("*gone");
    queued(&backend, run_id(1), 2).await;
    let held = take(&backend, 1).await;
    queued(&backend, run_id(2), 3).await;
    assert!(backend.forget(run_id(2)).await.unwrap());
    backend.sweep(5).await.unwrap();
    assert_eq!(told().len(), 2, "something older waits: {:?}", told());
    let others = take(&backend, 9).await;
    assert_eq!(others.len(), 1);
    backend.sweep(5).await.unwrap();
    assert_eq!(told().len(), 2, "something older is held");
    for delivery in held.into_iter().chain(others) {
        let done = delivery.message.completion(Outcome::Ignored);
        backend.finish(&[(delivery.id, done)]).await.unwrap();
    }
    backend.sweep(5).await.unwrap();
    assert_eq!(told(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_was_about_to_forget_is_forgotten_by_the_sweep() {
    let server = Server::start();
    let backend = server.backend().await;
    let run = run_id(1);
    queued(&backend, run, 3).await;
    // As the first step of forgetting leaves it.
    let (hash, mut connection) = (server.keys("*}:run").remove(0), server.connection());
    let mark = run.incarnation.number().to_be_bytes();
    redis::cmd("HSET").arg(&hash).arg("f").arg(&mark).exec(&mut connection).unwrap();
    redis::cmd("HDEL").arg(&hash).arg("m").exec(&mut connection).unwrap();
    assert!(backend.status(run.id).await.unwrap().is_none());
    let plan = Arc::new(Plan::compile(&Canvas::group(sigs(&["a"]))).unwrap());
    let next = NewRun::new(run.id.incarnation(Incarnation::new(9)), plan);
    assert_eq!(backend.submit(next.clone()).await.unwrap_err().kind, ErrorKind::Unavailable, "not free yet");
    assert!(backend.owing(9).await.unwrap().is_empty());
    assert_eq!(backend.submit(next).await.unwrap(), Submitted::Accepted);
    assert!(take(&backend, 9).await.is_empty(), "its leaves are gone");
}

/// On a Cluster queues remember a run that goes on for a minute. Not one that has ended, also when the sweep
/// comes across it while somebody forgets it.
#[tokio::test(flavor = "multi_thread")]
async fn queues_remember_no_run_that_had_ended_whoever_else_forgets_it_on_a_cluster() {
    let cluster = Cluster::start();
    let backend = cluster.backend().await;
    let plan = Arc::new(Plan::compile(&Canvas::group(sigs(&[]))).unwrap());
    for number in 0..50 {
        let run = run_id(number);
        assert_eq!(backend.submit(NewRun::new(run, plan.clone())).await.unwrap(), Submitted::Accepted);
        let forget = || backend.forget(run);
        let (a, b, c) = tokio::join!(forget(), forget(), forget());
        assert!(a.unwrap() | b.unwrap() | c.unwrap());
    }
    // The notes are as old as the last moment, and go when a sweep looks after it.
    tokio::time::sleep(Duration::from_millis(5)).await;
    backend.sweep(5).await.unwrap();
    assert_eq!(cluster.keys("*gone"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_an_earlier_format_is_refused_by_name_and_holds_up_nobody() {
    let server = Server::start();
    let backend = server.backend().await;
    let (old, run) = (run_id(1), run_id(2));
    queued(&backend, old, 1).await;
    let (hash, mut connection) = (server.keys("*}:run").remove(0), server.connection());
    let mut meta: Vec<u8> = redis::cmd("HGET").arg(&hash).arg("m").query(&mut connection).unwrap();
    meta.truncate(65);
    meta[0] = 1;
    redis::cmd("HSET").arg(&hash).arg("m").arg(meta).exec(&mut connection).unwrap();
    let id = &old.id.uuid().into_bytes()[..];
    redis::cmd("ZADD").arg("celeriac:{events}:runs").arg(0).arg(id).exec(&mut connection).unwrap();
    let error = backend.status(old.id).await.unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.to_string().contains("format 1"), "{error}");
    let error = backend.forget(old).await.unwrap_err();
    assert!(error.to_string().contains("format 1"), "{error}");
    queued(&backend, run, 1).await;
    assert_eq!(backend.list(None, 9).await.unwrap(), [run.id, old.id]);
    backend.sweep(5).await.unwrap();
    assert!(backend.owing(9).await.unwrap().is_empty());
}
