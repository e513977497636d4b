//! The lanes that are at work.
//!
//! Quick leaves get few lanes, one for each thread: these do them one after the other,
//! and a lane that finds nothing any more costs as much as such a leaf. As soon as a
//! leaf waits for something, its lane [starts others](Lanes::start_more), so no leaf
//! waits for one that waits. While leaves compute on all threads, more lanes would be
//! of no use. When a leaf keeps a thread and the runtime has another in its place, the
//! [lookout](super::lookout) has others started.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use super::bench::Seat;
use super::lane::{self, Workshop};
use crate::Vitals;
use crate::panics::Panicked;

pub(super) struct Lanes {
    /// `None` when no lane starts any more.
    working: Mutex<Option<JoinSet<()>>>,
    vitals: Vitals,
}

impl Lanes {
    pub(super) fn new(vitals: Vitals) -> Self {
        Self { working: Mutex::new(Some(JoinSet::new())), vitals }
    }

    /// Starts a lane at each of these seats.
    pub(super) fn start(&self, shop: &Arc<Workshop>, seats: Vec<Seat>) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lanes) = &mut *working else { return };
        while let Some(ended) = lanes.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                let Panicked { text, .. } = Panicked::of(error.into_panic());
                self.vitals.fail(format!("a lane has panicked: {text}"));
            }
        }
        for seat in seats {
            lanes.spawn(lane::work(shop.clone(), seat));
        }
    }

    /// A leaf waits for something: its thread may begin another, if one is at hand.
    pub(super) fn start_more(&self, shop: &Arc<Workshop>) {
        let seats = shop.bench.seats();
        if !seats.is_empty() {
            self.start(shop, seats);
        }
    }

    /// Cuts off all lanes, and returns them; no other starts.
    pub(super) fn cut_off(&self) -> JoinSet<()> {
        let working = self.working.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut lanes = working.unwrap_or_default();
        lanes.abort_all();
        lanes
    }
}
