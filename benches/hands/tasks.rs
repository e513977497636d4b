//! The tasks of the bench, and the ledger in which they note when they begin.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use celeriac::dsl::TaskDef;
use celeriac::prelude::*;

/// A leaf that has not begun by then is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is known of the leaves, in microseconds since the ledger was made; zero is not yet.
#[derive(Debug)]
pub(crate) struct Ledger {
    made: Instant,
    lanes: usize,
    pub(crate) leaves: Vec<Entry>,
    /// Leaves that run now, those of huge runs included.
    running: AtomicUsize,
    /// Leaves of this bench that were queued and have not ended.
    open: AtomicUsize,
    huge: AtomicUsize,
    huge_running: AtomicUsize,
    pub(crate) lanes_seen: [AtomicU64; 3],
}

/// One arrival.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) queued: AtomicU64,
    /// Whether a lane was free then: 1 or 2.
    pub(crate) was_free: AtomicU64,
    pub(crate) begun: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) next_begun: AtomicU64,
    /// How often it began, and the one after it.
    calls: [AtomicU64; 2],
}

impl Ledger {
    pub(crate) fn new(count: usize, lanes: usize) -> Self {
        Self {
            made: Instant::now(),
            lanes,
            leaves: (0..count).map(|_| Entry::default()).collect(),
            running: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            huge: AtomicUsize::new(0),
            huge_running: AtomicUsize::new(0),
            lanes_seen: Default::default(),
        }
    }

    fn now(&self) -> u64 {
        (self.made.elapsed().as_micros() as u64).max(1)
    }

    /// A leaf is about to be queued: whether a lane is free for it.
    pub(crate) fn comes(&self, number: usize) {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + self.huge_running.load(Ordering::SeqCst);
        let was_free = if open < self.lanes { 1 } else { 2 };
        self.leaves[number].was_free.store(was_free, Ordering::SeqCst);
    }

    /// It is queued.
    pub(crate) fn is_queued(&self, number: usize) {
        self.leaves[number].queued.store(self.now(), Ordering::SeqCst);
    }

    fn begins(&self, number: usize) {
        let leaf = &self.leaves[number];
        let _ = leaf.begun.compare_exchange(0, self.now(), Ordering::SeqCst, Ordering::SeqCst);
        leaf.calls[0].fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    fn ends(&self, number: usize) {
        self.leaves[number].ended.store(self.now(), Ordering::SeqCst);
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many lanes are in use now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst) + self.huge_running.load(Ordering::SeqCst)
    }

    /// How many leaves of huge runs there were.
    pub(crate) fn huge_leaves(&self) -> usize {
        self.huge.load(Ordering::SeqCst)
    }

    /// Waits until every leaf has begun.
    pub(crate) async fn all_have_begun(&self) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let waiting = self.leaves.iter().filter(|leaf| leaf.begun.load(Ordering::SeqCst) == 0).count();
            match waiting {
                0 => return Ok(()),
                _ if Instant::now() > end => return Err(format!("{waiting} leaves do not begin").into()),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// How often leaves began that should have once.
    pub(crate) fn check(&self) -> Result<(), Box<dyn Error>> {
        for (number, leaf) in self.leaves.iter().enumerate() {
            let [calls, next] = leaf.calls.each_ref().map(|calls| calls.load(Ordering::SeqCst));
            if calls != 1 || next > 1 {
                return Err(
                    format!("leaf {number} began {calls} times, and the next one {next} times").into()
                );
            }
        }
        Ok(())
    }
}

/// Takes its time without a thread.
#[task(name = "hands.sleeps")]
async fn sleeps(number: usize, ms: u64, ledger: State<Arc<Ledger>>) -> usize {
    ledger.begins(number);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ledger.ends(number);
    number
}

/// Takes its time on a thread.
#[task(name = "hands.blocks")]
fn blocks(number: usize, ms: u64, ledger: State<Arc<Ledger>>) -> usize {
    ledger.begins(number);
    std::thread::sleep(Duration::from_millis(ms));
    ledger.ends(number);
    number
}

/// Follows one of them.
#[task(name = "hands.follows")]
async fn follows(number: usize, ledger: State<Arc<Ledger>>) -> usize {
    let leaf = &ledger.leaves[number];
    let _ = leaf.next_begun.compare_exchange(0, ledger.now(), Ordering::SeqCst, Ordering::SeqCst);
    leaf.calls[1].fetch_add(1, Ordering::SeqCst);
    number
}

/// One of a million.
#[task(name = "hands.one_of_many")]
pub(crate) async fn one_of_many(number: usize, ledger: State<Arc<Ledger>>) -> usize {
    ledger.huge_running.fetch_add(1, Ordering::SeqCst);
    tokio::task::yield_now().await;
    ledger.huge.fetch_add(1, Ordering::SeqCst);
    ledger.huge_running.fetch_sub(1, Ordering::SeqCst);
    number
}

/// An arrival: a leaf that takes so long, and one that follows.
pub(crate) fn canvas(number: usize, ms: u64, is_blocking: bool) -> Result<Canvas, Box<dyn Error>> {
    let first = if is_blocking {
        (blocks.s((number, ms)) | follows.s(())).untyped()?
    } else {
        (sleeps.s((number, ms)) | follows.s(())).untyped()?
    };
    Ok(first)
}

/// All of them.
pub(crate) fn all() -> Vec<TaskDef> {
    tasks![sleeps, blocks, follows, one_of_many].into_iter().collect()
}
