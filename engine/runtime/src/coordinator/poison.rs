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
use super::elsewhere::is_elsewhere;
use crate::patience::{endure, insist};

/// Runs that a repair has panicked at; after so many, those from before are tried again.
const RUNS_MAX: usize = 1000;

/// Ending it is tried so many times; then the event is set aside, whatever becomes of its run.
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

    /// Ends what an event is about. When that cannot be done either, the event is set aside.
    pub(super) async fn give_up(&self, delivery: EventDelivery) -> Result<(), BackendError> {
        let (run, deliveries) = (delivery.event.run(), delivery.deliveries);
        let node = match &delivery.event {
            Event::Submitted(_) => None,
            Event::Completed(completion) => Some(tracing::field::display(completion.task_id.node())),
        };
        let times = deliveries - 1;
        tracing::error!(%run, node, deliveries, "an event has come again and again; what it is about is ended");
        let reason = if deliveries > self.options.deliveries_max.max(1) + TRIES {
            format!("{run}: the event has come {times} times, and ending what it is about has not returned")
        } else {
            match self.end(&delivery.event, times).await {
                Ok(()) => return self.acknowledge(&[delivery.id]).await,
                Err(error) if error.may_retry() => return Err(error),
                Err(error) if is_elsewhere(&error) => {
                    self.wait_for_others(run, &error, vec![delivery.id]);
                    return Ok(());
                }
                Err(error) => format!("{run} cannot be advanced: {error}"),
            }
        };
        endure!(self.stop, self.backend.set_aside(&delivery, &reason))
    }

    async fn end(&self, event: &Event, times: u32) -> Result<(), BackendError> {
        let reason = || {
            let text = format!(
                "its run could not be advanced in {times} deliveries of an event: that took its coordinators along, or failed"
            );
            Outcome::Undecodable(text)
        };
        let run = event.run();
        if let Event::Completed(completion) = event {
            self.fail(run, vec![Completion { outcome: reason(), ..completion.clone() }]).await?;
        }
        // What fails may release others, error callbacks for one.
        while let released @ [_, ..] = &insist!(self.stop, self.backend.outbox(run))?[..] {
            let failed = |release: &Release| failed_at_once(run, *release, reason());
            self.fail(run, released.iter().take(SLICE).map(failed).collect()).await?;
        }
        Ok(())
    }

    async fn fail(&self, run: RunRef, completions: Vec<Completion>) -> Result<(), BackendError> {
        let batch = [Advance::new(run, completions)];
        for answer in insist!(self.stop, self.backend.settle(&batch))? {
            answer?;
        }
        Ok(())
    }
}
