//! Backends on a server of the tests' own.

use std::sync::atomic::{AtomicU32, Ordering};

use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_primitives::{NodeNo, Outcome};
use celeriac_redis::RedisBackend;
use celeriac_testkit::{Cluster, Server};

/// What servers have for the tests of this crate.
pub(crate) trait Backends {
    /// A backend that sees nothing of the others.
    async fn backend(&self) -> RedisBackend;
}

impl Backends for Server {
    async fn backend(&self) -> RedisBackend {
        backend_at(self.url()).await
    }
}

impl Backends for Cluster {
    async fn backend(&self) -> RedisBackend {
        backend_at(self.url()).await
    }
}

async fn backend_at(url: String) -> RedisBackend {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    RedisBackend::builder(url).prefix(prefix).connect().await.expect("the server answers")
}

/// Leaves that need no results.
pub(crate) struct NoResults;

impl Results for NoResults {
    fn outcome(&self, _: NodeNo) -> Option<&Outcome> {
        None
    }

    fn closed_by(&self, _: ScopeNo) -> Option<NodeNo> {
        None
    }
}
