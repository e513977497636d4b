//! Redis is away for longer than a lease: what runs on healthy workers goes on, and is not run a second time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_testkit::{Cluster, Server};
use tokio::time::sleep;

use crate::leases::{LEASE, Shared, app, coordinator, seen, sig, worker};

/// Far longer than a lease, and shorter than the leaf.
const AWAY: Duration = LEASE.saturating_mul(4);
const PATIENCE: Duration = Duration::from_secs(60);

/// Two healthy workers and two coordinators. The leaf takes ten leases.
async fn runs_once(url: String, seen: Shared, away: impl AsyncFnOnce()) {
    let app = app(url, &seen).await;
    let _coordinators = [app.coordinator(coordinator()), app.coordinator(coordinator())];
    let _workers = [app.worker(worker()), app.worker(worker())];
    let run = app.submit(sig("slow")).await.unwrap();
    while seen.calls.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    away().await;
    assert_eq!(run.get_json(Some(PATIENCE)).await.unwrap().as_str(), "7");
    assert_eq!(seen.calls.load(Ordering::SeqCst), 1, "it runs once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_for_longer_than_a_lease_has_nothing_run_twice() {
    let server = Server::start();
    runs_once(server.url(), seen().0, async || {
        server.pause();
        sleep(AWAY).await;
        server.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_down_for_longer_than_a_lease_has_nothing_run_twice() {
    let server = Arc::new(Server::builder().appendfsync(celeriac_testkit::Fsync::Always).start());
    runs_once(server.url(), seen().0, async || {
        server.kill();
        sleep(AWAY).await;
        let server = server.clone();
        tokio::task::spawn_blocking(move || server.start_again()).await.expect("it starts again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_goes_away_again_and_again_has_nothing_run_twice() {
    let server = Server::start();
    runs_once(server.url(), seen().0, async || {
        for _ in 0..4 {
            server.pause();
            sleep(LEASE + LEASE / 2).await;
            server.resume();
            sleep(LEASE / 4).await;
        }
    })
    .await;
}

/// Who has just come does not know for how long Redis was away.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_comes_after_an_outage_has_nothing_run_twice() {
    let server = Server::start();
    let seen = seen().0;
    let late = app(server.url(), &seen).await;
    let url = server.url();
    runs_once(server.url(), seen.clone(), async || {
        server.pause();
        sleep(AWAY).await;
        server.resume();
        let newcomer = app(url, &seen).await;
        for _ in 0..3 {
            drop(newcomer.coordinator(coordinator()));
        }
        drop(late.coordinator(coordinator()));
    })
    .await;
}

/// The shard of the queue stands still; the others do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_away_for_longer_than_a_lease_has_nothing_run_twice() {
    let cluster = Cluster::start();
    let node = cluster.node_of("leases:{q:celery}:stream");
    runs_once(cluster.url(), seen().0, async || {
        node.pause();
        sleep(AWAY).await;
        node.resume();
    })
    .await;
}
