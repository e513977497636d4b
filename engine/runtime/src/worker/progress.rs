//! How far running tasks are, on its way to the backend: the last report of each, a few times a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use celeriac_backends::{Backend, Progress};
use celeriac_dsl::Reporter;
use celeriac_primitives::{Incarnation, Json, NodeNo, RunRef, TaskError, TaskId};
use tokio::sync::Notify;

use super::turn::hand_over;

/// What is reported meanwhile goes together.
const PAUSE: Duration = Duration::from_millis(100);

/// So many bytes of it at once.
const BATCH_BYTES: usize = 4 << 20;

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
        let state = TaskError::cut_of(state, self.bytes_max);
        let report = Progress { task_id, attempt, state, meta, incarnation };
        let is_first = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = last.is_empty();
            last.insert((task_id, incarnation), report);
            is_first
        };
        self.came.notify_one();
        if is_first {
            // The task that says so goes on.
            hand_over();
        }
    }
}

/// Sends reports as they come. What cannot be sent is dropped: the next report says more.
pub(super) async fn send(backend: &dyn Backend, desk: &Desk) {
    loop {
        desk.came.notified().await;
        let last = std::mem::take(&mut *desk.last.lock().unwrap_or_else(PoisonError::into_inner));
        for reports in batches(last.into_values()) {
            if let Err(error) = backend.note_progress(&reports).await {
                tracing::warn!(%error, reports = reports.len(), "could not report how far tasks are");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The reports in batches of about so many bytes: one that cannot be sent does not take all others along.
fn batches(reports: impl IntoIterator<Item = Progress>) -> Vec<Vec<Progress>> {
    let (mut batches, mut bytes) = (Vec::<Vec<Progress>>::new(), 0);
    for report in reports {
        let more = report.weight();
        match batches.last_mut() {
            Some(batch) if bytes + more <= BATCH_BYTES => {
                batch.push(report);
                bytes += more;
            }
            _ => {
                batches.push(vec![report]);
                bytes = more;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::RunId;

    use super::*;

    fn report(desk: &Desk, number: u64, state: &str, meta: usize) {
        let (run, node) =
            (RunId::from_parts(number, 1).incarnation(Incarnation::default()), NodeNo::from_index(0));
        desk.progress(run, node, 1, state, Json::string(&"x".repeat(meta)));
    }

    fn taken(desk: &Desk) -> Vec<Progress> {
        std::mem::take(&mut *desk.last.lock().unwrap()).into_values().collect()
    }

    #[test]
    fn the_name_of_a_state_is_cut_to_its_limit_with_a_mark() {
        let desk = Desk::new(100);
        for (state, expect) in [
            ("S".repeat(100), "S".repeat(100)),
            ("S".repeat(101), format!("{}… (cut, 101 bytes)", "S".repeat(100))),
            ("ü".repeat(1 << 20), format!("{}… (cut, 2097152 bytes)", "ü".repeat(50))),
            ("€".repeat(100), format!("{}… (cut, 300 bytes)", "€".repeat(33))),
            (String::new(), String::new()),
        ] {
            report(&desk, 1, &state, 10);
            let reports = taken(&desk);
            assert_eq!((reports.len(), &reports[0].state), (1, &expect));
            assert_eq!(reports[0].meta, Json::string("xxxxxxxxxx"), "what describes it is kept");
        }
    }

    #[test]
    fn reports_of_one_moment_are_sent_in_batches_of_bounded_bytes() {
        let desk = Desk::new(64 << 10);
        (0..1000).for_each(|number| report(&desk, number, &"S".repeat(40_000), 20_000));
        let batches = batches(taken(&desk));
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 1000);
        for batch in &batches {
            assert!(batch.iter().map(Progress::weight).sum::<usize>() <= BATCH_BYTES);
        }
        assert!(batches.len() <= 1000 * 60_200 / BATCH_BYTES + 2, "{}", batches.len());
    }

    #[test]
    fn a_report_larger_than_a_batch_goes_alone() {
        let desk = Desk::new(BATCH_BYTES * 2);
        report(&desk, 1, "S", BATCH_BYTES + 1);
        (2..5).for_each(|number| report(&desk, number, "S", 10));
        let batches = batches(taken(&desk));
        let large = batches.iter().find(|batch| batch.iter().any(|report| report.weight() > BATCH_BYTES));
        assert_eq!(large.unwrap().len(), 1);
    }
}
