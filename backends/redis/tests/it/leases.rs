//! Leases: kept as long as a task runs, lost when its worker is stopped, and given up when a task kills
//! every worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_dsl::{State, task, tasks};
use celeriac_primitives::{Canvas, Outcome, Signature};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, GetError, WorkerOptions};
use celeriac_testkit::{Proxy, Server, Ways};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use crate::look::{added_ever, lines};

pub(crate) const LEASE: Duration = Duration::from_millis(700);
const DELIVERIES_MAX: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the tasks tell the test.
pub(crate) struct Seen {
    pub(crate) calls: AtomicU64,
    after: AtomicU64,
    errbacks: AtomicU64,
    /// The first call of `gate` has begun; it may end.
    pub(crate) begun: Notify,
    pub(crate) open: Notify,
    kills: mpsc::UnboundedSender<()>,
}

pub(crate) type Shared = Arc<Seen>;

/// Takes ten leases.
#[task(crate = celeriac_dsl, name = "leases.slow")]
async fn slow(seen: State<Shared>) -> u64 {
    seen.calls.fetch_add(1, Ordering::SeqCst);
    sleep(LEASE * 10).await;
    7
}

/// The first call waits until it is let go; returns which call it was.
#[task(crate = celeriac_dsl, name = "leases.gate")]
async fn gate(seen: State<Shared>) -> u64 {
    let call = seen.calls.fetch_add(1, Ordering::SeqCst) + 1;
    if call == 1 {
        seen.begun.notify_one();
        seen.open.notified().await;
    }
    call
}

#[task(crate = celeriac_dsl, name = "leases.after")]
async fn after(call: u64, seen: State<Shared>) -> u64 {
    seen.after.fetch_add(1, Ordering::SeqCst);
    call * 10
}

/// Has its worker killed.
#[task(crate = celeriac_dsl, name = "leases.kill")]
async fn kill(seen: State<Shared>) -> u64 {
    seen.calls.fetch_add(1, Ordering::SeqCst);
    seen.kills.send(()).expect("the test lives");
    std::future::pending().await
}

#[task(crate = celeriac_dsl, name = "leases.number")]
async fn number() -> u64 {
    1
}

#[task(crate = celeriac_dsl, name = "leases.sum")]
async fn sum(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

#[task(crate = celeriac_dsl, name = "leases.errback")]
async fn errback(seen: State<Shared>) -> u64 {
    seen.errbacks.fetch_add(1, Ordering::SeqCst)
}

pub(crate) fn seen() -> (Shared, mpsc::UnboundedReceiver<()>) {
    let (kills, killed) = mpsc::unbounded_channel();
    let zero = || AtomicU64::new(0);
    let (begun, open) = (Notify::new(), Notify::new());
    (Arc::new(Seen { calls: zero(), after: zero(), errbacks: zero(), begun, open, kills }), killed)
}

pub(crate) async fn app(url: String, seen: &Shared) -> App {
    let backend = RedisBackend::builder(url).prefix("leases").connect().await.expect("the server answers");
    let tasks = tasks![slow, gate, after, kill, number, sum, errback];
    App::builder("leases").tasks(tasks).state(seen.clone()).backend(backend).build().expect("all is there")
}

pub(crate) fn coordinator() -> CoordinatorOptions {
    let sweep_every = Duration::from_millis(50);
    CoordinatorOptions { sweep_every, deliveries_max: DELIVERIES_MAX, ..CoordinatorOptions::default() }
}

pub(crate) fn worker() -> WorkerOptions {
    WorkerOptions::default().lease(LEASE)
}

pub(crate) fn sig(name: &str) -> Canvas {
    Signature::new(&format!("leases.{name}")).expect("a good name").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_ten_leases_runs_once() {
    let server = Server::start();
    let (seen, _) = seen();
    let app = app(server.url(), &seen).await;
    let _coordinator = app.coordinator(coordinator());
    let _workers = [app.worker(worker()), app.worker(worker())];
    let run = app.submit(sig("slow")).await.unwrap();
    assert_eq!(run.get_json(Some(PATIENCE)).await.unwrap().as_str(), "7");
    assert_eq!(seen.calls.load(Ordering::SeqCst), 1);
}

/// As after SIGSTOP and SIGCONT: what the first worker says of the leaf comes when the second has ended it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_lease_changes_nothing() {
    let server = Server::start();
    let (seen, _) = seen();
    let app = app(server.url(), &seen).await;
    let _coordinator = app.coordinator(coordinator());
    let proxy = Proxy::start(server.address()).await;
    let _first = self::app(proxy.url(), &seen).await.worker(worker());
    let run = app.submit(sig("gate").then(sig("after"))).await.unwrap();
    timeout(PATIENCE, seen.begun.notified()).await.expect("the first worker begins");
    proxy.hold(Ways::Both);
    let _second = app.worker(worker());
    assert_eq!(run.get_json(Some(PATIENCE)).await.unwrap().as_str(), "20", "the second call counts");

    // The first worker wakes: it has to renew, and then to report.
    seen.open.notify_one();
    sleep(LEASE / 2).await;
    proxy.heal().await;
    let reported = async {
        // Its report has come when it has led to nothing: all lines are empty again.
        while reports_ever(&server) < 3 || !lines(&server, "leases").is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, reported).await.expect("the late report is settled");
    let node = run.node_at("chain[0]").expect("the canvas is a chain");
    let Some(Outcome::Success(value)) = run.outcome_of(node).await.unwrap() else { panic!("it succeeded") };
    assert_eq!(value.as_str(), "2");
    assert_eq!(run.get_json(None).await.unwrap().as_str(), "20");
    assert_eq!((seen.calls.load(Ordering::SeqCst), seen.after.load(Ordering::SeqCst)), (2, 1));
}

/// How many reports workers have made since the beginning.
fn reports_ever(server: &Server) -> usize {
    added_ever(server, "leases:{q:celery}:done:stream")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_every_worker_fails_its_chord_and_calls_the_errback() {
    let server = Server::start();
    let (seen, mut killed) = seen();
    let app = app(server.url(), &seen).await;
    let _coordinator = app.coordinator(coordinator());
    let mut canvas = Canvas::chord([sig("kill"), sig("number")], sig("sum"));
    let mut heard = Signature::new("leases.errback").expect("a good name");
    heard.immutable = true;
    canvas.link_error(Canvas::from(heard));
    let run = app.submit(canvas).await.unwrap();
    let app_of_victims = app.clone();
    let victims = tokio::spawn(async move {
        loop {
            let victim = app_of_victims.worker(worker());
            killed.recv().await.expect("the tasks live");
            drop(victim);
        }
    });
    let error = run.get_json(Some(PATIENCE)).await.unwrap_err();
    let GetError::Failed(failure) = error else { panic!("{error}") };
    assert_eq!((failure.node.as_str(), failure.error.kind.as_str()), ("header[0]", "WorkerLostError"));
    run.ended().await.unwrap();
    assert_eq!(seen.calls.load(Ordering::SeqCst), u64::from(DELIVERIES_MAX));
    assert_eq!(seen.errbacks.load(Ordering::SeqCst), 1);
    victims.abort();
}
