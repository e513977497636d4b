//! Runs that wait for somebody to mend what is not theirs: a queue that cannot be written, a
//! permission, or a coordinator of a later version.
//!
//! Their events are given back after a moment, to any coordinator, and are not counted: nothing is
//! wrong with the runs, and they go on as soon as they can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind, EventId};
use celeriac_primitives::RunRef;
use tokio::time::Instant;

use super::Driver;
use crate::patience::endure;

/// So long events wait here, or a third of their lease when that is less.
const WAIT: Duration = Duration::from_secs(2);

/// The process says so of itself for so long after it was met last.
const COMPLAINED_FOR: Duration = Duration::from_secs(5);

/// What is wrong is said again after so long, of each run.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Of so many runs; then those from before are said again.
const SAID_MAX: usize = 1000;

/// When it was said of which runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Arc<Mutex<HashMap<RunRef, Instant>>>);

impl Said {
    fn is_due(&self, run: RunRef) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&run).is_some_and(|said| said.elapsed() < SAID_EVERY) {
            return false;
        }
        if said.len() >= SAID_MAX {
            said.clear();
        }
        said.insert(run, Instant::now());
        true
    }
}

/// Whether an error says nothing of the run that it came up with.
pub(super) fn is_elsewhere(error: &BackendError) -> bool {
    match error.kind {
        ErrorKind::Later | ErrorKind::Denied => true,
        ErrorKind::Corrupt => error.operation == "dispatch",
        _ => false,
    }
}

impl Driver {
    /// Lets events of a run come again in a moment, uncounted.
    pub(super) fn wait_for_others(&self, run: RunRef, error: &BackendError, events: Vec<EventId>) {
        if self.said.is_due(run) {
            tracing::error!(%run, %error, source = ?error.source, "a run waits until this is mended");
        }
        if error.kind == ErrorKind::Denied {
            self.vitals.say("waiting", Some((format!("{run} waits: {error}"), Some(COMPLAINED_FOR))));
        }
        if events.is_empty() {
            return;
        }
        let driver = self.clone();
        self.beside.spawn(async move {
            // Else they would come again when their leases pass, and be counted.
            let holding = driver.held.hold(events.iter().map(|event| (*event, run)).collect());
            let wait = WAIT.min(driver.options.lease / 3);
            let given_back = holding.watch(async {
                driver.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                endure!(driver.stop, driver.backend.hand_back_events(&events))
            });
            if let Some(Err(error)) = given_back.await {
                tracing::debug!(%run, %error, "events come again when their leases pass");
            }
        });
    }
}
