//! The way to Redis: one shared connection for commands, which comes back by itself, and one for hints.
//!
//! No command blocks: whoever waits does so with a hint and a poll ([`crate::hints`]). So no reply can get lost that
//! has taken something, however long a wait was to last.

use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, Script};

use crate::error::refused;
use crate::hints::Hints;
use crate::keys::{Keys, Line};

/// A reply that takes longer is given up; Redis may still do what it was asked to.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Commands wait for a lost connection this often, 0.1 s, 0.2 s, 0.4 s, …; then they fail, and the next one tries on.
const RECONNECTS: usize = 4;
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// The consumer group of every line.
pub(crate) const GROUP: &str = "celeriac";

/// A connection and the keys to use with it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    manager: ConnectionManager,
    pub(crate) hints: Hints,
    pub(crate) keys: Keys,
}

impl Link {
    pub(crate) async fn connect(url: &str, prefix: &str) -> Result<Self, BackendError> {
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            let context = format!("the prefix {prefix:?} is empty or has a brace: choose letters and digits");
            return Err(BackendError::new(ErrorKind::Denied, "connect").context(context));
        }
        let client = Client::open(url).map_err(refused("connect"))?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            .set_number_of_retries(RECONNECTS)
            .set_max_delay(RECONNECT_DELAY_MAX);
        let manager = ConnectionManager::new_with_config(client.clone(), config);
        let manager = manager.await.map_err(refused("connect"))?;
        let link = Self { manager, hints: Hints::start(client), keys: Keys::new(prefix) };
        link.look_at_settings().await?;
        Ok(link)
    }

    /// A connection for a command or a pipeline.
    pub(crate) fn connection(&self) -> ConnectionManager {
        self.manager.clone()
    }

    /// Runs a script.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &Script,
        prepare: impl FnOnce(&mut redis::ScriptInvocation<'_>),
    ) -> Result<T, BackendError> {
        let mut invocation = script.prepare_invoke();
        prepare(&mut invocation);
        invocation.invoke_async(&mut self.connection()).await.map_err(refused(operation))
    }

    /// Says how safe the data is, and warns when Redis may throw it away.
    async fn look_at_settings(&self) -> Result<(), BackendError> {
        let info: String =
            redis::cmd("INFO").query_async(&mut self.connection()).await.map_err(refused("connect"))?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or("unknown").trim().to_owned()
        };
        let policy = field("maxmemory_policy");
        if policy != "noeviction" {
            tracing::warn!(policy, "Redis may evict parts of runs: set its maxmemory-policy to noeviction");
        }
        // The user may lack the right to read the configuration.
        let fsync: Option<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(&mut self.connection()).await.ok();
        let fsync = fsync.and_then(|pair| pair.get(1).cloned()).unwrap_or_else(|| "unknown".to_owned());
        let appendonly = field("aof_enabled") == "1";
        tracing::info!(version = field("redis_version"), appendonly, fsync, "connected to Redis");
        if !appendonly {
            tracing::warn!(
                "Redis keeps no append-only file: what it acknowledges may be lost when it restarts"
            );
        }
        Ok(())
    }
}

/// Adds the keys of lines to a script's.
pub(crate) fn line_keys(invocation: &mut redis::ScriptInvocation<'_>, lines: &[Line]) {
    for key in lines.iter().flat_map(Line::keys) {
        invocation.key(key);
    }
}
