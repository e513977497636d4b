//! Events that take their coordinators along.
//!
//! An event that comes again and again, in the end alone, is why: what it is about is ended without looking
//! at it any closer. Its completion counts as a failure, and the leaves that its run owes fail without being
//! composed.

use std::sync::{Arc, Mutex, PoisonError};

use celeriac_backends::{Advance, BackendError, Event, EventDelivery};
use celeriac_engine::Release;
use celeriac_primitives::{Completion, Outcome, RunRef};

use super::Driver;
use super::compose::failed_at_once;
use super::dispatch::SLICE;
use crate::patience::insist;

/// Runs that a repair has panicked at; after so many, those from before are tried again.
const RUNS_MAX: usize = 1000;

/// Ending it is tried so many times; then the event is dropped, whatever becomes of its run.
const TRIES: u32 = 3;

/// Runs that this coordinator does not repair.
#[derive(Clone, Debug, Default)]
pub(super) struct Shunned(Arc<Mutex<Vec<RunRef>>>);

impl Shunned {
    pub(super) fn add(&self, run: RunRef) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() >= RUNS_MAX {
            runs.clear();
        }
        runs.push(run);
    }

    pub(super) fn contains(&self, run: RunRef) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&run)
    }
}

impl Driver {
    /// Whether an event has come too often.
    pub(super) fn is_poison(&self, delivery: &EventDelivery) -> bool {
        delivery.deliveries > self.options.deliveries_max.max(1)
    }

    /// Ends what an event is about.
    pub(super) async fn give_up(&self, delivery: EventDelivery) -> Result<(), BackendError> {
        let EventDelivery { id, event, deliveries, .. } = delivery;
        let reason = || {
            let text = format!("advancing its run has taken {} coordinators along", deliveries - 1);
            Outcome::Undecodable(text)
        };
        let (run, node) = match &event {
            Event::Submitted(run) => (*run, None),
            Event::Completed(completion) => (completion.run(), Some(completion.task_id.node())),
        };
        let node = node.map(tracing::field::display);
        tracing::error!(%run, node, deliveries, "an event has taken its coordinators along; what it is about is ended");
        if deliveries <= self.options.deliveries_max.max(1) + TRIES {
            if let Event::Completed(completion) = event {
                self.fail(run, vec![Completion { outcome: reason(), ..completion }]).await?;
            }
            // What fails may release others, error callbacks for one.
            while let released @ [_, ..] = &insist!(self.stop, self.backend.outbox(run))?[..] {
                let failed = |release: &Release| failed_at_once(run, *release, reason());
                self.fail(run, released.iter().take(SLICE).map(failed).collect()).await?;
            }
        }
        self.acknowledge(&[id]).await
    }

    async fn fail(&self, run: RunRef, completions: Vec<Completion>) -> Result<(), BackendError> {
        let batch = [Advance::new(run, completions)];
        for answer in insist!(self.stop, self.backend.settle(&batch))? {
            answer?;
        }
        Ok(())
    }
}
