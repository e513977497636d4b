//! What a proxy does to commands: it counts, goes dead at one, doubles some, answers some itself.

use std::time::Duration;

use celeriac_testkit::{Proxy, Server, Trap};
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::network::connect;

const SOON: Duration = Duration::from_secs(20);

/// Pushes so many items in one pipeline.
async fn push(connection: &mut MultiplexedConnection, count: usize) -> redis::RedisResult<Vec<usize>> {
    let mut pipe = redis::pipe();
    for number in 0..count {
        pipe.cmd("RPUSH").arg("list").arg(number);
    }
    timeout(SOON, pipe.query_async(connection)).await.expect("nobody waits for a dead proxy")
}

fn items(server: &Server) -> Vec<usize> {
    redis::cmd("LRANGE").arg("list").arg(0).arg(-1).query(&mut server.connection()).unwrap()
}

/// The server executes all that was sent before, though its replies cannot be delivered any more.
async fn until_pushed(server: &Server, count: usize) {
    for _ in 0..1000 {
        if items(server).len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(items(server).into_iter().eq(0..count), "{:?}", items(server));
}

#[tokio::test]
async fn every_command_of_a_pipeline_is_counted_and_handshakes_are_not() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&format!("{}?protocol=resp3", proxy.url())).await.unwrap();
    redis::cmd("PING").exec_async(&mut connection).await.unwrap();
    assert_eq!(proxy.counted(), 0);
    assert!(push(&mut connection, 10_000).await.unwrap().into_iter().eq(1..=10_000));
    assert_eq!(proxy.counted(), 10_000);
    let text = vec![b'*'; 3_000_000];
    redis::cmd("SET").arg("a").arg(&text).exec_async(&mut connection).await.unwrap();
    assert_eq!(proxy.counted(), 10_001);
    proxy.count(|name| name == "PING");
    redis::pipe().cmd("PING").cmd("GET").arg("a").cmd("PING").exec_async(&mut connection).await.unwrap();
    assert_eq!(proxy.counted(), 10_003);
}

#[tokio::test]
async fn the_server_has_seen_exactly_what_came_before_the_trap() {
    for (nth, trap, pushed) in [
        (1, Trap::Before, 0),
        (1, Trap::After, 1),
        (7, Trap::Before, 6),
        (7, Trap::After, 7),
        (20, Trap::Before, 19),
        (20, Trap::After, 20),
    ] {
        let server = Server::start();
        let proxy = Proxy::start(server.address()).await;
        let mut connection = connect(&proxy.url()).await.unwrap();
        let mut other = connect(&proxy.url()).await.unwrap();
        proxy.trap(nth, trap);
        push(&mut connection, 20).await.unwrap_err();
        assert_eq!(timeout(SOON, proxy.until_tripped()).await.unwrap(), "RPUSH");
        until_pushed(&server, pushed).await;
        timeout(SOON, push(&mut other, 1)).await.unwrap().unwrap_err();
        assert!(connect(&proxy.url()).await.is_err(), "the proxy is dead");
        assert_eq!((items(&server).len(), proxy.connections()), (pushed, 0));
        proxy.heal().await;
        let mut again = connect(&proxy.url()).await.unwrap();
        assert_eq!(push(&mut again, 1).await.unwrap(), [pushed + 1]);
    }
}

#[tokio::test]
async fn a_trap_after_one_command_passes_the_replies_before_it() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    proxy.trap(3, Trap::After);
    let client = redis::Client::open(proxy.url()).unwrap();
    let got = tokio::task::spawn_blocking(move || {
        let mut raw = client.get_connection().unwrap();
        raw.set_read_timeout(Some(SOON)).unwrap();
        raw.send_packed_command(&redis::cmd("RPUSH").arg("list").arg(&[0, 1, 2]).get_packed_command())
            .unwrap();
        raw.send_packed_command(&redis::cmd("LLEN").arg("list").get_packed_command()).unwrap();
        raw.send_packed_command(&redis::cmd("LPOP").arg("list").get_packed_command()).unwrap();
        let replies: Vec<_> = (0..3).map(|_| raw.recv_response()).collect();
        replies.iter().map(Result::is_ok).collect::<Vec<_>>()
    });
    assert_eq!(timeout(SOON, got).await.unwrap().unwrap(), [true, true, false]);
    assert_eq!(proxy.tripped().as_deref(), Some("LPOP"));
    assert_eq!(items(&server), [1, 2], "it was executed");
    push(&mut connection, 1).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_is_exact_over_many_connections() {
    for trap in [Trap::Before, Trap::After] {
        // A server for each: what was on its way to this one may be executed much later.
        let server = Server::start();
        let proxy = Proxy::start(server.address()).await;
        let mut connections = Vec::new();
        for _ in 0..8 {
            connections.push(connect(&proxy.url()).await.unwrap());
        }
        proxy.trap(500, trap);
        let pushing = connections.into_iter().map(|mut connection| {
            tokio::spawn(async move {
                let mut answered = 0;
                while push(&mut connection, 3).await.is_ok() {
                    answered += 3;
                }
                answered
            })
        });
        let mut answered = 0;
        for one in pushing.collect::<Vec<_>>() {
            answered += one.await.unwrap();
        }
        // What was on its way in the eight connections may have been executed without an answer.
        let pushed = items(&server).len();
        let last = if trap == Trap::Before { 499 } else { 500 };
        assert!((answered..=last).contains(&pushed), "{trap:?}: {answered} answered, {pushed} pushed");
        assert!(answered > last - 8 * 3 - 1, "{trap:?}: {answered} answered");
    }
}

#[tokio::test]
async fn a_trap_can_be_removed() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    proxy.trap(2, Trap::Before);
    push(&mut connection, 1).await.unwrap();
    proxy.disarm();
    push(&mut connection, 5).await.unwrap();
    assert_eq!(proxy.tripped(), None);
}

#[tokio::test]
async fn a_server_that_dies_in_the_last_command_leaves_the_proxy_dead() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    server.pause();
    proxy.trap(1, Trap::After);
    let pushed = tokio::spawn(async move { push(&mut connection, 1).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(proxy.tripped(), None);
    server.kill();
    pushed.await.unwrap().unwrap_err();
    assert_eq!(timeout(SOON, proxy.until_tripped()).await.unwrap(), "RPUSH");
}

#[tokio::test]
async fn a_command_that_is_doubled_is_executed_twice_and_answered_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    proxy.duplicate(|name| name == "INCR" || name == "APPEND");
    let mut pipe = redis::pipe();
    for _ in 0..3 {
        pipe.cmd("INCR").arg("n").cmd("GET").arg("n");
    }
    let seen: Vec<u64> = pipe.query_async(&mut connection).await.unwrap();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    assert_eq!(proxy.counted(), 6, "what the client has sent");
    let big = vec![b'x'; 2_000_000];
    let append = redis::cmd("APPEND").arg("a").arg(&big).query_async::<usize>(&mut connection).await;
    assert_eq!(append.unwrap(), 2_000_000);
    assert_eq!(redis::cmd("STRLEN").arg("a").query_async::<usize>(&mut connection).await.unwrap(), 4_000_000);
}

#[tokio::test]
async fn subscriptions_and_pushes_are_not_taken_for_replies() {
    use redis::{PushInfo, PushKind};
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel::<PushInfo>();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let client = redis::Client::open(format!("{}?protocol=resp3", proxy.url())).unwrap();
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    connection.subscribe("news").await.unwrap();
    proxy.duplicate(|name| name == "PUBLISH" || name == "RPUSH");
    assert_eq!(proxy.counted(), 0);
    for number in 1..20 {
        let heard: u32 =
            redis::cmd("PUBLISH").arg("news").arg(number).query_async(&mut connection).await.unwrap();
        assert_eq!(heard, 1);
        assert_eq!(push(&mut connection, 1).await.unwrap(), [number * 2 - 1]);
    }
    let mut messages = 0;
    while messages < 38 {
        let push = timeout(SOON, pushes.recv()).await.unwrap().unwrap();
        messages += usize::from(push.kind == PushKind::Message);
    }
    proxy.trap(1, Trap::After);
    push(&mut connection, 1).await.unwrap_err();
    assert_eq!(proxy.tripped().as_deref(), Some("RPUSH"));
}

#[tokio::test]
async fn some_commands_are_answered_in_their_place_and_the_server_does_not_see_them() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    let incr = || redis::cmd("INCR").arg("n").to_owned();
    proxy.answer("LOADING not yet", 2, |name| name == "INCR");
    for _ in 0..2 {
        let error = timeout(SOON, incr().exec_async(&mut connection)).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some("LOADING"), "{error}");
    }
    assert_eq!(incr().query_async::<u32>(&mut connection).await.unwrap(), 1);
    assert_eq!(proxy.counted(), 3);

    // In the middle of others, each gets its own.
    proxy.answer("BUSY now", 1, |name| name == "GET");
    let mut pipe = redis::pipe();
    pipe.cmd("SET")
        .arg("a")
        .arg("x".repeat(100_000))
        .cmd("GET")
        .arg("a")
        .cmd("STRLEN")
        .arg("a")
        .ignore_errors();
    let replies: Vec<redis::Value> = timeout(SOON, pipe.query_async(&mut connection)).await.unwrap().unwrap();
    assert!(matches!(&replies[1], redis::Value::ServerError(error) if error.code() == "BUSY"), "{replies:?}");
    assert_eq!((&replies[0], &replies[2]), (&redis::Value::Okay, &redis::Value::Int(100_000)));
}
