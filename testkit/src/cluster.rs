//! A Redis Cluster.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::{Server, ServerBuilder};

/// The slots that the keys of a cluster are spread over.
const SLOTS: usize = 16_384;
const MASTERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Three masters without replicas. Each has a third of the slots.
///
/// When a node is down, the others go on with their slots (`cluster-require-full-coverage no`), as long as two of the
/// three run. A node is held for down after a second.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts a cluster and waits until all nodes say that it is complete.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server`, or when the nodes do not find each other.
    pub fn start() -> Self {
        Self::start_with(Server::builder())
    }

    /// Starts a cluster of nodes with these options.
    pub fn start_with(options: ServerBuilder) -> Self {
        let options = options
            .cluster()
            .option("cluster-require-full-coverage", "no")
            .option("cluster-node-timeout", 1000);
        let cluster = Self { nodes: (0..MASTERS).map(|_| options.clone().start()).collect() };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let (first, end) = (number * SLOTS / MASTERS, (number + 1) * SLOTS / MASTERS);
            let mut connection = node.connection();
            let mut tell = |command: &mut redis::Cmd| {
                command.exec(&mut connection).expect("a new node does what it is told");
            };
            tell(redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(end - 1));
            // Different from the start, so that nodes do not have to settle whose claims are newer.
            tell(redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(number + 1));
            for other in &cluster.nodes[..number] {
                let bus = other.bus_port().expect("a node of a cluster has a bus");
                tell(redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(other.port()).arg(bus));
            }
        }
        cluster.wait();
        cluster
    }

    /// The cluster that the tests of one binary share.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);
        &SHARED
    }

    /// `redis-cluster://127.0.0.1:port,127.0.0.1:port,127.0.0.1:port`
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// `redis://127.0.0.1:port` of each node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// The nodes: to kill one, start it again, pause it, look into it.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The node that has the slot of a key.
    pub fn node_of(&self, key: &str) -> &Server {
        let mut keyslot = redis::cmd("CLUSTER");
        let slot: usize = keyslot
            .arg("KEYSLOT")
            .arg(key)
            .query(&mut self.running().next().expect("a node runs").connection())
            .expect("a node knows the slot of a key");
        let number = (0..MASTERS).find(|number| slot < (number + 1) * SLOTS / MASTERS);
        &self.nodes[number.expect("all slots are given out")]
    }

    /// The keys of all running nodes that match a pattern, in order.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.running().flat_map(|node| node.keys(pattern)).collect();
        keys.sort();
        keys
    }

    /// Waits until all nodes know all nodes and call the cluster complete.
    ///
    /// # Panics
    ///
    /// When they do not after a minute.
    pub fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        for node in &self.nodes {
            let mut connection = node.connection();
            loop {
                let mut info = redis::cmd("CLUSTER");
                let info: String = info.arg("INFO").query(&mut connection).expect("the node answers");
                let complete = ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"];
                if complete.iter().all(|wanted| info.lines().any(|line| line == *wanted)) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "the nodes did not come together in {PATIENCE:?}:\n{info}"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.runs())
    }
}
