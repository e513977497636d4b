//! Reports that come with their hint.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    DEFAULT_QUEUE, Dispatch, Event, EventDelivery, Events, Lane, NewRun, Queue, Store, Submitted, Take,
    WorkerId,
};
use celeriac_conformance::bench::{run_id, sigs};
use celeriac_dsl::{task, tasks};
use celeriac_engine::Plan;
use celeriac_primitives::{Canvas, Json, Outcome, RunRef};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, WorkerOptions};
use celeriac_testkit::Server;
use tokio::time::{Instant, sleep};

use crate::backend::NoResults;

const LEASE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(2);

/// A coordinator that is told nothing looks again after so long, when others tell it of what comes.
const LOOKS_AGAIN: Duration = Duration::from_secs(2);

/// Where the reports on the leaves are.
const REPORTS: &str = "early:{q:celery}:done:stream";

async fn backend(server: &Server) -> RedisBackend {
    backend_in(server, 0).await
}

async fn backend_in(server: &Server, database: u8) -> RedisBackend {
    let url = format!("redis://{}/{database}", server.address());
    RedisBackend::builder(url).prefix("early").connect().await.expect("it answers")
}

/// Waits until so many coordinators listen to hints at events.
async fn listening(server: &Server, count: u64) {
    let (start, mut connection) = (Instant::now(), server.connection());
    loop {
        let mut cmd = redis::cmd("PUBSUB");
        cmd.arg("NUMSUB").arg("early:{events}:stream");
        let (_, now): (String, u64) = cmd.query(&mut connection).unwrap();
        if now == count {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{now} of {count} listen");
        sleep(SOON).await;
    }
}

/// A run of one leaf, which is queued; its submission is handled by this coordinator.
async fn queued(client: &RedisBackend, coordinator: &RedisBackend, number: u64) -> RunRef {
    queued_on(DEFAULT_QUEUE, client, coordinator, number).await
}

async fn queued_on(queue: &str, client: &RedisBackend, coordinator: &RedisBackend, number: u64) -> RunRef {
    let (run, plan) = (run_id(number), Arc::new(Plan::compile(&Canvas::group(sigs(&["a"]))).unwrap()));
    assert_eq!(client.submit(NewRun::new(run, plan.clone())).await.unwrap(), Submitted::Accepted);
    let leaf = |release| Dispatch {
        release,
        queue: queue.into(),
        message: Arc::new(plan.message(run, release, &NoResults).unwrap()),
        start: None,
        lane: Lane::default(),
    };
    let leaves: Vec<_> = client.outbox(run).await.unwrap().into_iter().map(leaf).collect();
    client.dispatch(run, &leaves).await.unwrap();
    loop {
        let events = coordinator.events(9, PATIENCE, Duration::ZERO).await.unwrap();
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        coordinator.acknowledge(&ids).await.unwrap();
        if events.is_empty() {
            return run;
        }
    }
}

/// A worker takes the leaf and reports a value.
async fn report(worker: &RedisBackend, value: &str) {
    report_on(DEFAULT_QUEUE, worker, value).await;
}

async fn report_on(queue: &str, worker: &RedisBackend, value: &str) {
    let take = Take::new(1, PATIENCE);
    let taken = worker.receive(&WorkerId::new("w"), &[queue.into()], take).await.unwrap();
    let delivery = taken.into_iter().next().expect("a leaf is queued");
    let done = delivery.message.completion(Outcome::Success(Json::new(&value).unwrap()));
    worker.finish(&[(delivery.id, done)]).await.unwrap();
}

async fn next(coordinator: &RedisBackend) -> Vec<EventDelivery> {
    coordinator.events(9, LEASE, PATIENCE).await.unwrap()
}

/// How many reports are in the line, and how many of them somebody holds.
fn reports(server: &Server) -> (u64, u64) {
    let mut connection = server.connection();
    let there = redis::cmd("XLEN").arg(REPORTS).query(&mut connection).unwrap();
    let held: redis::RedisResult<redis::Value> =
        redis::cmd("XPENDING").arg(REPORTS).arg("celeriac").query(&mut connection);
    let held = match held {
        Ok(redis::Value::Array(parts)) => redis::from_redis_value(parts[0].clone()).unwrap(),
        // There is no group yet.
        _ => 0,
    };
    (there, held)
}

/// One coordinator that listens, and a report that it is told.
async fn told(server: &Server) -> (RedisBackend, RedisBackend, EventDelivery) {
    let (coordinator, worker) = (backend(server).await, backend(server).await);
    let run = queued(&worker, &coordinator, 1).await;
    let waiting = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { next(&coordinator).await }
    });
    listening(server, 1).await;
    // It has looked, and waits.
    sleep(LEASE / 4).await;
    report(&worker, "x").await;
    let mut events = waiting.await.unwrap();
    assert_eq!(events.len(), 1);
    let event = events.remove(0);
    assert!(matches!(&event.event, Event::Completed(done) if done.run() == run), "{event:?}");
    assert_eq!(event.deliveries, 1);
    (coordinator, worker, event)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_told_is_in_its_line_until_it_is_acknowledged() {
    let server = Server::start();
    let (coordinator, _worker, event) = told(&server).await;
    assert_eq!(reports(&server), (1, 0), "it was told, and not taken");
    coordinator.acknowledge(&[event.id]).await.unwrap();
    assert_eq!(reports(&server), (0, 0));
    assert!(coordinator.events(9, LEASE, Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_told_is_held_when_more_is_asked_for_and_comes_again_when_its_lease_passes() {
    let server = Server::start();
    let (coordinator, _worker, event) = told(&server).await;
    let asks = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { next(&coordinator).await }
    });
    let start = Instant::now();
    while reports(&server) != (1, 1) {
        assert!(start.elapsed() < Duration::from_secs(1), "it is held at once: {:?}", reports(&server));
        sleep(SOON).await;
    }
    sleep(LEASE + LEASE / 2).await;
    assert!(!asks.is_finished(), "it is given once");
    coordinator.sweep(5).await.unwrap();
    let again = asks.await.unwrap();
    assert_eq!(again.iter().map(|event| (event.id, event.deliveries)).collect::<Vec<_>>(), [(event.id, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_told_to_one_who_is_gone_is_taken_by_the_next_at_once() {
    let server = Server::start();
    let (coordinator, worker, event) = told(&server).await;
    drop(coordinator);
    let next_one = backend(&server).await;
    let taken = next(&next_one).await;
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].id.entry, taken[0].deliveries), (event.id.entry, 1));
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_coordinators_each_report_is_given_to_one() {
    let server = Server::start();
    let (one, two, worker) = (backend(&server).await, backend(&server).await, backend(&server).await);
    queued(&worker, &one, 1).await;
    let wait = |coordinator: &RedisBackend| {
        let coordinator = coordinator.clone();
        tokio::spawn(async move { coordinator.events(9, PATIENCE, Duration::from_secs(2)).await.unwrap() })
    };
    let waiting = [wait(&one), wait(&two)];
    listening(&server, 2).await;
    sleep(LEASE / 4).await;
    report(&worker, "x").await;
    let mut given = 0;
    for events in waiting {
        given += events.await.unwrap().len();
    }
    assert_eq!(given, 1);
    assert_eq!(reports(&server), (1, 1));
}

/// Hints pass from one database to the other, and reports do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_of_another_database_is_told_nothing() {
    let server = Server::start();
    let (other, worker) = (backend_in(&server, 1).await, backend(&server).await);
    let coordinator = backend(&server).await;
    queued(&worker, &coordinator, 1).await;
    drop(coordinator);
    listening(&server, 0).await;
    let waiting = tokio::spawn(async move { other.events(9, LEASE, Duration::from_secs(1)).await.unwrap() });
    listening(&server, 1).await;
    sleep(LEASE / 4).await;
    report(&worker, "x").await;
    assert_eq!(waiting.await.unwrap().len(), 0);
    assert_eq!(reports(&server), (1, 0));
    assert_eq!(next(&backend(&server).await).await.len(), 1);
}

/// Each report of several queues is the only one in its line.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_meanwhile_is_given_together() {
    let server = Server::start();
    let (coordinator, worker) = (backend(&server).await, backend(&server).await);
    let queues = [DEFAULT_QUEUE, "q2", "q3", "q4"];
    for (number, queue) in queues.into_iter().enumerate() {
        queued_on(queue, &worker, &coordinator, number as u64).await;
    }
    let waiting = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { next(&coordinator).await }
    });
    listening(&server, 1).await;
    sleep(LEASE / 4).await;
    report(&worker, "x").await;
    let first = waiting.await.unwrap();
    for queue in &queues[1..] {
        report_on(queue, &worker, "x").await;
    }
    sleep(LEASE / 4).await;
    coordinator.acknowledge(&[first[0].id]).await.unwrap();
    let events = next(&coordinator).await;
    assert_eq!((first.len(), events.len()), (1, 3), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_or_not_alone_is_taken() {
    let server = Server::start();
    let (coordinator, worker) = (backend(&server).await, backend(&server).await);
    for (number, value) in [(1, "x".repeat(2000)), (2, "x".to_owned())] {
        queued(&worker, &coordinator, number).await;
        let mut connection = server.connection();
        if number == 2 {
            // Another report waits there.
            let other =
                redis::cmd("XADD").arg(REPORTS).arg("*").arg("c").arg("?").query::<String>(&mut connection);
            other.unwrap();
        }
        let waiting = tokio::spawn({
            let coordinator = coordinator.clone();
            async move { next(&coordinator).await }
        });
        listening(&server, 1).await;
        sleep(LEASE / 4).await;
        report(&worker, &value).await;
        let events = waiting.await.unwrap();
        assert_eq!(events.len(), 1);
        // The other one is no report, and it is set aside.
        let start = Instant::now();
        while reports(&server) != (1, 1) {
            assert!(start.elapsed() < PATIENCE, "what was taken is held: {:?}", reports(&server));
            sleep(SOON).await;
        }
        coordinator.acknowledge(&[events[0].id]).await.unwrap();
    }
}

/// The clock of a server that was emptied may have gone back.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_a_line_that_was_made_anew_with_smaller_ids_is_taken_at_once() {
    let server = Server::start();
    let (coordinator, worker) = (backend(&server).await, backend(&server).await);
    for number in 1..=2 {
        queued(&worker, &coordinator, number).await;
    }
    report(&worker, "x").await;
    let mut connection = server.connection();
    let late = [REPORTS, "9999999999999-0", "c", "?"];
    redis::cmd("XADD").arg(&late).exec(&mut connection).unwrap();
    assert_eq!(next(&coordinator).await.len(), 1);
    redis::cmd("DEL").arg(REPORTS).exec(&mut connection).unwrap();
    let waiting = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.events(9, LEASE, LOOKS_AGAIN / 2).await.unwrap() }
    });
    listening(&server, 1).await;
    sleep(LEASE / 4).await;
    report(&worker, "x").await;
    assert_eq!(waiting.await.unwrap().len(), 1);
}

#[task(crate = celeriac_dsl, name = "early.next")]
async fn next_number(number: u64) -> u64 {
    number + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_takes_no_event_for_each_of_its_leaves() {
    let server = Server::start();
    let app = |backend| App::builder("early").tasks(tasks![next_number]).backend(backend).build().unwrap();
    let (one, two, three) = (backend(&server).await, backend(&server).await, backend(&server).await);
    let (client, _coordinator) = (app(one), app(two).coordinator(CoordinatorOptions::default()));
    let _worker = app(three).worker(WorkerOptions::default());
    let chain = || {
        Canvas::chain((0..200).map(|number| match number {
            0 => next_number.s(0).untyped().unwrap(),
            _ => next_number.s(()).untyped().unwrap(),
        }))
    };
    let value = client.submit(chain()).await.unwrap().get().await.unwrap();
    assert_eq!(value, 200);
    server.reset_counts();
    let start = Instant::now();
    let value = client.submit(chain()).await.unwrap().get().await.unwrap();
    assert_eq!(value, 200);
    // Both take once in a while, when nothing was hinted at.
    let (took, takes) = (start.elapsed(), server.command_counts()["xreadgroup"]);
    println!("{takes} streams were read for 200 leaves in {took:?}");
    assert!(takes <= 300 + took.as_secs() * 20, "{takes} streams were read for 200 leaves");
}
