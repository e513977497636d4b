//! Runs that are dispatched for longer than a lease, and what else happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_dsl::{State, group, task, tasks};
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
    let tasks = tasks![one];
    App::builder("huge").tasks(tasks).state(calls.clone()).backend(backend).build().expect("all is there")
}

/// Three coordinators whose leases are far shorter than it takes to dispatch the run: nobody dies, each leaf runs once.
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
