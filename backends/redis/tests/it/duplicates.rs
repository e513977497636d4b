//! A network that brings every script twice, or: a client that does everything again, since it does not know whether it
//! happened. The second answer is the one that is lost.

use std::time::Duration;

use celeriac_conformance::random::Shape;
use celeriac_conformance::whole::Crew;
use celeriac_redis::RedisBackend;
use celeriac_runtime::{CoordinatorOptions, WorkerOptions};
use celeriac_testkit::{Proxy, Server};

use crate::setting;

/// What the second of two takes has taken nobody knows of; it comes again after this time.
const LEASE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_executed_twice_change_nothing_twice() {
    let server = Server::builder().without_aof().start();
    let backend = async |url: String| {
        RedisBackend::builder(url).prefix("twice").connect().await.expect("the server answers")
    };
    let crew = Crew::alone(backend(server.url()).await);
    let proxy = Proxy::start(server.address()).await;
    proxy.duplicate(|name| name == "EVALSHA");
    // A leaf may be taken by the second of two takes again and again.
    let coordinator = CoordinatorOptions {
        lease: LEASE,
        sweep_every: LEASE / 20,
        deliveries_max: 1000,
        ..Default::default()
    };
    let worker = WorkerOptions::default().concurrency(3).prefetch(2).lease(LEASE);
    let (mut coordinators, mut workers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        coordinators.push(crew.app_on(backend(proxy.url()).await).coordinator(coordinator.clone()));
        workers.push(crew.app_on(backend(proxy.url()).await).worker(worker.clone()));
    }
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 100));
    crew.check_random(first..first + count, &Shape::default()).await;
}
