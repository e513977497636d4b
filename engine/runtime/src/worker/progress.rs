//! How far running tasks are, on its way to the backend: the last report of each, a few times a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use celeriac_backends::{Backend, Progress};
use celeriac_dsl::Reporter;
use celeriac_primitives::{Incarnation, Json, NodeNo, RunRef, TaskId};
use tokio::sync::Notify;

/// What is reported meanwhile goes together.
const PAUSE: Duration = Duration::from_millis(100);

/// The reports that have not been sent.
#[derive(Debug)]
pub(super) struct Desk {
    last: Mutex<HashMap<(TaskId, Incarnation), Progress>>,
    came: Notify,
    bytes_max: usize,
}

impl Desk {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { last: Mutex::default(), came: Notify::new(), bytes_max }
    }
}

impl Reporter for Desk {
    fn progress(&self, run: RunRef, node: NodeNo, attempt: u32, state: &str, meta: Json) {
        let (task_id, incarnation) = (run.task(node), run.incarnation);
        let bytes = meta.as_str().len();
        let meta = if bytes > self.bytes_max {
            tracing::warn!(%run, %node, bytes, max = self.bytes_max, "how far a leaf is takes too many bytes to say");
            Json::from_compact(format!("{{\"bytes\":{bytes},\"limit\":{}}}", self.bytes_max))
        } else {
            meta
        };
        let report = Progress { task_id, attempt, state: state.to_owned(), meta, incarnation };
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert((task_id, incarnation), report);
        self.came.notify_one();
    }
}

/// Sends reports as they come. What cannot be sent is dropped: the next report says more.
pub(super) async fn send(backend: &dyn Backend, desk: &Desk) {
    loop {
        desk.came.notified().await;
        let last = std::mem::take(&mut *desk.last.lock().unwrap_or_else(PoisonError::into_inner));
        let reports: Vec<Progress> = last.into_values().collect();
        if let Err(error) = backend.note_progress(&reports).await {
            tracing::warn!(%error, reports = reports.len(), "could not report how far tasks are");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
