//! A Redis Cluster. Who has which slot is in `slots`, how one moves in `moving`.

mod moving;
mod slots;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use redis::RedisResult;

pub use self::moving::Moving;
use self::slots::{SLOTS, Shards};
use crate::{Server, ServerBuilder};

const MASTERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Three masters, each with a third of the slots, and on demand a replica for each.
///
/// When a node is down, the others go on with their slots (`cluster-require-full-coverage no`), as long as
/// two of the three masters run. A node is held for down after a second; its replica, if there is one, then
/// takes over, and the node is a replica when it is back.
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
        Self::of(MASTERS, options)
    }

    /// Starts a cluster in which each master has a replica.
    pub fn with_replicas() -> Self {
        Self::with_replicas_of(Server::builder())
    }

    /// Starts a cluster of nodes with these options in which each master has a replica.
    pub fn with_replicas_of(options: ServerBuilder) -> Self {
        Self::of(2 * MASTERS, options)
    }

    fn of(nodes: usize, options: ServerBuilder) -> Self {
        let options = options
            .cluster()
            .option("cluster-require-full-coverage", "no")
            .option("cluster-node-timeout", 1000)
            // However long it was without its master; and it stays with that one.
            .option("cluster-replica-validity-factor", 0)
            .option("cluster-allow-replica-migration", "no")
            // Otherwise it would be sent nothing for a second after it is said to be in step.
            .option("repl-diskless-sync", "no");
        let cluster = Self { nodes: (0..nodes).map(|_| options.clone().start()).collect() };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let mut connection = node.connection();
            let mut tell = |command: &mut redis::Cmd| {
                command.exec(&mut connection).expect("a new node does what it is told");
            };
            if number < MASTERS {
                let (first, end) = (number * SLOTS / MASTERS, (number + 1) * SLOTS / MASTERS);
                tell(redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(end - 1));
            }
            // Different from the start, so that nodes do not have to settle whose claims are newer.
            tell(redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(number + 1));
            for other in &cluster.nodes[..number] {
                let bus = other.bus_port().expect("a node of a cluster has a bus");
                tell(redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(other.port()).arg(bus));
            }
        }
        cluster.until("the nodes come together", || {
            cluster.running().try_for_each(|node| cluster.is_whole(node))
        });
        let (masters, replicas) = cluster.nodes.split_at(MASTERS);
        for (master, replica) in masters.iter().zip(replicas) {
            let replicate = redis::cmd("CLUSTER").arg("REPLICATE").arg(slots::id_of(master)).clone();
            replicate.exec(&mut replica.connection()).expect("a new node does what it is told");
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

    /// The nodes: to kill one, start it again, pause it, look into it. The first three were masters at
    /// first.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The nodes that run and have slots.
    pub fn masters(&self) -> Vec<&Server> {
        let shards = self.shards();
        self.running().filter(|node| shards.has_slots(node)).collect()
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let mut keyslot = redis::cmd("CLUSTER");
        keyslot.arg("KEYSLOT").arg(key);
        let node = self.running().next().expect("a node runs");
        keyslot.query(&mut node.connection()).expect("a node knows the slot of a key")
    }

    /// The node that has the slot of a key: if it is down and nobody has taken over, it as well.
    pub fn node_of(&self, key: &str) -> &Server {
        self.node_of_slot(self.slot_of(key))
    }

    /// The node that has a slot.
    pub fn node_of_slot(&self, slot: u16) -> &Server {
        let port = self.shards().owner(slot).expect("all slots are given out");
        self.nodes.iter().find(|node| node.port() == port).expect("the owner is one of the nodes")
    }

    /// The keys of all masters that run and match a pattern, in order.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.masters().into_iter().flat_map(|node| node.keys(pattern)).collect();
        keys.sort();
        keys
    }

    /// Waits until all nodes know all nodes and call the cluster complete, and each replica has what its
    /// master has.
    ///
    /// # Panics
    ///
    /// When they do not after a minute.
    pub fn wait(&self) {
        self.until("the cluster is complete", || self.check_all());
    }

    /// Waits until a replica has taken over from a node that was killed, and all others know.
    ///
    /// # Panics
    ///
    /// When none has after a minute.
    pub fn wait_for_successor(&self, dead: &Server) {
        self.until("a replica takes over", || {
            self.running().try_for_each(|node| {
                let shards = Shards::known_to(node).map_err(|error| error.to_string())?;
                if shards.has_slots(dead) { Err(format!("{shards:?}")) } else { self.is_whole(node) }
            })
        });
    }

    /// Begins to move a slot: from now on new keys of it come about at the other node, and clients are sent
    /// there.
    ///
    /// The same again goes on with a move that was left between the two nodes.
    ///
    /// # Errors
    ///
    /// When one of the two refuses, as while it does not know yet who is in charge.
    pub fn begin_to_move(&self, slot: u16, to: &Server) -> RedisResult<Moving<'_>> {
        Moving::begin(self, slot, to)
    }

    /// Moves a slot with all its keys.
    ///
    /// # Errors
    ///
    /// As [`begin_to_move`](Self::begin_to_move) and [`Moving::finish`].
    pub fn move_slot(&self, slot: u16, to: &Server) -> RedisResult<()> {
        self.begin_to_move(slot, to)?.finish()
    }

    /// Whether it is so now that one waits for in [`wait`](Self::wait).
    pub fn is_complete(&self) -> bool {
        let all = self.nodes.iter().all(|node| node.runs() && !node.is_paused());
        all && self.check_all().is_ok()
    }

    fn check_all(&self) -> Result<(), String> {
        let all = self.nodes.len() > MASTERS && self.running().count() == self.nodes.len();
        self.running().try_for_each(|node| {
            self.is_whole(node)?;
            slots::is_in_step(node, usize::from(all))
        })
    }

    fn is_whole(&self, node: &Server) -> Result<(), String> {
        let mut info = redis::cmd("CLUSTER");
        let info: String =
            info.arg("INFO").query(&mut node.connection()).map_err(|error| error.to_string())?;
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        let complete = ["cluster_state:ok", "cluster_slots_ok:16384", &known];
        match complete.iter().all(|wanted| info.lines().any(|line| line == *wanted)) {
            true => Ok(()),
            false => Err(info),
        }
    }

    fn until(&self, what: &str, mut check: impl FnMut() -> Result<(), String>) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(not_yet) = check() {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}:\n{not_yet}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Who has which slot, as all know it who can be asked.
    fn shards(&self) -> Shards {
        let known = self.running().filter(|node| !node.is_paused()).map(Shards::known_to);
        known.fold(Shards::default(), |all, known| all.and(known.unwrap_or_default()))
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.runs())
    }
}
