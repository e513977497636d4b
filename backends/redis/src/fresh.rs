//! Runs that this process has just submitted, and to which it has listened from the start.
//!
//! Whoever waits for such a run need not look before the first hint. Few are remembered, and only until
//! somebody waits: who was forgotten here looks first, and nothing else is different.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use celeriac_primitives::RunRef;

use crate::hints::Listener;

/// So many runs are remembered.
const RUNS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Fresh(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    runs: HashMap<RunRef, Listener>,
    /// In the order of submission; some were taken meanwhile.
    order: VecDeque<RunRef>,
}

impl Fresh {
    pub(crate) fn put(&self, run: RunRef, listener: Option<Listener>) {
        let Some(listener) = listener else { return };
        let mut dropped = Vec::new();
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.extend(remembered.runs.insert(run, listener));
        remembered.order.push_back(run);
        if remembered.order.len() > RUNS_MAX {
            let oldest = remembered.order.pop_front();
            dropped.extend(oldest.and_then(|run| remembered.runs.remove(&run)));
        }
        // A listener that goes takes locks of its own.
        drop(remembered);
    }

    pub(crate) fn take(&self, run: RunRef) -> Option<Listener> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).runs.remove(&run)
    }
}
