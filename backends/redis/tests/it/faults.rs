//! What must survive: lost scripts, lost hints, lost connections, a server that crashes, clients that die.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Advance, BackendError, DEFAULT_QUEUE, Dispatch, ErrorKind, Events, Lane, NewRun, Queue, Store, Take,
    WorkerId,
};
use celeriac_conformance::bench::run_id;
use celeriac_conformance::whole::Crew;
use celeriac_engine::{Plan, Settled};
use celeriac_primitives::{Canvas, Completion, Outcome, RunRef, Signature};
use celeriac_redis::RedisBackend;
use celeriac_testkit::{Cluster, Fsync, Proxy, Server, Ways};
use tokio::time::Instant;

use crate::backend::{Backends, NoResults};
use crate::whole::identities;

const LEASE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(50);

/// Submits a group and queues all its leaves.
async fn queued(backend: &RedisBackend, run: RunRef, count: usize) -> Arc<Plan> {
    let plan = Arc::new(Plan::compile(&Canvas::group(identities(count))).unwrap());
    backend.submit(NewRun::new(run, plan.clone())).await.unwrap();
    let leaves = backend.outbox(run).await.unwrap().into_iter().map(|release| Dispatch {
        release,
        queue: DEFAULT_QUEUE.into(),
        message: Arc::new(plan.message(run, release, &NoResults).unwrap()),
        start: None,
        lane: Lane::default(),
    });
    assert_eq!(backend.dispatch(run, &leaves.collect::<Vec<_>>()).await.unwrap(), count);
    plan
}

async fn settle(
    backend: &RedisBackend,
    run: RunRef,
    completions: Vec<Completion>,
) -> Result<Settled, BackendError> {
    let answer = backend.settle(&[Advance::new(run, completions)]).await?.remove(0)?;
    Ok(answer.settled().expect("the run is known"))
}

async fn receive(backend: &RedisBackend, worker: &str, max: usize) -> Vec<celeriac_backends::Delivery> {
    backend
        .receive(&WorkerId::new(worker), &[DEFAULT_QUEUE.into()], Take::new(max, LEASE).wait(SOON))
        .await
        .unwrap()
}

/// Runs groups while something goes wrong again and again, and checks their values.
async fn check_under(backend: RedisBackend, runs: usize, mut fault: impl FnMut()) {
    let crew = Crew::start(backend, 2, 3);
    for _ in 0..runs {
        let run = crew.app.submit(Canvas::group(identities(20))).await.unwrap();
        fault();
        let values: Vec<usize> = run.get_json(Some(Duration::from_secs(60))).await.unwrap().to().unwrap();
        assert!(values.into_iter().eq(0..20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_lost_are_loaded_again() {
    let server = Server::start();
    let mut connection = server.connection();
    let flush = move || redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
    check_under(server.backend().await, 20, flush).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_hints() {
    let server = Server::start();
    // This user may neither publish nor listen.
    let mut connection = server.connection();
    let rules = ["SETUSER", "deaf", "on", ">secret", "~*", "resetchannels", "+@all"];
    redis::cmd("ACL").arg(&rules).exec(&mut connection).unwrap();
    let url = server.url().replace("redis://", "redis://deaf:secret@");
    let backend = RedisBackend::builder(url).prefix("deaf").connect().await.unwrap();
    check_under(backend, 2, || ()).await;
}

/// A chain of so many steps, one after the other, of which nobody is told.
const STEPS: usize = 5;

/// Each step waits for a look of the worker, and for one of the coordinator, which goes round its queues in
/// every second look; and the client looks in the end. Twice that: the machine may be busy.
fn within(poll_of_workers: Duration) -> Duration {
    let poll = Duration::from_millis(500);
    ((poll_of_workers + poll * 2) * STEPS as u32 + poll) * 2
}

async fn check_on_a_cluster(acl: &str, bound: Duration) {
    let cluster = Cluster::start_with(Server::builder().acl(&format!("deaf on >secret ~* {acl}")));
    check_within(cluster.url().replace("://", "://deaf:secret@"), bound).await;
}

async fn check_within(url: String, bound: Duration) {
    let backend = RedisBackend::builder(url).prefix("deaf").connect().await.unwrap();
    let crew = Crew::start(backend, 2, 3);
    let next = || Canvas::from(Signature::new("identity").expect("a good name"));
    let mut slowest = Duration::ZERO;
    for _ in 0..2 {
        let chain = Canvas::chain(identities(1).chain((1..STEPS).map(|_| next())));
        let start = Instant::now();
        let run = crew.app.submit(chain).await.unwrap();
        assert_eq!(run.get_json(Some(bound)).await.expect("the polls find it").as_str(), "0");
        slowest = slowest.max(start.elapsed());
        let wide = crew.app.submit(Canvas::group(identities(50))).await.unwrap();
        let values: Vec<usize> = wide.get_json(Some(bound)).await.unwrap().to().unwrap();
        assert!(values.into_iter().eq(0..50));
    }
    println!("a chain of {STEPS} without hints takes {slowest:?} at most, of {bound:?}");
}

/// Nobody may listen, nor publish.
#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_hints_on_a_cluster() {
    check_on_a_cluster("resetchannels +@all", within(Duration::from_millis(500))).await;
}

/// Everybody listens, and no hint ever comes: who waits looks less often then, and looks.
const UNHEARD: &str = "&* +@all -publish -spublish";

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_when_all_hints_are_lost_on_one_server() {
    let server = Server::builder().acl(&format!("deaf on >secret ~* {UNHEARD}")).start();
    check_within(server.url_as("deaf", "secret"), within(Duration::from_secs(2))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_when_all_hints_are_lost_on_a_cluster() {
    check_on_a_cluster(UNHEARD, within(Duration::from_secs(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_come_back() {
    let server = Server::start();
    let mut connection = server.connection();
    let backend = server.backend().await;
    let crew = Crew::start(backend.clone(), 2, 3);
    for _ in 0..5 {
        let run = crew.app.submit(Canvas::group(identities(200))).await.unwrap();
        for _ in 0..5 {
            redis::cmd("CLIENT").arg(&["KILL", "SKIPME", "yes"]).exec(&mut connection).unwrap();
            tokio::time::sleep(SOON).await;
        }
        assert!(value(&run).await.into_iter().eq(0..200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_loses_nothing() {
    let server = Server::builder().appendfsync(Fsync::Always).start();
    let crew = Crew::start(server.backend().await, 2, 3);
    let mut runs = Vec::new();
    for round in 0..3 {
        for _ in 0..10 {
            runs.push(crew.app.submit(Canvas::group(identities(50))).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(20 * round)).await;
        server.crash_and_restart();
        // The connection notices at its next use.
        while runs[0].state().await.is_err() {
            tokio::time::sleep(SOON).await;
        }
    }
    for run in &runs {
        assert!(value(run).await.into_iter().eq(0..50));
    }
}

/// The value of a run; errors of the connection pass.
async fn value<T>(run: &celeriac_runtime::Handle<T>) -> Vec<usize> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        match run.get_json(Some(Duration::from_secs(60))).await {
            Ok(value) => return value.to().unwrap(),
            Err(celeriac_runtime::GetError::Backend(error)) if error.may_retry() => {
                assert!(tokio::time::Instant::now() < deadline, "{error}");
                tokio::time::sleep(SOON).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_that_is_dropped_has_taken_nothing() {
    let backend = Server::shared().backend().await;
    let run = run_id(1);
    queued(&backend, run, 300).await;
    let mut seen = HashSet::new();
    for round in 0..2000u64 {
        // From a future that is hardly polled to one that is dropped just before its end.
        let wait = Duration::from_micros(round % 40 * 50);
        if let Ok(taken) = tokio::time::timeout(wait, receive(&backend, "w", 3)).await {
            for delivery in taken {
                assert_eq!(delivery.deliveries, 1, "what went back was not counted");
                assert!(seen.insert(delivery.id), "nothing is delivered twice");
            }
        }
    }
    let mut empty = 0;
    while empty < 3 {
        let taken = receive(&backend, "w", 100).await;
        empty += u32::from(taken.is_empty());
        seen.extend(taken.into_iter().map(|delivery| delivery.id));
    }
    assert_eq!(seen.len(), 300);
}

/// An entry, its consumer, and two numbers.
type Pending = (String, String, u64, u64);

/// Who holds an entry of any line of these, unless it was given back.
fn held(server: &Server, prefix: &str) -> Option<(String, Pending)> {
    let mut connection = server.connection();
    for stream in server.keys(&format!("{prefix}*stream")) {
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(&stream).arg("celeriac").arg("-").arg("+").arg(10);
        // Nobody has taken anything from a line that has no group.
        let pending: Vec<Pending> = match cmd.query(&mut connection) {
            Ok(pending) => pending,
            Err(error) if error.code() == Some("NOGROUP") => continue,
            Err(error) => panic!("{error}"),
        };
        // What was given back waits with no owner.
        let held = pending.into_iter().find(|entry| !["-", "~"].contains(&&*entry.1));
        if let Some(held) = held {
            return Some((stream, held));
        }
    }
    None
}

/// Takes leaves and events, and drops either wait after so long; returns how many were dropped. What was
/// taken is given back.
async fn take_for(backend: &RedisBackend, wait: Duration) -> usize {
    let leaves = tokio::time::timeout(wait, receive(backend, "w", 3)).await;
    let events = tokio::time::timeout(wait, backend.events(100, LEASE, SOON)).await;
    backend.quiesce().await;
    let leaves = leaves.map(|taken| taken.into_iter().map(|delivery| delivery.id).collect::<Vec<_>>());
    let events = events.map(|taken| taken.unwrap().iter().map(|event| event.id).collect::<Vec<_>>());
    if let Ok(ids) = &leaves {
        backend.hand_back(&WorkerId::new("w"), ids).await.unwrap();
    }
    if let Ok(ids) = &events {
        backend.acknowledge(ids).await.unwrap();
    }
    usize::from(leaves.is_err()) + usize::from(events.is_err())
}

/// Who stops drops the wait of its last take, waits until all is still, and is gone.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_backend_is_still_what_dropped_takes_have_taken_is_back() {
    let server = Server::start();
    let backend = server.backend().await;
    let mut dropped = 0;
    for round in 0..500u64 {
        if round % 10 == 0 {
            queued(&backend, run_id(1 + round), 3).await;
        }
        dropped += take_for(&backend, Duration::from_micros(round % 40 * 25)).await;
        assert_eq!(held(&server, ""), None, "round {round}");
    }
    assert!(dropped >= 20, "{dropped} were dropped");
}

/// The same between any two commands that a wait sends.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_link_what_dropped_takes_have_taken_is_back_as_well() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    proxy.delay(Ways::Both, Duration::from_millis(1));
    let dropped = (0..30u64).map(async |number| {
        let prefix = format!("slow{number:02}");
        let backend = async |url| RedisBackend::builder(url).prefix(prefix.clone()).connect().await.unwrap();
        let (direct, slow) = (backend(server.url()).await, backend(proxy.url()).await);
        // Whether there is more somewhere else is asked once a second.
        slow.events(1, LEASE, Duration::ZERO).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        queued(&direct, run_id(1), 3).await;
        let dropped = take_for(&slow, Duration::from_micros(number * 500)).await;
        assert_eq!(held(&server, &prefix), None, "dropped after {} µs", number * 500);
        dropped
    });
    let dropped: usize = futures::future::join_all(dropped).await.into_iter().sum();
    assert!(dropped > 10, "{dropped} were dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_while_it_submits_leaves_nothing_that_stays() {
    let server = Server::start();
    let backend = server.backend().await;
    let plan = Arc::new(Plan::compile(&Canvas::group(identities(50_000))).unwrap());
    let mut died = 0;
    for number in 0..20 {
        let run = run_id(number);
        let new = NewRun::new(run, plan.clone());
        let submit = tokio::time::timeout(Duration::from_millis(number * 10), backend.submit(new.clone()));
        if submit.await.is_err() && backend.status(run.id).await.unwrap().is_none() {
            died += 1;
            assert!(backend.outbox(run).await.unwrap().is_empty());
        }
        // Whatever happened, the same again works.
        backend.submit(new).await.unwrap();
        assert_eq!(*backend.plan(run).await.unwrap().unwrap(), *plan);
    }
    assert!(died > 0, "no submission was interrupted");
    let mut connection = server.connection();
    for key in server.keys("*stage*") {
        let seconds: i64 = redis::cmd("TTL").arg(&key).query(&mut connection).unwrap();
        assert!(seconds > 0, "{key} does not expire");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_group_that_was_destroyed_is_made_again() {
    let server = Server::start();
    let backend = server.backend().await;
    let run = run_id(1);
    queued(&backend, run, 3).await;
    assert_eq!(receive(&backend, "v", 2).await.len(), 2);
    let mut connection = server.connection();
    for stream in server.keys("*stream") {
        redis::cmd("XGROUP").arg("DESTROY").arg(&stream).arg("celeriac").exec(&mut connection).unwrap();
    }
    assert_eq!(receive(&backend, "w", 9).await.len(), 3, "what was held comes again: at least once");
    assert_eq!(backend.events(9, LEASE, SOON).await.unwrap().len(), 1);
    backend.sweep(5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_waits_nowhere_is_found() {
    let server = Server::start();
    let backend = server.backend().await;
    queued(&backend, run_id(1), 2).await;
    let held = receive(&backend, "v", 2).await;
    let ids: Vec<_> = held.iter().map(|delivery| delivery.id.clone()).collect();
    backend.hand_back(&WorkerId::new("v"), &ids[..1]).await.unwrap();
    let mut connection = server.connection();
    let (stream, again) =
        (server.keys("*q:celery}:stream").remove(0), server.keys("*q:celery}:again").remove(0));
    redis::cmd("DEL").arg(&again).exec(&mut connection).unwrap();
    assert_eq!(backend.sweep(5).await.unwrap().redelivered, 0);
    // As if two hours had passed; and the other one is held by a consumer that another program has made.
    for ((ms, sequence), consumer) in [(ids[0].entry, "-"), (ids[1].entry, "somebody")] {
        let id = format!("{ms}-{sequence}");
        let claim = ["celeriac", consumer, "0", &id, "IDLE", "7200000", "JUSTID"];
        redis::cmd("XCLAIM").arg(&stream).arg(&claim).exec(&mut connection).unwrap();
    }
    assert_eq!(backend.sweep(5).await.unwrap().redelivered, 2);
    assert_eq!(backend.sweep(5).await.unwrap().redelivered, 0);
    let mut again = receive(&backend, "w", 9).await;
    again.sort_by_key(|delivery| delivery.id.entry);
    assert_eq!(again.iter().map(|delivery| delivery.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(again.iter().map(|delivery| delivery.deliveries).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_memory_settles_all_the_same() {
    let server = Server::start();
    let backend = server.backend().await;
    let run = run_id(1);
    queued(&backend, run, 1).await;
    let task_id = run.task(celeriac_primitives::NodeNo::from_index(0));
    let done = Completion { task_id, attempt: 1, outcome: Outcome::Ignored, incarnation: run.incarnation };
    server.config_set("maxmemory", 1);
    assert!(settle(&backend, run, vec![done]).await.unwrap().ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_run_is_an_error_and_nothing_is_written() {
    let server = Server::start();
    let backend = server.backend().await;
    let run = run_id(1);
    queued(&backend, run, 2).await;
    let done = |index| Completion {
        task_id: run.task(celeriac_primitives::NodeNo::from_index(index)),
        attempt: 1,
        outcome: Outcome::Ignored,
        incarnation: run.incarnation,
    };
    let hash = server.keys("*}:run").remove(0);
    let mut connection = server.connection();
    let whole: Vec<u8> = redis::cmd("HGET").arg(&hash).arg("s").query(&mut connection).unwrap();
    redis::cmd("HSET").arg(&hash).arg("s").arg("DDD").exec(&mut connection).unwrap();
    let error = settle(&backend, run, vec![done(0)]).await.unwrap_err();
    assert_eq!((error.kind, error.may_retry()), (ErrorKind::Corrupt, false), "{error}");
    assert_eq!(backend.status(run.id).await.unwrap().unwrap().done, 0);
    redis::cmd("HSET").arg(&hash).arg("s").arg(whole).exec(&mut connection).unwrap();
    redis::cmd("HSET").arg(&hash).arg("m").arg("\u{9}").exec(&mut connection).unwrap();
    let error = settle(&backend, run, vec![done(0)]).await.unwrap_err();
    assert!(error.kind == ErrorKind::Later && error.to_string().contains("format 9"), "{error}");
    let no_format: &[u8] = &[200; 73];
    redis::cmd("HSET").arg(&hash).arg("m").arg(no_format).exec(&mut connection).unwrap();
    let error = settle(&backend, run, vec![done(0)]).await.unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.to_string().contains("format 200"), "{error}");
    redis::cmd("SET").arg(&hash).arg("no hash").exec(&mut connection).unwrap();
    let error = settle(&backend, run, vec![done(0)]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn who_may_not_connect_is_told_so() {
    let server = Server::builder().requirepass("secret").start();
    let check = async |url: String, kind: ErrorKind| {
        let error = RedisBackend::connect(url.clone()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{url}: {error} {:?}", error.source);
        assert!(!format!("{error:?}").contains("wrong-password"));
    };
    check(server.url(), ErrorKind::Denied).await;
    check(server.url().replace("//", "//:wrong-password@"), ErrorKind::Denied).await;
    check("http://localhost".to_owned(), ErrorKind::Denied).await;
    check("redis://127.0.0.1:1".to_owned(), ErrorKind::Unavailable).await;
    assert!(RedisBackend::connect(server.url().replace("//", "//:secret@")).await.is_ok());
    let braces = RedisBackend::builder(server.url()).prefix("a{b}").connect().await;
    assert_eq!(braces.unwrap_err().kind, ErrorKind::Denied);
}
