//! Nodes that find each other, and go on when one is gone, with or without replicas; slots that move;
//! proxies before them.

use std::time::{Duration, Instant};

use celeriac_testkit::{Cluster, Proxy, Server, Trap};
use redis::cluster::ClusterClient;

fn set(client: &ClusterClient, key: &str) -> redis::RedisResult<()> {
    redis::cmd("SET").arg(key).arg(1).exec(&mut client.get_connection()?)
}

fn client(cluster: &Cluster) -> ClusterClient {
    ClusterClient::builder(cluster.urls())
        .retries(0)
        .connection_timeout(Duration::from_secs(5))
        .response_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

#[test]
fn keys_are_spread_over_the_nodes_and_are_where_they_are_said_to_be() {
    let cluster = Cluster::shared();
    let client = client(cluster);
    let keys: Vec<String> = (0..30).map(|number| format!("k{number:02}")).collect();
    for key in &keys {
        set(&client, key).unwrap();
        assert!(cluster.node_of(key).keys("k*").contains(key));
    }
    assert!(cluster.nodes().iter().all(|node| !node.keys("k*").is_empty()));
    assert_eq!(cluster.keys("k*"), keys);
}

#[test]
fn the_url_names_all_nodes() {
    let cluster = Cluster::shared();
    let hosts = cluster.url().replace("redis-cluster://", "");
    assert_eq!(hosts.split(',').map(|host| format!("redis://{host}")).collect::<Vec<_>>(), cluster.urls());
    assert_eq!(cluster.nodes().len(), 3);
}

#[test]
fn the_others_go_on_when_a_node_is_gone_and_it_comes_back_with_its_keys() {
    let cluster = Cluster::start();
    let client = client(&cluster);
    let on = |wanted: usize| {
        let mut keys = (0..).map(|number: u32| format!("k{number}"));
        keys.find(|key| cluster.node_of(key).port() == cluster.nodes()[wanted].port()).unwrap()
    };
    let (lost, kept) = (on(0), on(2));
    set(&client, &lost).unwrap();
    let node = cluster.node_of(&lost);
    node.kill();
    set(&client, &lost).unwrap_err();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Until the others are sure that it is gone, and after that.
    for _ in 0..10 {
        set(&client, &kept).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(cluster.keys("*"), std::slice::from_ref(&kept));
    node.start_again();
    cluster.wait();
    assert!(Instant::now() < deadline);
    assert_eq!(node.keys("*"), std::slice::from_ref(&lost));
    set(&client, &lost).unwrap();
}

/// What the nodes themselves say, without a client that goes where they send it.
fn ask(node: &Server, words: &[&str]) -> redis::RedisResult<redis::Value> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query(&mut node.connection())
}

fn code(answer: redis::RedisResult<redis::Value>) -> String {
    answer.expect_err("it is no answer").code().expect("it is from Redis").to_owned()
}

#[test]
fn a_replica_takes_over_and_the_dead_comes_back_as_its_replica() {
    let cluster = Cluster::with_replicas();
    let client = client(&cluster);
    set(&client, "k").unwrap();
    cluster.wait();
    let dead = cluster.node_of("k");
    dead.kill();
    cluster.wait_for_successor(dead);
    let successor = cluster.node_of("k");
    assert_ne!(successor.port(), dead.port());
    assert!(successor.keys("*").contains(&"k".to_owned()));
    dead.start_again();
    cluster.wait();
    assert_eq!(code(ask(dead, &["SET", "k", "2"])), "MOVED");
    assert_eq!(cluster.masters().len(), 3);
    // And the other way round.
    successor.kill();
    cluster.wait_for_successor(successor);
    assert_eq!(cluster.node_of("k").port(), dead.port());
}

#[test]
fn a_slot_that_moves_sends_clients_on_and_has_them_wait_and_then_is_elsewhere() {
    let cluster = Cluster::start();
    let client = client(&cluster);
    for key in ["{s}a", "{s}b", "{s}c"] {
        set(&client, key).unwrap();
    }
    let (slot, from) = (cluster.slot_of("{s}a"), cluster.node_of("{s}a"));
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let moving = cluster.begin_to_move(slot, to).unwrap();
    assert_eq!(moving.keys().unwrap().len(), 3);
    moving.migrate(&["{s}a".to_owned()]).unwrap();
    assert_eq!(moving.keys().unwrap().len(), 2);
    assert_eq!(code(ask(from, &["GET", "{s}a"])), "ASK");
    assert_eq!(code(ask(from, &["MGET", "{s}a", "{s}b"])), "TRYAGAIN");
    assert_eq!(code(ask(to, &["GET", "{s}a"])), "MOVED");
    ask(from, &["GET", "{s}b"]).unwrap();
    moving.finish().unwrap();
    assert_eq!(code(ask(from, &["GET", "{s}b"])), "MOVED");
    assert_eq!(cluster.node_of("{s}a").port(), to.port());
    assert_eq!(cluster.keys("*"), ["{s}a", "{s}b", "{s}c"]);
    cluster.wait();
    cluster.move_slot(slot, from).unwrap();
    assert_eq!(cluster.node_of("{s}a").port(), from.port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_before_a_cluster_counts_what_goes_to_any_node_and_goes_dead_as_a_whole() {
    let cluster = Cluster::start_with(Server::builder().without_addresses());
    let proxy = Proxy::before_cluster(&cluster).await;
    let urls = proxy.cluster_url().replace("redis-cluster://", "redis://").replace(',', ",redis://");
    let client = ClusterClient::builder(urls.split(',')).retries(0).build().unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    proxy.count(|name| name == "SET");
    let before = proxy.counted();
    for number in 0..12 {
        redis::cmd("SET").arg(number).arg(1).exec_async(&mut connection).await.unwrap();
    }
    assert_eq!(proxy.counted() - before, 12);
    assert!(cluster.nodes().iter().all(|node| node.dbsize() > 0));
    proxy.trap(2, Trap::Before);
    redis::cmd("SET").arg("a").arg(1).exec_async(&mut connection).await.unwrap();
    redis::cmd("SET").arg("b").arg(1).exec_async(&mut connection).await.unwrap_err();
    assert_eq!(proxy.until_tripped().await, "SET");
    assert_eq!(proxy.connections(), 0);
    assert_eq!(cluster.keys("[ab]"), ["a"]);
    proxy.heal().await;
    let mut again = client.get_async_connection().await.unwrap();
    redis::cmd("SET").arg("b").arg(1).exec_async(&mut again).await.unwrap();
}
