//! Threads for blocking leaves: how many there may be, and what becomes of those that hang.
//!
//! A blocking task cannot be stopped: past its time limit its leaf has ended, its lane goes on, and its thread does not.
//! Such threads are counted, and said. When as many hang as there may be, the worker runs no blocking leaf: it lets them
//! wait for others, or for a thread that comes back.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac_backends::Delivery;
use celeriac_primitives::TaskName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::bench::Bench;

/// A leaf that waits for a thread is given to others after this.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// When it is given to others, it does not come back sooner: while threads come back, and when none does.
const AWAY_BUSY: Duration = Duration::from_millis(50);
const AWAY_HUNG: Duration = Duration::from_secs(1);

/// No more leaves are given to others than one in this time, in the long run.
const AWAY_EVERY: Duration = Duration::from_millis(1);

/// The threads of a worker, and the leaves that wait for one.
pub(super) struct Threads {
    max: usize,
    /// How many are in use, those that hang included.
    used: usize,
    hung: usize,
    /// Tasks of which it was said that their threads hang.
    said: HashSet<TaskName>,
    waiting: VecDeque<(Delivery, Instant)>,
    turnover: Turnover,
    /// When the last leaf that was given to others comes back.
    last_away: Option<Instant>,
}

impl Threads {
    pub(super) fn new(max: usize) -> Self {
        let (said, waiting) = (HashSet::new(), VecDeque::new());
        Self {
            max: max.max(1),
            used: 0,
            hung: 0,
            said,
            waiting,
            turnover: Turnover::default(),
            last_away: None,
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn hung(&self) -> usize {
        self.hung
    }

    /// Takes a thread, if there is one.
    pub(super) fn take(&mut self) -> bool {
        let is_there = self.used < self.max;
        self.used += usize::from(is_there);
        is_there
    }

    /// A thread is free; returns the leaf that has waited longest for one.
    pub(super) fn give_back(&mut self, was_hung: bool) -> Option<Delivery> {
        self.used -= 1;
        self.turnover.note(Instant::now());
        self.hung -= usize::from(was_hung);
        self.waiting.pop_front().map(|(delivery, _)| delivery)
    }

    /// Nobody waits for the task on this thread any more; whether that is to be said.
    pub(super) fn hangs(&mut self, task: &TaskName) -> bool {
        self.hung += 1;
        self.said.insert(task.clone())
    }

    /// Lets a leaf wait for a thread. As many may wait as there are threads that will come back, or as came back lately;
    /// one that is too much is given to others for the time returned.
    pub(super) fn wait(&mut self, delivery: &Delivery) -> Option<Duration> {
        if self.waiting.len() < (self.max - self.hung).max(self.turnover.lately(Instant::now())) {
            self.waiting.push_back((delivery.clone(), Instant::now()));
            return None;
        }
        Some(self.away())
    }

    /// Takes out a leaf that has waited for too long, with the time for which it is given to others.
    pub(super) fn take_overdue(&mut self) -> Option<(Delivery, Duration)> {
        if self.waiting.front()?.1.elapsed() < WAIT_MAX {
            return None;
        }
        let (delivery, _) = self.waiting.pop_front()?;
        Some((delivery, self.away()))
    }

    fn away(&mut self) -> Duration {
        let now = Instant::now();
        let away = if self.turnover.lately(now) > 0 { AWAY_BUSY } else { AWAY_HUNG };
        let next = self.last_away.map_or(now, |last| last + AWAY_EVERY).max(now + away);
        self.last_away = Some(next);
        next - now
    }

    /// The leaves that wait for a thread.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Delivery> {
        self.waiting.iter().map(|(delivery, _)| delivery)
    }

    /// None waits any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// How many threads came back within [`WAIT_MAX`].
#[derive(Debug, Default)]
struct Turnover {
    since: Option<Instant>,
    count: usize,
    before: usize,
}

impl Turnover {
    fn note(&mut self, now: Instant) {
        self.lately(now);
        self.count += 1;
    }

    fn lately(&mut self, now: Instant) -> usize {
        let since = *self.since.get_or_insert(now);
        if now - since >= WAIT_MAX {
            self.before = if now - since < WAIT_MAX * 2 { self.count } else { 0 };
            (self.since, self.count) = (Some(now), 0);
        }
        self.count.max(self.before)
    }
}

/// A thread for one leaf, held by its lane and by the call that runs on it. A call that goes on when the lane has let go
/// hangs.
#[derive(Clone)]
pub(super) struct Thread(Arc<Hold>);

/// What the lane has of it.
pub(super) struct Lent {
    pub(super) thread: Thread,
    task: TaskName,
}

struct Hold {
    bench: Arc<Bench>,
    is_hung: AtomicBool,
    begins: Notify,
}

impl Thread {
    /// The call has begun on its thread.
    pub(super) fn begins(&self) {
        self.0.begins.notify_one();
    }

    /// Waits until the first call has begun.
    pub(super) async fn has_begun(&self) {
        self.0.begins.notified().await;
    }
}

impl Lent {
    /// Lends the lane a thread that was [taken](Threads::take).
    pub(super) fn new(bench: Arc<Bench>, task: TaskName) -> Self {
        let hold = Hold { bench, is_hung: AtomicBool::new(false), begins: Notify::new() };
        Self { thread: Thread(Arc::new(hold)), task }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Hold { bench, is_hung, .. } = &*self.thread.0;
        if Arc::strong_count(&self.thread.0) > 1 {
            is_hung.store(true, Ordering::SeqCst);
            bench.thread_hangs(&self.task);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.bench.give_thread_back(*self.is_hung.get_mut());
    }
}
