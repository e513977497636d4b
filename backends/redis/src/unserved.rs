//! Queues whose leaves nobody takes: nothing is wrong with them, but they wait for a worker that is not
//! there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::keys::Keys;

/// Leaves may wait for so long before it is said that nobody takes them.
const WAITS_FOR: Duration = Duration::from_secs(30);

/// What was not seen for so long is no more.
const SEEN_FOR: Duration = Duration::from_secs(60);

/// So many queues are named.
const NAMED_MAX: usize = 3;

/// Lanes with leaves and without a worker. Cheap to clone: clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unserved(Arc<Mutex<BTreeMap<String, Lane>>>);

#[derive(Clone, Copy, Debug)]
struct Lane {
    since: Instant,
    seen: Instant,
    leaves: usize,
}

impl Unserved {
    /// How many leaves are in a lane, and how many workers have taken from it lately.
    pub(crate) fn note(&self, stream: &str, leaves: usize, workers: usize) {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if leaves == 0 || workers > 0 {
            lanes.remove(stream);
            return;
        }
        let now = Instant::now();
        let lane = lanes.entry(stream.to_owned()).or_insert(Lane { since: now, seen: now, leaves });
        (lane.seen, lane.leaves) = (now, leaves);
    }

    /// Which queues wait for a worker, in words.
    pub(crate) fn strain(&self, keys: &Keys) -> Option<String> {
        let mut queues: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| lane.seen.elapsed() < SEEN_FOR);
        for (stream, lane) in lanes.iter().filter(|(_, lane)| lane.since.elapsed() >= WAITS_FOR) {
            if let Some((queue, _)) = keys.place_of(stream) {
                *queues.entry(queue).or_default() += lane.leaves;
            }
        }
        drop(lanes);
        let names =
            queues.iter().take(NAMED_MAX).map(|(queue, leaves)| format!("{queue:?} ({leaves} leaves)"));
        let names: Vec<String> = names.collect();
        let more = if queues.len() > NAMED_MAX { " and others" } else { "" };
        (!names.is_empty()).then(|| format!("no worker takes from the queue {}{more}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_without_a_worker_is_named_after_a_while_and_until_somebody_takes() {
        let (unserved, keys) = (Unserved::default(), Keys::new("app"));
        let (one, other) = ("app:{q:mail}:stream", "app:{q:mail}:l0:stream");
        for _ in 0..4 {
            assert_eq!(unserved.strain(&keys), None);
            unserved.note(one, 5, 0);
            unserved.note(other, 2, 0);
            unserved.note("app:{q:served}:stream", 7, 1);
            tokio::time::advance(Duration::from_secs(8)).await;
        }
        let told = unserved.strain(&keys).unwrap();
        assert_eq!(told, "no worker takes from the queue \"mail\" (7 leaves)");
        unserved.note(one, 5, 1);
        unserved.note(other, 0, 0);
        assert_eq!(unserved.strain(&keys), None);
    }
}
