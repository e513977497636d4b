//! The backend that keeps runs, queues and events in one Redis.
//!
//! ```no_run
//! # async fn example() -> Result<(), celeriac_backends::BackendError> {
//! use celeriac_redis::RedisBackend;
//!
//! let backend = RedisBackend::connect("redis://localhost:6379").await?;
//! let other_app = RedisBackend::builder("unix:///run/redis.sock").prefix("reports").connect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The atomic step is one Lua script per run and slice of completions (`scripts/settle.lua`): node states are packed
//! into a string of one byte each, and a script does work in proportion to what it settles, never to the run. Where
//! everything is kept stands at the top of `keys.rs`.
//!
//! What Redis acknowledges is as durable as it is configured to be: with `appendonly yes` and `appendfsync always`
//! all of it survives a crash of the server; with `everysec` the last second or two may be lost. A failover to a
//! replica may lose acknowledged writes. `maxmemory-policy` has to be `noeviction`.
//!
//! A Redis user needs the commands of the scripts, `EVALSHA`, `SCRIPT LOAD`, `INFO`, and the reading ones, for the keys
//! of the prefix; the channels (`&prefix:*`) and `CONFIG GET` make it quicker to react and to warn.
//!
//! Leases run by the clock of Redis, to the millisecond. No command blocks the connection: waiting is done with hints
//! over pub/sub and a poll behind them, so everything works, more slowly, when all hints are lost.

mod connection;
mod error;
mod events;
mod hints;
mod keys;
mod lines;
mod plans;
mod queue;
mod scripts;
mod store;
mod submit;

use std::fmt;
use std::sync::Arc;

use celeriac_backends::BackendError;

use connection::Link;
use plans::Plans;

/// Keeps runs, queues and events in Redis. Cheap to clone: clones share the connection.
#[derive(Clone)]
pub struct RedisBackend(Arc<Shared>);

struct Shared {
    link: Link,
    plans: Plans,
    prefix: String,
}

/// How to connect to Redis.
#[derive(Clone)]
#[must_use = "call connect()"]
pub struct RedisBuilder {
    url: String,
    prefix: String,
}

impl RedisBackend {
    /// Connects to `redis://[user:password@]host[:port][/database]` or `unix:///path/to/socket`, with the prefix
    /// `celeriac`.
    ///
    /// # Errors
    /// [`Unavailable`](celeriac_backends::ErrorKind::Unavailable) when nobody answers there,
    /// [`Denied`](celeriac_backends::ErrorKind::Denied) when the URL is wrong or Redis refuses the user.
    pub async fn connect(url: impl Into<String>) -> Result<Self, BackendError> {
        Self::builder(url).connect().await
    }

    /// A backend with settings of its own.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder { url: url.into(), prefix: "celeriac".to_owned() }
    }

    fn link(&self) -> &Link {
        &self.0.link
    }

    fn plans(&self) -> &Plans {
        &self.0.plans
    }
}

impl RedisBuilder {
    /// What all keys start with. Apps with different prefixes share a Redis without seeing each other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`RedisBackend::connect`]; `Denied` also when the prefix is empty or has a brace.
    pub async fn connect(self) -> Result<RedisBackend, BackendError> {
        let link = Link::connect(&self.url, &self.prefix).await?;
        Ok(RedisBackend(Arc::new(Shared { link, plans: Plans::default(), prefix: self.prefix })))
    }
}

// Neither shows the URL: it may hold a password.
impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
