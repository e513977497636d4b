//! What a proxy does to bytes and connections.

use std::time::{Duration, Instant};

use celeriac_testkit::{Connections, Proxy, Server, Ways};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::time::timeout;

/// Long for what takes milliseconds, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(20);
/// So long that what passes would have passed.
const WHILE: Duration = Duration::from_millis(200);

pub(crate) async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(SOON));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

async fn incr(connection: &mut MultiplexedConnection, key: &str) -> RedisResult<u64> {
    redis::cmd("INCR").arg(key).query_async(connection).await
}

/// A server, and a connection to it through a proxy that works.
async fn start() -> (Server, Proxy, MultiplexedConnection) {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    assert_eq!(incr(&mut connection, "n").await.unwrap(), 1);
    (server, proxy, connection)
}

/// What the server has counted.
fn counted(server: &Server) -> u64 {
    redis::cmd("GET").arg("n").query(&mut server.connection()).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_orders_everything_passes_as_it_comes() {
    let (_server, _proxy, mut connection) = start().await;
    for length in [0, 1, 1000, 65_536, 20_000_000] {
        let text: Vec<u8> = (0..length).map(|byte: u32| byte as u8).collect();
        redis::cmd("SET").arg("a").arg(&text).exec_async(&mut connection).await.unwrap();
        let back: Vec<u8> = redis::cmd("GET").arg("a").query_async(&mut connection).await.unwrap();
        assert!(back == text, "{length} bytes");
    }
}

#[tokio::test]
async fn connections_are_cut_and_new_ones_may_be_made() {
    let (_server, proxy, mut connection) = start().await;
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    incr(&mut connection, "n").await.unwrap_err();
    until("the connection is closed", || proxy.connections() == 0).await;
    let mut connection = connect(&proxy.url()).await.unwrap();
    assert_eq!(incr(&mut connection, "n").await.unwrap(), 2);
}

#[tokio::test]
async fn connections_are_cut_while_nobody_reads() {
    let (server, proxy, mut connection) = start().await;
    server.pause();
    let text = vec![0_u8; 50_000_000];
    let set =
        tokio::spawn(async move { redis::cmd("SET").arg("a").arg(&text).exec_async(&mut connection).await });
    tokio::time::sleep(WHILE).await;
    proxy.cut();
    timeout(SOON, set).await.unwrap().unwrap().unwrap_err();
}

#[tokio::test]
async fn new_connections_are_refused_and_old_ones_stay() {
    let (_server, proxy, mut connection) = start().await;
    proxy.refuse();
    assert!(connect(&proxy.url()).await.is_err());
    let refused = || std::net::TcpStream::connect(proxy.address()).is_err();
    until("the port is closed", refused).await;
    assert_eq!(incr(&mut connection, "n").await.unwrap(), 2);
    proxy.heal().await;
    assert_eq!(incr(&mut connect(&proxy.url()).await.unwrap(), "n").await.unwrap(), 3);
}

#[tokio::test]
async fn each_direction_is_delayed_by_as_much_as_was_said() {
    let (_server, proxy, mut connection) = start().await;
    let delay = Duration::from_millis(150);
    let mut both = Duration::ZERO;
    for ways in [Ways::ToServer, Ways::ToClient] {
        proxy.delay(ways, delay);
        both += delay;
        let start = Instant::now();
        incr(&mut connection, "n").await.unwrap();
        assert!(start.elapsed() >= both, "{ways:?}: {:?}", start.elapsed());
    }
    // A hundred at once, sent a millisecond apart, are on their way at the same time.
    let start = Instant::now();
    let mut sent = Vec::new();
    for _ in 0..100 {
        let mut connection = connection.clone();
        sent.push(tokio::spawn(async move { incr(&mut connection, "n").await.unwrap() }));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for one in sent {
        one.await.unwrap();
    }
    assert!(start.elapsed() < 100 * both / 4, "{:?}", start.elapsed());
    proxy.heal().await;
    let start = Instant::now();
    incr(&mut connection, "n").await.unwrap();
    assert!(start.elapsed() < both);
}

#[tokio::test]
async fn no_more_bytes_pass_in_a_second_than_was_said() {
    let (_server, proxy, mut connection) = start().await;
    redis::cmd("SETRANGE").arg("a").arg(499_999).arg("x").exec_async(&mut connection).await.unwrap();
    proxy.throttle(Ways::ToClient, 1_000_000);
    // Both share the link.
    let mut other = connect(&proxy.url()).await.unwrap();
    let start = Instant::now();
    let (mut get, mut also) = (redis::cmd("GET"), redis::cmd("GET"));
    let (get, also) = (get.arg("a"), also.arg("a"));
    let (one, two) = tokio::join!(get.exec_async(&mut connection), also.exec_async(&mut other));
    one.and(two).unwrap();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    // What waits passes at once when the network is healed.
    proxy.throttle(Ways::ToServer, 100);
    let mut slow = connection.clone();
    let text = vec![0_u8; 1_000_000];
    let set = tokio::spawn(async move { redis::cmd("SET").arg("b").arg(&text).exec_async(&mut slow).await });
    tokio::time::sleep(WHILE).await;
    proxy.heal().await;
    timeout(SOON, set).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_held_arrives_late() {
    let (server, proxy, mut connection) = start().await;
    for (ways, seen) in [(Ways::ToServer, 1), (Ways::ToClient, 3), (Ways::Both, 3)] {
        proxy.hold(ways);
        let mut slow = connection.clone();
        let late = tokio::spawn(async move { incr(&mut slow, "n").await });
        tokio::time::sleep(WHILE).await;
        assert_eq!((counted(&server), late.is_finished()), (seen, false), "{ways:?}");
        proxy.heal().await;
        timeout(SOON, late).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(incr(&mut connection, "n").await.unwrap(), 5);
}

#[tokio::test]
async fn what_is_swallowed_never_arrives_and_the_connection_is_closed_when_all_is_healed() {
    for (ways, seen) in [(Ways::ToServer, 1), (Ways::ToClient, 2), (Ways::Both, 1)] {
        let (server, proxy, mut connection) = start().await;
        proxy.swallow(ways, Connections::Present);
        let lost = tokio::spawn(async move { incr(&mut connection, "n").await });
        tokio::time::sleep(WHILE).await;
        assert_eq!((counted(&server), lost.is_finished()), (seen, false), "{ways:?}");
        // Later ones are spared.
        let mut later = connect(&proxy.url()).await.unwrap();
        assert_eq!(incr(&mut later, "n").await.unwrap(), seen + 1);
        proxy.heal().await;
        timeout(SOON, lost).await.unwrap().unwrap().unwrap_err();
        assert_eq!(incr(&mut later, "n").await.unwrap(), seen + 2, "it has lost nothing");
    }
}

#[tokio::test]
async fn new_connections_are_swallowed_too_when_told_so() {
    let (_server, proxy, _connection) = start().await;
    proxy.swallow(Ways::Both, Connections::All);
    assert!(timeout(WHILE, connect(&proxy.url())).await.is_err(), "it waits for ever");
    proxy.heal().await;
    assert_eq!(incr(&mut connect(&proxy.url()).await.unwrap(), "n").await.unwrap(), 2);
}

#[tokio::test]
async fn that_a_client_has_left_is_swallowed_as_well() {
    let (server, proxy, connection) = start().await;
    let clients = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.connection()).unwrap();
        list.lines().filter(|line| !line.contains("user=kit")).count()
    };
    assert_eq!(clients(), 1);
    proxy.swallow(Ways::ToServer, Connections::Present);
    drop(connection);
    tokio::time::sleep(WHILE).await;
    assert_eq!(clients(), 1, "the server does not know");
    proxy.heal().await;
    until("the server knows", || clients() == 0).await;
}

#[tokio::test]
async fn a_server_that_crashes_and_comes_back_is_reached_again() {
    let (server, proxy, mut connection) = start().await;
    server.kill();
    timeout(SOON, incr(&mut connection, "n")).await.unwrap().unwrap_err();
    assert!(connect(&proxy.url()).await.is_err());
    server.start_again();
    assert_eq!(incr(&mut connect(&proxy.url()).await.unwrap(), "n").await.unwrap(), 2);
}

#[tokio::test]
async fn a_proxy_that_is_dropped_is_gone() {
    let (_server, proxy, mut connection) = start().await;
    let address = proxy.address();
    drop(proxy);
    timeout(SOON, incr(&mut connection, "n")).await.unwrap().unwrap_err();
    until("the port is closed", || std::net::TcpStream::connect(address).is_err()).await;
}

#[tokio::test]
async fn bytes_that_are_not_redis_pass_unread() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let mut client = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let text: Vec<u8> = (0..100_000).map(|byte: u32| (byte * 7 + 22) as u8).collect();
    for _ in 0..2 {
        client.write_all(&text).await.unwrap();
        server.write_all(&text).await.unwrap();
        let (mut there, mut back) = (vec![0; text.len()], vec![0; text.len()]);
        server.read_exact(&mut there).await.unwrap();
        client.read_exact(&mut back).await.unwrap();
        assert!(there == text && back == text);
    }
    assert_eq!(proxy.counted(), 0);
}
