//! Redis is away for longer than a lease: what runs on healthy workers goes on, and is not run a second time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_backends::{DEFAULT_QUEUE, Delivery, Queue as _, Take, WorkerId};
use celeriac_redis::RedisBackend;
use celeriac_testkit::{Cluster, Proxy, Server, Ways};
use tokio::time::{Instant, sleep, timeout};

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

async fn backend(url: String) -> RedisBackend {
    RedisBackend::builder(url).prefix("leases").connect().await.expect("the server answers")
}

/// A leaf that a hand takes, which is no worker that renews by itself.
async fn taken(url: String, worker: &WorkerId, lease: Duration) -> (RedisBackend, Delivery) {
    app(url.clone(), &seen().0).await.submit(sig("slow")).await.unwrap();
    let backend = backend(url).await;
    let take = Take::new(1, lease).wait(PATIENCE);
    let taken = backend.receive(worker, &[Arc::from(DEFAULT_QUEUE)], take).await.unwrap().remove(0);
    (backend, taken)
}

/// Who comes back within the time that is given to owners still holds what it held, whatever is swept
/// meanwhile; who does not has lost it.
async fn owner_comes_back(lease: Duration, away: Duration, after: Duration) {
    let server = Server::start();
    let (one, two) = (WorkerId::new("one"), WorkerId::new("two"));
    let (owner, leaf) = taken(server.url(), &one, lease).await;
    let sweeper = backend(server.url()).await;
    // It has seen enough before: what counts is the outage.
    sleep(lease.min(Duration::from_secs(5)) / 2).await;
    owner.renew(&one, std::slice::from_ref(&leaf.id), lease).await.unwrap();
    sleep(lease.min(Duration::from_secs(5)) / 2).await;
    sweeper.sweep(5).await.unwrap();
    server.pause();
    let sweeping = timeout(away, async {
        loop {
            let _ = sweeper.sweep(5).await;
        }
    });
    assert!(sweeping.await.is_err(), "the loop has no end");
    server.resume();
    let back = Instant::now();
    let mut others = 0;
    while back.elapsed() < after {
        // It may fail as long as it is not connected again.
        others += sweeper.sweep(5).await.map_or(0, |swept| swept.redelivered);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(others, 0, "taken up {after:?} after the outage at the latest");
    owner.renew(&one, std::slice::from_ref(&leaf.id), lease).await.unwrap();
    let queues = [Arc::from(DEFAULT_QUEUE)];
    assert!(sweeper.receive(&two, &queues, Take::new(1, lease)).await.unwrap().is_empty());
    let lost = async {
        while sweeper.sweep(5).await.unwrap().redelivered == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(lease * 3, lost).await.expect("who is gone loses its lease");
    assert_eq!(sweeper.receive(&two, &queues, Take::new(1, lease)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_lease_is_not_taken_up_before_its_owner_can_be_back() {
    let lease = Duration::from_secs(2);
    owner_comes_back(lease, Duration::from_secs(3), lease * 3 / 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_lease_is_not_taken_up_before_its_owner_can_be_back() {
    owner_comes_back(Duration::from_secs(6), Duration::from_secs(8), Duration::from_secs(4)).await;
}

/// The step was sent when Redis was there, and is done when it is there again: nobody knows who could renew.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_was_on_its_way_during_the_outage_takes_nothing_up() {
    let (server, lease) = (Server::start(), Duration::from_secs(2));
    let proxy = Proxy::start(server.address()).await;
    let (sweeper, one) = (backend(proxy.url()).await, WorkerId::new("one"));
    let (owner, leaf) = taken(server.url(), &one, lease).await;
    for _ in 0..3 {
        sleep(lease / 2).await;
        owner.renew(&one, std::slice::from_ref(&leaf.id), lease).await.unwrap();
    }
    // Its step is known to the server then.
    assert_eq!(sweeper.sweep(5).await.unwrap().redelivered, 0);
    let sweep = tokio::spawn(async move { sweeper.sweep(5).await });
    // It asks for the consumers last of all, and then takes up; on its way that is held.
    proxy.count(|name| name == "XINFO");
    let asked = proxy.counted();
    proxy.delay(Ways::ToServer, Duration::from_millis(200));
    while proxy.counted() == asked {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(300)).await;
    let steps = || server.command_counts().get("evalsha").copied().unwrap_or(0);
    let before = steps();
    server.pause();
    assert!(sweep.await.unwrap().is_err(), "it has heard nothing of the step");
    sleep(lease).await;
    server.resume();
    let done = async {
        while steps() == before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, done).await.expect("the step arrives");
    sleep(Duration::from_millis(100)).await;
    let mut pending = redis::cmd("XPENDING");
    pending.arg("leases:{q:celery}:stream").arg("celeriac").arg("-").arg("+").arg(9);
    let holders: Vec<(String, String, u64, u64)> = pending.query(&mut server.connection()).unwrap();
    assert!(holders.len() == 1 && holders[0].1.starts_with("w:one#"), "{holders:?}");
}
