//! Three nodes that find each other, and go on when one is gone.

use std::time::{Duration, Instant};

use celeriac_testkit::Cluster;
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
