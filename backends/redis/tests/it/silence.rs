//! What is silent, and what is only slow.

use std::time::Duration;

use celeriac_backends::{DEFAULT_QUEUE, Queue, Store, Take, WorkerId};
use celeriac_conformance::whole::Crew;
use celeriac_primitives::{Json, NodeNo, Outcome, Signature};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{CoordinatorOptions, GetError};
use celeriac_testkit::{Connections, Proxy, Server, Ways};
use tokio::time::Instant;

async fn backend(url: String) -> RedisBackend {
    RedisBackend::builder(url).prefix("silence").connect().await.expect("the server answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_noticed_and_replaced() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let backend = backend(proxy.url()).await;
    proxy.swallow(Ways::Both, Connections::Present);
    let start = Instant::now();
    let error = backend.list(None, 1).await.expect_err("nobody answers");
    assert!(error.may_retry(), "{error}");
    backend.list(None, 1).await.expect("the connection is a new one");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// Each time a connection dies while somebody waits for a reply, and is cut a moment before it would be given
/// up. That it took so long to hear of the end says nothing of Redis: it does not get more time from then on.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_in_the_end_earn_no_patience() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let backend = backend(proxy.url()).await;
    for after_ms in [1200, 2200, 4200, 8200] {
        proxy.swallow(Ways::Both, Connections::Present);
        let cut = async {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            proxy.cut();
            proxy.heal().await;
        };
        let start = Instant::now();
        let (error, ()) = tokio::join!(
            async {
                let error = backend.list(None, 1).await.expect_err("nobody answers");
                (error, start.elapsed())
            },
            cut
        );
        assert!(error.0.may_retry() && error.1 < Duration::from_millis(2200), "{error:?}");
        while backend.list(None, 1).await.is_err() {}
    }
}

/// Eight megabytes through a link that takes four seconds for them, there and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_on_a_slow_link_arrives() {
    const BYTES: usize = 8_000_000;
    let server = Server::start();
    let direct = backend(server.url()).await;
    let crew = Crew::alone(direct);
    let _coordinator = crew.app.coordinator(CoordinatorOptions::default());
    let run = crew.app.submit(Signature::new("identity").unwrap().arg(1).unwrap()).await.unwrap();
    let proxy = Proxy::start(server.address()).await;
    let slow = backend(proxy.url()).await;
    let (worker, queues) = (WorkerId::new("w"), [DEFAULT_QUEUE.into()]);
    let (lease, wait) = (Duration::from_secs(60), Duration::from_secs(10));
    let delivery = slow.receive(&worker, &queues, Take::new(1, lease).wait(wait)).await.unwrap().remove(0);
    let value = Json::string(&"x".repeat(BYTES));
    let done = delivery.message.completion(Outcome::Success(value));
    proxy.throttle(Ways::Both, BYTES as u64 / 4);
    // The time it takes to send is known: it arrives at the first try.
    slow.finish(&[(delivery.id, done)]).await.unwrap();
    run.ended().await.unwrap();

    // How large a reply will be is not; the same command is waited for longer each time.
    let mut tries = 0;
    let known = loop {
        tries += 1;
        match slow.known(run.run(), &[NodeNo::from_index(0)], &[]).await {
            Ok(known) => break known.expect("the run is known"),
            Err(error) => assert!(error.may_retry() && tries < 5, "{error}"),
        }
    };
    println!("read at try {tries}");
    let Outcome::Success(value) = &known.outcomes[&NodeNo::from_index(0)] else { panic!("it succeeded") };
    assert_eq!(value.as_str().len(), BYTES + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_outlasts_a_redis_that_is_away_and_gives_up_in_time() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let crew = Crew::alone(backend(proxy.url()).await);
    let away = async {
        proxy.refuse();
        proxy.cut();
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.heal().await;
    };
    let signature = || Signature::new("identity").unwrap().arg(1).unwrap();
    let (run, ()) = tokio::join!(crew.app.submit(signature()), away);
    let run = run.expect("the run is accepted when Redis is there again");
    let undecided = run.get_json(Some(Duration::from_millis(100))).await.unwrap_err();
    assert!(matches!(undecided, GetError::Timeout(_)), "nobody works: {undecided}");

    proxy.refuse();
    proxy.cut();
    let start = Instant::now();
    let error = run.get_json(Some(Duration::from_secs(1))).await.unwrap_err();
    assert!(matches!(&error, GetError::Backend(error) if error.may_retry()), "{error}");
    let took = start.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
}
