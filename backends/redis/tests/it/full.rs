//! A Redis that is full: what is accepted reaches its end, what is new is refused until there is room
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_backends::ErrorKind;
use celeriac_dsl::{Retry, State, TaskContext, chord, group, task, tasks};
use celeriac_primitives::{Options, TaskError};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, Handle, SubmitError, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::time::{Instant, sleep};

use crate::setting;

const PATIENCE: Duration = Duration::from_secs(120);

type Calls = Arc<AtomicU64>;

#[task(crate = celeriac_dsl, name = "full.text")]
async fn text(size: usize, calls: State<Calls>) -> String {
    calls.fetch_add(1, Ordering::SeqCst);
    "x".repeat(size)
}

#[task(crate = celeriac_dsl, name = "full.count")]
async fn count(texts: Vec<String>) -> usize {
    texts.len()
}

/// Asks for another attempt twice, a little later.
#[task(crate = celeriac_dsl, name = "full.third_time")]
async fn third_time(ctx: TaskContext) -> Result<usize, Retry> {
    if ctx.attempt() < 3 { Err(Retry::after(ms(200))) } else { Ok(3) }
}

/// A canvas of so many leaves takes its place.
#[task(crate = celeriac_dsl, name = "full.grow")]
async fn grow(ctx: TaskContext, leaves: usize) -> Result<usize, TaskError> {
    ctx.replace(group((0..leaves).map(|_| text.s(5))) | count.s(()))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn app(url: String, calls: &Calls, retention: Duration) -> App {
    let backend = RedisBackend::builder(url).prefix("full").connect().await.expect("it answers");
    App::builder("full")
        .tasks(tasks![text, count, third_time, grow])
        .state(calls.clone())
        .backend(backend)
        .retention(Some(retention))
        .build()
        .expect("all is there")
}

fn coordinator() -> CoordinatorOptions {
    CoordinatorOptions { sweep_every: ms(100), ..CoordinatorOptions::default() }
}

fn is_full(error: &SubmitError) -> bool {
    matches!(error, SubmitError::Backend(error) if error.kind == ErrorKind::Full && !error.may_retry())
}

/// Submits until there is no room; the last answer is a refusal that tells figures, at once.
async fn fill(app: &App, most: usize) -> Vec<Handle<usize>> {
    let mut runs = Vec::new();
    while runs.len() < most {
        let start = Instant::now();
        match app.submit(chord((0..3).map(|_| text.s(300)), count.s(()))).await {
            Ok(run) => runs.push(run),
            Err(error) => {
                assert!(is_full(&error) && error.to_string().contains("MB"), "{error}");
                assert!(start.elapsed() < ms(3000), "refused after {:?}", start.elapsed());
                return runs;
            }
        }
    }
    panic!("{most} runs fill nothing");
}

async fn all_end(runs: &[Handle<usize>]) {
    for run in runs {
        // A run that was read late is forgotten by then, as it should be.
        match run.get_timeout(PATIENCE).await {
            Ok(value) => assert_eq!(value, 3),
            Err(error) => assert!(error.to_string().contains("no such run"), "{error}"),
        }
    }
}

async fn takes_runs_again(app: &App) {
    let start = Instant::now();
    loop {
        match app.submit(group([text.s(1)])).await {
            Ok(run) => return drop(run.get_timeout(PATIENCE).await.unwrap()),
            Err(error) => assert!(is_full(&error) && start.elapsed() < PATIENCE, "{error}"),
        }
        sleep(ms(200)).await;
    }
}

/// Nobody works while the runs come; then workers find a Redis that is full to the brim.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_full_of_accepted_runs_drains_and_takes_others() {
    let most = setting("CELERIAC_FULL", 600) as usize;
    let (server, calls) = (Server::start(), Calls::default());
    let app = app(server.url(), &calls, ms(500)).await;
    // Each of these runs takes about two kilobytes.
    server.config_set("maxmemory", server.used_memory() + 2_000 * most as u64);
    let runs = fill(&app, 10 * most).await;
    println!("{} runs fill it", runs.len());
    // Whatever was left is gone.
    server.config_set("maxmemory", server.used_memory() / 2);
    let _coordinator = app.coordinator(coordinator());
    let _worker = app.worker(WorkerOptions::default());
    all_end(&runs).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3 * runs.len() as u64, "each leaf once");
    let start = Instant::now();
    while !app.runs(None, 10).await.unwrap().is_empty() {
        assert!(start.elapsed() < PATIENCE, "what has ended is forgotten");
        sleep(ms(50)).await;
    }
    server.config_set("maxmemory", server.used_memory() * 2);
    takes_runs_again(&app).await;
}

/// Retries, timers, chains, and canvases in the place of leaves.
async fn everything_ends(url: String, set_maxmemory: impl Fn(u64)) {
    let calls = Calls::default();
    let app = app(url, &calls, PATIENCE).await;
    let later = || Options::new().with_countdown(ms(700));
    let runs: Vec<Handle<usize>> = vec![
        app.submit(chord((0..3).map(|_| text.s(10).set(later())), count.s(()))).await.unwrap(),
        app.submit(chord((0..3).map(|_| text.s(10)), count.s(()).set(later()))).await.unwrap(),
        app.submit(chord((0..700).map(|_| text.s(10)), count.s(()))).await.unwrap(),
        app.submit(third_time.s(())).await.unwrap(),
        app.submit(grow.s(3)).await.unwrap(),
        app.submit(grow.s(1200)).await.unwrap(),
    ];
    set_maxmemory(1);
    let _coordinator = app.coordinator(coordinator());
    let _worker = app.worker(WorkerOptions::default());
    for (run, value) in runs.iter().zip([3, 3, 700, 3, 3, 1200]) {
        assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), value);
    }
    assert!(is_full(&app.submit(text.s(1)).await.unwrap_err()));
    set_maxmemory(0);
    takes_runs_again(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_maxmemory_lowered_everything_accepted_ends_on_one_server() {
    let server = Server::start();
    everything_ends(server.url(), |bytes| server.config_set("maxmemory", bytes)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_maxmemory_lowered_everything_accepted_ends_on_a_cluster() {
    let cluster = Cluster::start();
    everything_ends(cluster.url(), |bytes| {
        cluster.nodes().iter().for_each(|node| node.config_set("maxmemory", bytes));
    })
    .await;
}

/// What is staged of a large run that is refused does not fill the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_run_that_is_refused_leaves_nothing() {
    let (server, calls) = (Server::start(), Calls::default());
    let app = app(server.url(), &calls, ms(500)).await;
    let keys = server.dbsize();
    server.config_set("maxmemory", server.used_memory() + 400_000);
    let long = "y".repeat(1_000);
    let wide = group((0..5_000).map(|_| text.s(1).set(Options::new().with_header("h", &long).unwrap())));
    let error = app.submit(wide).await.unwrap_err();
    assert!(is_full(&error), "{error}");
    assert_eq!(server.dbsize(), keys);
}

/// A client that submits all the time looks once a second.
#[tokio::test(flavor = "multi_thread")]
async fn looking_at_the_memory_costs_a_command_a_second() {
    let (server, calls) = (Server::start(), Calls::default());
    let app = app(server.url(), &calls, ms(500)).await;
    let looked = || server.command_counts().get("info").copied().unwrap_or(0);
    let (before, start) = (looked(), Instant::now());
    for _ in 0..300 {
        app.submit(text.s(1)).await.unwrap();
    }
    // Counting is a look, too.
    let most = 2 + start.elapsed().as_secs();
    assert!(looked() - before <= most, "{} in {:?}", looked() - before, start.elapsed());
}

/// A node is full, and that of the lists is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_on_a_cluster_is_on_no_list() {
    let cluster = Cluster::start();
    let app = app(cluster.url(), &Calls::default(), ms(60_000)).await;
    let lists = cluster.node_of("full:{events}:runs");
    for node in cluster.nodes().iter().filter(|node| node.port() != lists.port()) {
        node.config_set("maxmemory", "1mb");
    }
    let mut refused = 0;
    for _ in 0..60 {
        match app.submit(text.s(5)).await {
            Ok(_) => {}
            Err(SubmitError::Backend(error)) if error.kind == ErrorKind::Full => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 5, "{refused} were refused");
    let size = |list: &str| -> u64 {
        let mut size = redis::cmd("ZCARD");
        size.arg(format!("full:{{events}}:{list}")).query(&mut lists.connection()).expect("it answers")
    };
    assert_eq!((size("intents"), size("runs")), (0, 60 - refused));
}
