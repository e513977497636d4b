//! Redis servers, clusters and networks that tests start, break and mend.
//!
//! ```text
//! test ──► Proxy ──► Server                 a bad network in front of a server
//! test ─────────────► Server                kill, start again, pause, look into it
//! test ─────────────► Cluster ═ 3 Servers   three masters; a replica for each; slots that move
//! test ─────────────► Failover ═ 3 + 3      a primary, replicas, sentinels
//! ```
//!
//! Everything is on loopback, on ports and in directories of its own, and is gone when it is dropped or when the
//! process dies. A `redis-server` that is missing is a failure, never a reason to skip.
//!
//! ```
//! use celeriac_testkit::{Proxy, Server, Trap};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> redis::RedisResult<()> {
//! let server = Server::start();
//! let proxy = Proxy::start(server.address()).await;
//! let mut connection = redis::Client::open(proxy.url())?.get_multiplexed_async_connection().await?;
//!
//! // The second command is executed, and nobody hears of it.
//! proxy.trap(2, Trap::After);
//! redis::cmd("SET").arg("a").arg(1).exec_async(&mut connection).await?;
//! assert!(redis::cmd("INCR").arg("a").exec_async(&mut connection).await.is_err());
//! assert_eq!(proxy.until_tripped().await, "INCR");
//! let a: u32 = redis::cmd("GET").arg("a").query(&mut server.connection())?;
//! assert_eq!(a, 2);
//! # Ok(())
//! # }
//! ```

mod certificates;
mod cluster;
mod failover;
mod proxy;
mod server;

pub use self::certificates::Certificates;
pub use self::cluster::{Cluster, Moving};
pub use self::failover::Failover;
pub use self::proxy::{Connections, Proxy, Trap, Ways};
pub use self::server::{Backup, Fsync, Server, ServerBuilder};
