//! On a Cluster: the connection to its nodes, and which shards are away.
//!
//! What is asked of a shard that is away takes long to fail, and whoever asks in turns asks nobody else
//! meanwhile. So a shard that does not answer is taken to be away: what is asked of it fails at once, until
//! it has answered a question that is asked beside. What is only slow is asked again with more patience.
//!
//! The connection of the client library comes back by itself, as a rule. Now and then one in which a node
//! has died answers nothing any more, for no shard and for ever. It is made anew then.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::Slot;
use redis::{RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::RESPONSE_TIMEOUT;

/// So long a shard is waited for at first; each time that it was only slow, twice as long.
const PATIENCE: Duration = Duration::from_secs(3);

/// One that is away is asked this often, and answers within this time when it is back.
const ASKED_EVERY: Duration = Duration::from_millis(250);
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// So long one that was slow is waited for longer.
const SLOW_FOR: Duration = Duration::from_secs(60);

/// After so many questions it is tried again as if it were there.
const QUESTIONS_MAX: usize = 240;

/// When any node might answer and so many questions in a row have no answer, the connection is made anew.
const SILENT_MAX: u32 = 3;

/// One that takes longer to be made is tried again.
const ANEW_WITHIN: Duration = Duration::from_secs(15);

/// The connection, and which shards are away. Cheap to clone: clones share it.
#[derive(Clone)]
pub(crate) struct Shards(Arc<Shared>);

struct Shared {
    client: ClusterClient,
    /// With how often it was made anew.
    connection: Mutex<(ClusterConnection, u64)>,
    /// How many are away or slow: as a rule none, and nothing has to be looked up.
    unusual: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The address of each slot's primary.
    of_slot: HashMap<Slot, Arc<str>>,
    away: HashSet<Arc<str>>,
    /// How long those that were slow are waited for, and since when.
    slow: HashMap<Arc<str>, (Duration, Instant)>,
}

impl State {
    /// The shard of a key; while it is unknown where its slot is, that is one by itself.
    fn shard_of(&self, key: &[u8]) -> Arc<str> {
        let slot = Slot::for_key(key);
        self.of_slot.get(&slot).cloned().unwrap_or_else(|| format!("{slot:?}").into())
    }
}

impl Shards {
    pub(crate) async fn connect(client: ClusterClient) -> RedisResult<Self> {
        let connection = client.get_async_connection().await?;
        let (unusual, state) = (AtomicUsize::new(0), Mutex::default());
        let shared = Shared { client, connection: Mutex::new((connection, 0)), unusual, state };
        let shards = Self(Arc::new(shared));
        shards.learn().await;
        Ok(shards)
    }

    pub(crate) fn connection(&self) -> ClusterConnection {
        self.current().0.clone()
    }

    /// How long to wait for what is asked of a key's shard; an error when it is away.
    pub(crate) fn patience(&self, key: &[u8]) -> RedisResult<Duration> {
        if self.0.unusual.load(Ordering::Relaxed) == 0 {
            return Ok(PATIENCE);
        }
        let mut state = self.state();
        let shard = state.shard_of(key);
        if state.away.contains(&shard) {
            return Err(is_away(&shard));
        }
        state.slow.retain(|_, (_, since)| since.elapsed() < SLOW_FOR);
        self.count(&state);
        Ok(state.slow.get(&shard).map_or(PATIENCE, |(patience, _)| *patience))
    }

    /// That a key's shard does not answer, or (`was_silent`) has not within its time. Until it answers again,
    /// nothing is asked of it.
    pub(crate) fn note_away(&self, key: &[u8], was_silent: bool) {
        let shard = {
            let mut state = self.state();
            let shard = state.shard_of(key);
            if !state.away.insert(shard.clone()) {
                return;
            }
            self.count(&state);
            shard
        };
        tracing::warn!(shard = &*shard, "a shard does not answer; what is there waits, and the rest goes on");
        let (shards, key) = (self.clone(), key.to_vec());
        tokio::spawn(async move { shards.ask(shard, &key, was_silent).await });
    }

    /// Asks until it answers.
    async fn ask(&self, shard: Arc<str>, key: &[u8], was_silent: bool) {
        let (mut silent, mut number) = (0, self.current().1);
        let mut is_back = false;
        for _ in 0..QUESTIONS_MAX {
            if self.learn().await {
                is_back = self.has_answer(key).await;
                if is_back {
                    break;
                }
                silent = 0;
            } else {
                silent += 1;
            }
            let now = self.current().1;
            if now != number {
                (silent, number) = (0, now);
            } else if silent >= SILENT_MAX {
                self.connect_anew(number).await;
            }
            sleep(ASKED_EVERY).await;
        }
        {
            let mut state = self.state();
            state.away.remove(&shard);
            if is_back && was_silent {
                // It may have been there all the time.
                let here = state.shard_of(key);
                let slow = state.slow.entry(here).or_insert((PATIENCE, Instant::now()));
                *slow = ((slow.0 * 2).min(RESPONSE_TIMEOUT), Instant::now());
            }
            self.count(&state);
        }
        tracing::info!(shard = &*shard, is_back, "a shard that did not answer is asked again");
    }

    /// Whether the shard of a key answers.
    async fn has_answer(&self, key: &[u8]) -> bool {
        let (mut question, mut connection) = (redis::cmd("HMGET"), self.connection());
        question.arg(key).arg("m");
        match timeout(BACK_WITHIN, question.query_async::<Value>(&mut connection)).await {
            Ok(answer) => answer.as_ref().err().is_none_or(|error| !is_lost(error)),
            Err(_) => false,
        }
    }

    /// The addresses of all primaries, as they were when somebody looked last.
    pub(crate) fn servers(&self) -> Vec<Arc<str>> {
        let state = self.state();
        let servers: BTreeSet<&Arc<str>> = state.of_slot.values().collect();
        servers.into_iter().cloned().collect()
    }

    /// Which are away, in words.
    pub(crate) fn strain(&self) -> Option<String> {
        if self.0.unusual.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let state = self.state();
        let mut away: Vec<&str> = state.away.iter().map(|shard| &**shard).collect();
        away.sort_unstable();
        (!away.is_empty()).then(|| format!("shards that do not answer: {}", away.join(", ")))
    }

    fn count(&self, state: &State) {
        self.0.unusual.store(state.away.len() + state.slow.len(), Ordering::Relaxed);
    }

    /// Learns which slots are where: any node knows, also of those that are away. Returns whether somebody
    /// has answered, or could not be asked.
    pub(crate) async fn learn(&self) -> bool {
        let (mut slots, mut connection) = (redis::cmd("CLUSTER"), self.connection());
        slots.arg("SLOTS");
        let answer = timeout(BACK_WITHIN, slots.query_async::<Vec<Vec<Value>>>(&mut connection)).await;
        let Ok(ranges) = answer else { return false };
        let of_slot: HashMap<Slot, Arc<str>> =
            ranges.iter().flatten().filter_map(|range| read(range)).flatten().collect();
        if !of_slot.is_empty() {
            self.state().of_slot = of_slot;
        }
        true
    }

    /// Makes another connection, unless somebody has done so since this one.
    async fn connect_anew(&self, since: u64) {
        let connection = match timeout(ANEW_WITHIN, self.0.client.get_async_connection()).await {
            Ok(Ok(connection)) => connection,
            // It is tried again.
            Ok(Err(error)) => return tracing::debug!(%error, "no other connection to the Cluster"),
            Err(_) => return tracing::debug!("no other connection to the Cluster in time"),
        };
        let mut current = self.current();
        if current.1 == since {
            *current = (connection, since + 1);
            tracing::warn!("the connection to the Cluster answered nothing any more; there is another now");
        }
    }

    fn current(&self) -> MutexGuard<'_, (ClusterConnection, u64)> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that nobody has answered.
pub(crate) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}

/// Slots in a row, and the address of their primary.
fn read(range: &[Value]) -> Option<impl Iterator<Item = (Slot, Arc<str>)> + use<>> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let host: String = redis::from_redis_value(host.clone()).unwrap_or_default();
    let address: Arc<str> = format!("{host}:{port}").into();
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    Some((first..=last).filter_map(Slot::new).map(move |slot| (slot, address.clone())))
}

fn is_away(shard: &str) -> RedisError {
    let text = format!("the shard {shard} does not answer");
    std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()
}
