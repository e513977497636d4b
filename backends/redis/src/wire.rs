//! One shared connection that is replaced when it falls silent.
//!
//! A connection may be dead without anybody being told: the other side is gone, a router in between has forgotten it.
//! No command blocks, so a connection on which something waits for a reply and nothing comes is dead, or as good as
//! dead. What waits then fails, and whoever asked does the same again on a new connection.
//!
//! What counts is that *some* reply comes: a command may wait long behind others. Large commands have the time it takes
//! to send them. How large a reply will be nobody knows; so a command that got no reply in time gets twice the time when
//! it comes again, and so on.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Arg, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use tokio::time::{Instant, timeout_at};

/// A connection may be silent for so long while commands wait.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);

/// A command that comes again and again is waited for no longer than this.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The slowest link on which large commands are not given up.
const BYTES_PER_SECOND: usize = 1_000_000;

/// So many commands that got no reply are remembered.
const SLOW_MAX: usize = 1000;

/// The connection. Cheap to clone: clones share it.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Shared>);

struct Shared {
    client: Client,
    config: ConnectionManagerConfig,
    line: Mutex<Arc<Line>>,
    /// Commands that got no reply, by their digest, and how long they are waited for when they come again.
    slow: Mutex<HashMap<u64, Duration>>,
}

/// What is replaced as a whole.
struct Line {
    connection: ConnectionManager,
    heard: Mutex<Instant>,
    /// Bytes of commands that wait for their replies.
    waiting: AtomicUsize,
}

/// Commands that wait for their replies, counted as long as this lives.
struct Waiting<'l>(&'l Line, usize);

impl Wire {
    /// Connects.
    pub(crate) async fn connect(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        // The time for a reply is kept here.
        let config = config.set_response_timeout(None);
        let connection = ConnectionManager::new_with_config(client.clone(), config.clone()).await?;
        let line = Mutex::new(Arc::new(Line::new(connection)));
        Ok(Self(Arc::new(Shared { client, config, line, slow: Mutex::default() })))
    }

    /// Waits for a reply as long as the connection is not silent.
    async fn ask<T>(
        &self,
        line: Arc<Line>,
        bytes: usize,
        packed: impl Fn() -> Vec<u8>,
        reply: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let waiting = Waiting::new(&line, bytes);
        let (asked, silence) = (Instant::now(), self.0.silence_of(&packed));
        let mut reply = std::pin::pin!(reply);
        loop {
            let sending = Duration::from_millis((waiting.all() / (BYTES_PER_SECOND / 1000)) as u64);
            let due = asked.max(*line.heard()) + silence + sending;
            if let Ok(reply) = timeout_at(due, &mut reply).await {
                *line.heard() = Instant::now();
                self.0.note_reply(&packed);
                return reply;
            }
            if asked.max(*line.heard()) + silence + sending <= Instant::now() {
                break;
            }
        }
        self.0.note_silence(&packed, silence);
        self.0.replace(&line);
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no reply within {silence:?}")).into())
    }

    fn line(&self) -> Arc<Line> {
        self.0.line().clone()
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let line = self.line();
            let mut connection = line.connection.clone();
            let reply = connection.req_packed_command(cmd);
            self.ask(line.clone(), bytes_of(cmd), || cmd.get_packed_command(), reply).await
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let line = self.line();
            let mut connection = line.connection.clone();
            let reply = connection.req_packed_commands(pipeline, offset, count);
            let bytes = pipeline.cmd_iter().map(bytes_of).sum();
            self.ask(line.clone(), bytes, || pipeline.get_packed_pipeline(), reply).await
        })
    }

    fn get_db(&self) -> i64 {
        self.line().connection.get_db()
    }
}

impl Shared {
    /// How long the connection may be silent while this command waits.
    fn silence_of(&self, packed: impl Fn() -> Vec<u8>) -> Duration {
        let slow = self.slow();
        if slow.is_empty() { SILENCE } else { slow.get(&digest(&packed())).copied().unwrap_or(SILENCE) }
    }

    fn note_reply(&self, packed: impl Fn() -> Vec<u8>) {
        let mut slow = self.slow();
        if !slow.is_empty() {
            slow.remove(&digest(&packed()));
        }
    }

    fn note_silence(&self, packed: impl Fn() -> Vec<u8>, silence: Duration) {
        let mut slow = self.slow();
        if slow.len() >= SLOW_MAX {
            slow.clear();
        }
        slow.insert(digest(&packed()), (silence * 2).min(SILENCE_MAX));
    }

    /// Puts a new connection in the place of a silent one, unless another command has done so.
    fn replace(&self, silent: &Arc<Line>) {
        let mut line = self.line();
        if !Arc::ptr_eq(&line, silent) {
            return;
        }
        // It connects when it is used.
        match ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone()) {
            Ok(connection) => {
                tracing::warn!("Redis does not answer; connecting anew");
                *line = Arc::new(Line::new(connection));
            }
            Err(error) => tracing::error!(%error, "Redis does not answer, and there is no new connection"),
        }
    }

    fn line(&self) -> MutexGuard<'_, Arc<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow(&self) -> MutexGuard<'_, HashMap<u64, Duration>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(connection: ConnectionManager) -> Self {
        Self { connection, heard: Mutex::new(Instant::now()), waiting: AtomicUsize::new(0) }
    }

    /// When the last reply came.
    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'l> Waiting<'l> {
    fn new(line: &'l Line, bytes: usize) -> Self {
        line.waiting.fetch_add(bytes, Ordering::Relaxed);
        Self(line, bytes)
    }

    /// How many bytes wait on the connection.
    fn all(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(self.1, Ordering::Relaxed);
    }
}

fn bytes_of(cmd: &Cmd) -> usize {
    let bytes = |arg: Arg<&[u8]>| if let Arg::Simple(bytes) = arg { bytes.len() } else { 0 };
    cmd.args_iter().map(bytes).sum()
}

fn digest(packed: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(packed)
}
