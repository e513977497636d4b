//! The Redis backend passes the suite, in real time, on one server and on a Cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::Backend;
use celeriac_conformance::Subject;
use celeriac_redis::RedisBackend;
use celeriac_testkit::{Cluster, Server};

use crate::backend::Backends;

struct InRedis(RedisBackend);

#[async_trait]
impl Subject for InRedis {
    fn backend(&self) -> &dyn Backend {
        &self.0
    }

    fn shared(&self) -> Arc<dyn Backend> {
        Arc::new(self.0.clone())
    }

    /// By the clock of Redis, which nobody can turn.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

mod one {
    use super::*;
    celeriac_conformance::suite!(flavor = "multi_thread"; InRedis(Server::shared().backend().await));

    mod threads {
        use super::*;
        celeriac_conformance::suite!(threads; InRedis(Server::shared().backend().await));
    }
}

/// Three masters: runs and queues are on different servers.
mod cluster {
    use super::*;
    celeriac_conformance::suite!(flavor = "multi_thread"; InRedis(Cluster::shared().backend().await));

    mod threads {
        use super::*;
        celeriac_conformance::suite!(threads; InRedis(Cluster::shared().backend().await));
    }
}
