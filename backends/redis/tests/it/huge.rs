//! Runs that are dispatched for longer than a lease, and what else happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_dsl::{State, chain, group, task, tasks};
use celeriac_primitives::Options;
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::time::Instant;

use crate::setting;

const LEASE: Duration = Duration::from_millis(100);

type Calls = Arc<AtomicU64>;

#[task(crate = celeriac_dsl, name = "huge.one")]
async fn one(calls: State<Calls>) -> u64 {
    calls.fetch_add(1, Ordering::SeqCst)
}

async fn app(url: String, calls: &Calls) -> App {
    let backend = RedisBackend::builder(url).prefix("huge").connect().await.expect("it answers");
    let tasks = tasks![one, plus];
    App::builder("huge").tasks(tasks).state(calls.clone()).backend(backend).build().expect("all is there")
}

/// Three coordinators whose leases are far shorter than it takes to dispatch the run: nobody dies, each leaf
/// runs once.
async fn each_leaf_once(url: String, leaves: u64) {
    let calls = Calls::default();
    let mut apps = Vec::new();
    for _ in 0..3 {
        apps.push(app(url.clone(), &calls).await);
    }
    let options =
        CoordinatorOptions { lease: LEASE, sweep_every: LEASE / 2, ..CoordinatorOptions::default() };
    let _coordinators: Vec<_> = apps.iter().map(|app| app.coordinator(options.clone())).collect();
    let _workers: Vec<_> = apps.iter().map(|app| app.worker(WorkerOptions::default())).collect();
    let start = Instant::now();
    let run = apps[0].submit(group((0..leaves).map(|_| one.s(())))).await.unwrap();
    assert_eq!(run.get().await.unwrap().len() as u64, leaves);
    run.ended().await.unwrap();
    println!("{leaves} leaves in {:?}, leases of {LEASE:?}", start.elapsed());
    assert_eq!(calls.load(Ordering::SeqCst), leaves, "each leaf runs once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_longer_than_its_lease_is_done_once_on_a_cluster() {
    let cluster = Cluster::start();
    each_leaf_once(cluster.url(), setting("CELERIAC_DISPATCH", 10_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_longer_than_its_lease_is_done_once_on_one_server() {
    let server = Server::start();
    each_leaf_once(server.url(), setting("CELERIAC_DISPATCH", 10_000)).await;
}

#[task(crate = celeriac_dsl, name = "huge.plus")]
async fn plus(x: u64) -> u64 {
    x + 1
}

/// Chains of ten beside huge runs whose leaves nobody takes; the slowest of them, and how many ran until all
/// was dispatched.
async fn beside(server: &Server, coordinators: usize, huge_runs: usize, leaves: u64) -> (Duration, u32) {
    let calls = Calls::default();
    // Processes of their own: none has the plans of the others at hand.
    let client = app(server.url(), &calls).await;
    let mut apps = Vec::new();
    for _ in 0..coordinators {
        apps.push(app(server.url(), &calls).await);
    }
    let _coordinators: Vec<_> =
        apps.iter().map(|app| app.coordinator(CoordinatorOptions::default())).collect();
    let _worker = client.worker(WorkerOptions::default());
    let small = async || {
        let start = Instant::now();
        let run = client.submit(one.s(()) | chain([(); 9].map(|()| plus.s(())))).await.unwrap();
        run.get().await.unwrap();
        start.elapsed()
    };
    small().await;
    let nobody = || Options::new().with_queue("nobody").unwrap();
    let mut huge = Vec::new();
    for _ in 0..huge_runs {
        let canvas = group((0..leaves).map(|number| plus.s(number).set(nobody())));
        huge.push(client.submit(canvas).await.unwrap());
    }
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    loop {
        let mut owed = 0;
        for run in &huge {
            owed += client.backend().outbox(run.run()).await.unwrap().len();
        }
        if owed == 0 {
            break;
        }
        for _ in 0..5 {
            slowest = slowest.max(small().await);
            count += 1;
        }
    }
    for run in huge {
        run.forget().await.unwrap();
    }
    (slowest, count)
}

/// How long small runs may take beside huge ones: the tests' machine is busy with others.
const BESIDE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn small_runs_pass_huge_ones_that_are_being_dispatched() {
    let leaves = setting("CELERIAC_HUGE", 20_000);
    for (coordinators, huge_runs) in [(1, 1), (1, 2), (2, 2), (2, 4)] {
        let server = Server::start();
        let (slowest, count) = beside(&server, coordinators, huge_runs, leaves).await;
        println!(
            "{coordinators} coordinators, {huge_runs} of {leaves}: {count} chains of ten, the slowest {slowest:?}"
        );
        assert!(slowest < BESIDE, "{coordinators} coordinators, {huge_runs} huge runs: {slowest:?}");
    }
}

/// A coordinator that has the plan of none of them gets reports on all.
#[tokio::test(flavor = "multi_thread")]
async fn reports_on_a_huge_run_whose_plan_is_not_at_hand_hold_up_no_other() {
    let (server, calls) = (Server::start(), Calls::default());
    let client = app(server.url(), &calls).await;
    let first = client.coordinator(CoordinatorOptions::default());
    let leaves = setting("CELERIAC_HUGE", 20_000);
    let huge = client.submit(group((0..leaves).map(|_| one.s(())))).await.unwrap();
    while !client.backend().outbox(huge.run()).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    first.shutdown().await;
    let other = app(server.url(), &calls).await;
    let _second = other.coordinator(CoordinatorOptions::default());
    let _worker = other.worker(WorkerOptions::default());
    assert_eq!(huge.get().await.unwrap().len() as u64, leaves);
    assert_eq!(calls.load(Ordering::SeqCst), leaves);
}

/// A client whose runs are forgotten by others does not keep their plans.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_submits_and_forgets_stays_as_small_as_it_was() {
    let (server, calls) = (Server::start(), Calls::default());
    let client = app(server.url(), &calls).await;
    let other = app(server.url(), &calls).await;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let long = "x".repeat(30_000);
    let (count, before) = (setting("CELERIAC_FORGOTTEN", 400), resident());
    for number in 0..count {
        let canvas = group(
            (0..7).map(|leaf| plus.s(number * 7 + leaf).set(Options::new().with_header("h", &long).unwrap())),
        );
        let run = client.submit(canvas).await.unwrap();
        other.backend().forget(run.run()).await.unwrap();
    }
    let grown = resident().saturating_sub(before);
    println!("{count} runs of 210 KB, all forgotten: {grown} MB more");
    assert!(grown < 200, "{grown} MB more after {count} runs");
}
