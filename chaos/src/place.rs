//! Where runs are stored: one Redis, or a Cluster.

use celeriac_testkit::{Cluster, Fsync, Server};

use crate::options::Options;

/// What is killed besides the processes.
#[derive(Debug)]
pub(crate) enum Place {
    Server(Server),
    Cluster(Cluster),
}

impl Place {
    pub(crate) fn start(options: &Options, fsync: Fsync) -> Self {
        let server = Server::builder().appendfsync(fsync);
        match (options.cluster, options.replicas) {
            (false, _) => Self::Server(server.start()),
            (true, false) => Self::Cluster(Cluster::start_with(server)),
            (true, true) => Self::Cluster(Cluster::with_replicas_of(server)),
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Server(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// All of it, replicas as well.
    pub(crate) fn nodes(&self) -> &[Server] {
        match self {
            Self::Server(server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// Those where keys are.
    pub(crate) fn masters(&self) -> Vec<&Server> {
        match self {
            Self::Server(server) => vec![server],
            Self::Cluster(cluster) => cluster.masters(),
        }
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Server(_) => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// Whether nodes have replicas, which take over without the last writes.
    pub(crate) fn has_replicas(&self) -> bool {
        self.nodes().len() > 3
    }

    /// As the log of faults calls a node.
    pub(crate) fn name(&self, node: usize) -> String {
        match self {
            Self::Server(_) => "redis".to_owned(),
            Self::Cluster(_) => format!("redis-{}", node + 1),
        }
    }
}
