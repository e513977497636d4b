//! One shared connection that is replaced when it falls silent.
//!
//! A connection may be dead without anybody being told: the other side is gone, a router in between has
//! forgotten it. No command blocks, so a connection on which something waits for a reply and nothing comes
//! is dead, or as good as dead. What waits then fails, and whoever asked does the same again on a new
//! connection.
//!
//! What counts is that *some* reply comes: a command may wait long behind others. Large commands have the
//! time it takes to send them. How large a reply will be nobody knows, but no command asks for one that is
//! large: large values come in pieces ([`crate::texts`]). All the same a command that got no reply in time
//! gets twice the time when it comes again, and so on; and where a reply was long in coming, and came, all
//! that follow have more time, which they lose slowly.
//!
//! A server that refuses all that comes on a connection, since the password is another one now or since it
//! is a replica now, may refuse nothing on the next: the password may be back, and behind the name may be
//! another server. So that connection is replaced as well; and one that is refused for a certificate, with
//! what stands in the files by then. Each new one goes to whom the name means then, or to whom the
//! sentinels name ([`crate::source`]); whoever listens to hints follows ([`Wire::connected`]).
//!
//! A command that is larger than what Redis takes is not sent.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, Value};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::connection::CONNECTION_TIMEOUT;
use crate::error::{is_of_tls, refused};
use crate::source::Source;
use crate::watch::{LATE, Watch, key_of};

/// A connection may be silent for so long while commands wait.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);

/// A command that comes again and again is waited for no longer than this.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The slowest link on which large commands are not given up.
const BYTES_PER_SECOND: usize = 1_000_000;

/// Half of the time that a slow reply has earned is lost after so long without another.
const FORGET_HALF: Duration = Duration::from_secs(60);

/// Larger commands are refused here: Redis closes the connection at half a gigabyte, and with it the way of
/// all others.
pub(crate) const COMMAND_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A connection on which all is refused is replaced no more often than this.
const REPLACED_EVERY: Duration = Duration::from_millis(500);

/// Commands wait for a connection this often, 0.1 s, 0.2 s, 0.4 s, …; then they fail, and the next one
/// tries on.
const RECONNECTS: u32 = 4;
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// So many commands that got no reply are remembered.
const SLOW_MAX: usize = 1000;

/// The connection. Cheap to clone: clones share it.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Shared>);

struct Shared {
    source: Source,
    connected: Arc<watch::Sender<Instant>>,
    line: Mutex<Arc<Line>>,
    /// Commands that got no reply, by their digest, and how long they are waited for when they come again.
    slow: Mutex<HashMap<u64, Duration>>,
    patience: Mutex<Patience>,
    watch: Watch,
}

/// What slow replies have earned for those that follow, whichever connection they come on.
#[derive(Debug, Default)]
struct Patience {
    earned: Option<(Duration, Instant)>,
}

impl Patience {
    /// Notes for how long nothing had come when a reply came.
    fn note(&mut self, gap: Duration, now: Instant) {
        // Most replies come at once.
        if gap > SILENCE / 2 && gap * 2 > self.silence(now) {
            self.earned = Some(((gap * 2).min(SILENCE_MAX), now));
        }
    }

    /// How long the connection may be silent.
    fn silence(&self, now: Instant) -> Duration {
        let Some((earned, at)) = self.earned else { return SILENCE };
        let halves = now.saturating_duration_since(at).as_secs_f64() / FORGET_HALF.as_secs_f64();
        earned.mul_f64(0.5_f64.powf(halves)).max(SILENCE)
    }
}

/// Whether a reply came from Redis, if only an error. That a connection broke says nothing of how long
/// replies take.
fn is_from_redis<T>(reply: &RedisResult<T>) -> bool {
    reply.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::Io && !error.is_connection_dropped())
}

/// Whether the server refuses whatever comes on this connection.
fn refuses_all(reply: &RedisResult<Value>) -> bool {
    match reply {
        Ok(value) => is_refusal(value),
        Err(error) => {
            error.kind() == ErrorKind::AuthenticationFailed
                || is_refusal_code(error.code())
                || is_of_tls(error)
        }
    }
}

fn is_refusal(reply: &Value) -> bool {
    match reply {
        // A reply that is an error is no error yet.
        Value::ServerError(error) => is_refusal_code(Some(error.code())),
        _ => false,
    }
}

/// A primary that too few replicas follow may be one that was cut off, and has been replaced.
fn is_refusal_code(code: Option<&str>) -> bool {
    matches!(code, Some("NOAUTH" | "WRONGPASS" | "READONLY" | "MASTERDOWN" | "NOREPLICAS"))
}

/// A command that is not sent.
#[derive(Debug, thiserror::Error)]
#[error("the command has {0} bytes, and {COMMAND_BYTES_MAX} at most are sent")]
pub(crate) struct TooLarge(usize);

impl TooLarge {
    /// Refuses commands that have more bytes than Redis takes.
    pub(crate) fn check(bytes: usize) -> RedisResult<()> {
        if bytes <= COMMAND_BYTES_MAX {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, Self(bytes)).into())
    }
}

/// What is replaced as a whole.
struct Line {
    connection: Connecting,
    since: Instant,
    heard: Mutex<Instant>,
    /// Bytes of commands that wait for their replies.
    waiting: AtomicUsize,
    /// Makes the connection, whoever waits for it.
    _making: AbortOnDropHandle<()>,
}

/// A connection that is made, or is being made.
type Connecting = futures::future::Shared<BoxFuture<'static, RedisResult<Made>>>;

#[derive(Clone)]
struct Made {
    connection: MultiplexedConnection,
    /// The server that it goes to.
    place: Arc<str>,
}

/// Commands that wait for their replies, counted as long as this lives.
struct Waiting<'l>(&'l Line, usize);

/// A command that is under way. When it was so for too long without a sign of life, the store was away,
/// whatever became of the command: who gives it up, and who has more patience than others, is not told so
/// by an error.
struct UnderWay<'l> {
    watch: &'l Watch,
    cmd: Option<&'l Cmd>,
    line: &'l Line,
    since: Instant,
    sending: Duration,
}

impl UnderWay<'_> {
    fn note(&self) {
        let silent = self.since.max(*self.line.heard()).elapsed();
        if silent.saturating_sub(self.sending) > LATE {
            self.watch.interrupt(self.cmd.map(key_of).unwrap_or_default());
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.note();
    }
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(source: Source, watch: Watch) -> RedisResult<Self> {
        let connected = Arc::new(watch::channel(Instant::now()).0);
        let line = Arc::new(Line::new(source.clone(), connected.clone(), true));
        line.connection.clone().await?;
        let (slow, patience) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Shared { source, connected, line: Mutex::new(line), slow, patience, watch })))
    }

    /// When the connection that is used began to be made.
    pub(crate) fn connected(&self) -> watch::Receiver<Instant> {
        self.0.connected.subscribe()
    }

    /// Leaves a server that is not the primary by what the sentinels say: one that was cut off does not
    /// know it.
    pub(crate) async fn ask_sentinels(&self) {
        let line = self.line();
        let Some(Ok(made)) = line.connection.peek() else { return };
        if self.0.source.has_sentinels()
            && let Ok(client) = self.0.source.client().await
            && *client.get_connection_info().addr().to_string() != *made.place
        {
            self.0.replace(&line, Some("another Redis is the primary"));
        }
    }

    /// Waits for a reply as long as the connection is not silent.
    async fn ask<T>(
        &self,
        line: Arc<Line>,
        (cmd, bytes): (Option<&Cmd>, usize),
        packed: impl Fn() -> Vec<u8>,
        reply: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        TooLarge::check(bytes)?;
        let waiting = Waiting::new(&line, bytes);
        let asked = Instant::now();
        let silence = self.0.silence_of(&packed).max(self.0.patience().silence(asked));
        let mut reply = std::pin::pin!(reply);
        let (watch, since) = (&self.0.watch, asked);
        let mut under_way = UnderWay { watch, cmd, line: &line, since, sending: Duration::ZERO };
        loop {
            let sending = Duration::from_millis((waiting.all() / (BYTES_PER_SECOND / 1000)) as u64);
            under_way.sending = sending;
            let due = asked.max(*line.heard()) + silence + sending;
            if let Ok(reply) = timeout_at(due, &mut reply).await {
                let now = Instant::now();
                under_way.note();
                if is_from_redis(&reply) {
                    let before = std::mem::replace(&mut *line.heard(), now).max(asked);
                    self.0.note_reply(&packed, now.saturating_duration_since(before), sending);
                }
                return reply;
            }
            if asked.max(*line.heard()) + silence + sending <= Instant::now() {
                break;
            }
        }
        self.0.note_silence(&packed, silence);
        self.0.replace(&line, Some("Redis does not answer"));
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no reply within {silence:?}")).into())
    }

    fn line(&self) -> Arc<Line> {
        self.0.line().clone()
    }

    /// Replaces the connection when what came shows that it is of no use.
    fn look_at<T>(&self, line: &Arc<Line>, reply: &RedisResult<T>, refuses: bool) {
        if refuses && line.since.elapsed() >= REPLACED_EVERY {
            self.0.replace(line, Some("Redis refuses all that comes on this connection"));
        } else if !refuses && line.is_lost(reply) {
            self.0.replace(line, None);
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let line = self.line();
            let connection = line.connection.clone();
            let reply = async { connection.await?.connection.req_packed_command(cmd).await };
            let about = (Some(cmd), bytes_of(cmd));
            let reply = self.ask(line.clone(), about, || cmd.get_packed_command(), reply).await;
            self.look_at(&line, &reply, refuses_all(&reply));
            reply.inspect_err(|error| self.0.watch.note(Some(cmd), error))
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
            let connection = line.connection.clone();
            let reply =
                async { connection.await?.connection.req_packed_commands(pipeline, offset, count).await };
            let about = (pipeline.cmd_iter().next(), pipeline.cmd_iter().map(bytes_of).sum());
            let reply = self.ask(line.clone(), about, || pipeline.get_packed_pipeline(), reply).await;
            let refuses = match &reply {
                Ok(values) => values.iter().any(is_refusal),
                Err(error) => {
                    error.kind() == ErrorKind::AuthenticationFailed || is_refusal_code(error.code())
                }
            };
            self.look_at(&line, &reply, refuses);
            reply.inspect_err(|error| self.0.watch.note(pipeline.cmd_iter().next(), error))
        })
    }

    fn get_db(&self) -> i64 {
        self.0.source.database()
    }
}

impl Shared {
    /// How long the connection may be silent while this command waits.
    fn silence_of(&self, packed: impl Fn() -> Vec<u8>) -> Duration {
        let slow = self.slow();
        if slow.is_empty() { SILENCE } else { slow.get(&digest(&packed())).copied().unwrap_or(SILENCE) }
    }

    fn note_reply(&self, packed: impl Fn() -> Vec<u8>, gap: Duration, sending: Duration) {
        if gap > SILENCE / 2 {
            self.patience().note(gap.saturating_sub(sending), Instant::now());
        }
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

    /// Puts a new connection in the place of one that is of no use, unless another command has done so.
    fn replace(&self, before: &Arc<Line>, why: Option<&str>) {
        let mut line = self.line();
        if !Arc::ptr_eq(&line, before) {
            return;
        }
        match why {
            Some(why) => tracing::warn!("{why}; connecting anew"),
            None => tracing::debug!("the connection to Redis is lost; connecting anew"),
        }
        *line = Arc::new(Line::new(self.source.clone(), self.connected.clone(), false));
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Arc<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow(&self) -> MutexGuard<'_, HashMap<u64, Duration>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// One that begins to connect; whoever connects for the first time is told at once what is wrong with
    /// it.
    fn new(source: Source, connected: Arc<watch::Sender<Instant>>, is_first: bool) -> Self {
        let now = Instant::now();
        let connection = connect(source, connected, is_first).boxed().shared();
        let making = connection.clone();
        let making = AbortOnDropHandle::new(tokio::spawn(async move { drop(making.await) }));
        let (heard, waiting) = (Mutex::new(now), AtomicUsize::new(0));
        Self { connection, since: now, heard, waiting, _making: making }
    }

    /// Whether the connection has come to its end, or was never made.
    fn is_lost<T>(&self, reply: &RedisResult<T>) -> bool {
        let is_end = reply.as_ref().err().is_some_and(redis::RedisError::is_unrecoverable_error);
        is_end || matches!(self.connection.peek(), Some(Err(_)))
    }

    /// When the last reply came.
    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(
    source: Source,
    connected: Arc<watch::Sender<Instant>>,
    is_first: bool,
) -> RedisResult<Made> {
    let mut tries = 0;
    loop {
        let begun = Instant::now();
        let error = match try_to_connect(&source).await {
            Ok(made) => {
                connected.send_replace(begun);
                return Ok(made);
            }
            Err(error) => error,
        };
        let is_denied = |error| refused("connect")(error).kind == celeriac_backends::ErrorKind::Denied;
        if tries == RECONNECTS || is_first && is_denied(error.clone()) {
            return Err(error);
        }
        // Not all at the same moment.
        let part = 0.5 + (RandomState::new().build_hasher().finish() % 1000) as f64 / 2000.0;
        sleep((RECONNECT_DELAY * 2_u32.pow(tries)).mul_f64(part)).await;
        tries += 1;
    }
}

async fn try_to_connect(source: &Source) -> RedisResult<Made> {
    let client = source.client().await?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTION_TIMEOUT))
        // The time for a reply is kept here.
        .set_response_timeout(None)
        // In a short row one would wait for a place that somebody has whom nobody polls.
        .set_pipeline_buffer_size(Semaphore::MAX_PERMITS);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(Made { connection, place: client.get_connection_info().addr().to_string().into() })
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

pub(crate) fn bytes_of(cmd: &Cmd) -> usize {
    let bytes = |arg: Arg<&[u8]>| if let Arg::Simple(bytes) = arg { bytes.len() } else { 0 };
    cmd.args_iter().map(bytes).sum()
}

fn digest(packed: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patience_that_a_slow_reply_has_earned_outlives_quick_ones_and_goes_slowly() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let mut patience = Patience::default();
        assert_eq!(patience.silence(start), SILENCE);
        patience.note(seconds(4), start);
        for _ in 0..100 {
            patience.note(Duration::from_millis(1), start);
        }
        assert_eq!(patience.silence(start), seconds(8));
        assert_eq!(patience.silence(start + FORGET_HALF), seconds(4));
        patience.note(seconds(1), start + FORGET_HALF);
        assert_eq!(patience.silence(start + FORGET_HALF), seconds(4), "less than what was earned");
        assert_eq!(patience.silence(start + 10 * FORGET_HALF), SILENCE);
        patience.note(seconds(1000), start);
        assert_eq!(patience.silence(start), SILENCE_MAX);
    }

    #[test]
    fn a_command_larger_than_what_redis_takes_is_not_sent() {
        assert!(TooLarge::check(COMMAND_BYTES_MAX).is_ok());
        let error = crate::error::refused("finish")(TooLarge::check(COMMAND_BYTES_MAX + 1).unwrap_err());
        assert_eq!(error.kind, celeriac_backends::ErrorKind::TooLarge);
        assert!(!error.may_retry() && error.to_string().contains("268435457 bytes"), "{error}");
    }
}
