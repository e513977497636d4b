//! The backend that keeps everything in the memory of one process.
//!
//! It is what an embedded app runs on, and the reference that other backends are compared with:
//! the store is the engine's own [`RunState`](celeriac_engine::RunState) behind a lock. Any number
//! of coordinators and workers of the process may share it. Nothing outlives the process, and
//! until then a run stays until it is forgotten or its time after its end is over.
//!
//! Leases run by tokio's clock, so tests may pause it.

mod dead;
mod events;
mod queue;
mod store;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_backends::Event;
use celeriac_primitives::RunId;
use dashmap::DashMap;
use foldhash::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use dead::Letter;
use queue::Leaves;
use store::Run;

/// Keeps runs, queues and events in memory. Cheap to clone: clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    runs: DashMap<RunId, Arc<Run>, foldhash::fast::RandomState>,
    leaves: Mutex<Leaves>,
    events: Mutex<Log>,
    /// When runs that have ended are to be forgotten, the next first.
    ended: Mutex<BinaryHeap<Reverse<(Instant, RunId)>>>,
    leaves_came: Notify,
    events_came: Notify,
    clock: Clock,
    /// Longer texts are kept apart, when this was said.
    inline_bytes_max: Option<usize>,
}

/// The time, by tokio's clock.
#[derive(Debug)]
struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Default for Clock {
    fn default() -> Self {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ms: since_1970.as_millis() as u64 }
    }
}

impl Clock {
    /// In milliseconds since 1970.
    fn now_ms(&self) -> u64 {
        self.start_ms + self.start.elapsed().as_millis() as u64
    }
}

/// The events: those that wait, and those that a coordinator holds.
#[derive(Debug, Default)]
struct Log {
    next: u64,
    waiting: VecDeque<(u64, Sent)>,
    /// Reports on leaves in bulk, which give way to the others.
    bulk: VecDeque<(u64, Sent)>,
    /// How often new ones were taken.
    takes: u64,
    /// Those whose coordinators went away, with how often they were delivered.
    apart: VecDeque<(u64, u32, Sent)>,
    held: Held,
    /// Those that were set aside, the oldest first.
    dead: VecDeque<Letter>,
}

/// Events that somebody holds: until when, and how often they were delivered.
type Held = HashMap<u64, (Instant, u32, Sent)>;

/// An event, and whether it is a report on a leaf in bulk.
#[derive(Clone, Debug)]
struct Sent {
    event: Event,
    is_bulk: bool,
}

impl Memory {
    /// An empty backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty backend that keeps texts apart which are longer than this, as backends do to which
    /// size is something: for tests.
    pub fn keeping_apart(inline_bytes_max: usize) -> Self {
        Self(Arc::new(Shared { inline_bytes_max: Some(inline_bytes_max), ..Shared::default() }))
    }

    /// How much is kept, for tests of retention: runs, waiting and leased leaves, queues, waiting
    /// and held events.
    pub fn census(&self) -> BTreeMap<&'static str, usize> {
        let (waiting, leased, timers, queues) = lock(&self.0.leaves).census();
        let events = lock(&self.0.events);
        BTreeMap::from([
            ("runs", self.0.runs.len()),
            ("texts", self.0.runs.iter().map(|run| run.texts()).sum()),
            ("leaves waiting", waiting),
            ("leaves leased", leased),
            ("timers", timers),
            ("queues", queues),
            ("events waiting", events.waiting.len() + events.bulk.len() + events.apart.len()),
            ("events held", events.held.len()),
            ("dead letters", events.dead.len()),
        ])
    }
}

/// A panic while one of these locks was held would leave no half-done change behind (each change
/// is made of steps that cannot panic), so what it guards is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The moment so far from now; what the clock cannot reach is a year away.
fn after(time: std::time::Duration) -> Instant {
    const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + time.min(YEAR)
}
