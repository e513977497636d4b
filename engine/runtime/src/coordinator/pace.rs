//! How many events a coordinator takes at once.
//!
//! Many, since that costs the least for each. But what comes while a batch is worked off waits for its end:
//! while small runs report beside a huge one, whose reports would fill every batch, batches are short.

use std::time::Duration;

use celeriac_backends::EventDelivery;
use tokio::time::Instant;

/// So many at once while there are reports in bulk and others: a few milliseconds of work.
const BESIDE_BULK: usize = 256;

/// And for so long after the last of the others: the next step of its run is likely to follow.
const OTHERS_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pace {
    batch_max: usize,
    /// When an event came that is no report in bulk.
    other: Option<Instant>,
    /// Whether there was room for reports in bulk.
    has_bulk: bool,
}

impl Pace {
    pub(super) fn new(batch_max: usize) -> Self {
        Self { batch_max: batch_max.max(1), other: None, has_bulk: false }
    }

    /// How many to take now.
    pub(super) fn max(&self) -> usize {
        let is_mixed = self.has_bulk && self.other.is_some_and(|other| other.elapsed() < OTHERS_FOR);
        if is_mixed { self.batch_max.min(BESIDE_BULK) } else { self.batch_max }
    }

    /// Notes what was taken. A batch without reports in bulk was filled by others, or there are none: then
    /// nobody gains by a short one.
    pub(super) fn note(&mut self, events: &[EventDelivery]) {
        let bulk = events.iter().filter(|event| event.is_bulk).count();
        self.has_bulk = bulk > 0;
        if bulk < events.len() {
            self.other = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use celeriac_backends::{Event, EventId};
    use celeriac_primitives::{Incarnation, RunId};

    use super::*;

    fn events(bulk: usize, others: usize) -> Vec<EventDelivery> {
        let event = Event::Submitted(RunId::from_parts(1, 1).incarnation(Incarnation::new(1)));
        let delivery = |is_bulk| EventDelivery {
            id: EventId { source: 0, entry: (0, 1) },
            event: event.clone(),
            is_bulk,
            deliveries: 1,
        };
        (0..bulk + others).map(|place| delivery(place < bulk)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_short_while_small_runs_report_beside_a_huge_one() {
        let mut pace = Pace::new(2048);
        for (bulk, others, wait_ms, max) in [
            (2048, 0, 0, 2048),
            (2040, 8, 0, BESIDE_BULK),
            (256, 0, 900, BESIDE_BULK),
            (256, 0, 100, 2048),
            (0, 3, 0, 2048),
            (2045, 0, 0, BESIDE_BULK),
            (0, 256, 0, 2048),
            (0, 2048, 0, 2048),
            (1, 2000, 0, BESIDE_BULK),
        ] {
            tokio::time::advance(Duration::from_millis(wait_ms)).await;
            pace.note(&events(bulk, others));
            assert_eq!(pace.max(), max, "after {bulk} in bulk and {others} others");
        }
        assert_eq!(Pace::new(0).max(), 1);
    }
}
