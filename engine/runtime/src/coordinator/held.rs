//! What a coordinator works on: events whose leases it renews, and runs whose outboxes it empties.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_backends::EventId;
use celeriac_primitives::RunRef;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Duration, Instant};

/// Events that are being worked on, a batch at a time: what is done within a part of its lease is never
/// renewed.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Batches>);

#[derive(Debug, Default)]
struct Batches {
    next: u64,
    batches: BTreeMap<u64, (Instant, Vec<EventId>)>,
}

/// A batch, until it is dropped.
#[derive(Debug)]
pub(super) struct Holding {
    held: Arc<Held>,
    number: u64,
}

impl Held {
    /// Holds events from now on.
    pub(super) fn hold(self: &Arc<Self>, events: Vec<EventId>) -> Holding {
        let mut batches = self.batches();
        batches.next += 1;
        let number = batches.next;
        batches.batches.insert(number, (Instant::now(), events));
        Holding { held: self.clone(), number }
    }

    /// The events that are held for so long at least.
    pub(super) fn longer_than(&self, time: Duration) -> Vec<EventId> {
        let batches = self.batches();
        let old = batches.batches.values().filter(|(since, _)| since.elapsed() >= time);
        old.flat_map(|(_, events)| events.iter().copied()).collect()
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.batches().batches.remove(&self.number);
    }
}

/// The runs whose outboxes this coordinator empties, each once at a time: two who do so at once only do it
/// twice.
#[derive(Debug, Default)]
pub(super) struct Outboxes(Mutex<HashMap<RunRef, Arc<tokio::sync::Mutex<()>>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    outboxes: Arc<Outboxes>,
    run: RunRef,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Outboxes {
    /// Waits until nobody else here empties the outbox of this run.
    pub(super) async fn alone(self: &Arc<Self>, run: RunRef) -> Alone {
        let lock = self.outboxes().entry(run).or_default().clone();
        let mut alone = Alone { outboxes: self.clone(), run, guard: None };
        alone.guard = Some(lock.lock_owned().await);
        alone
    }

    /// The same when nobody does so now.
    pub(super) fn at_once(self: &Arc<Self>, run: RunRef) -> Option<Alone> {
        let lock = self.outboxes().entry(run).or_default().clone();
        let guard = Some(lock.try_lock_owned().ok()?);
        Some(Alone { outboxes: self.clone(), run, guard })
    }

    fn outboxes(&self) -> MutexGuard<'_, HashMap<RunRef, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut outboxes = self.outboxes.outboxes();
        // Who waits, or is about to, has a clone.
        if outboxes.get(&self.run).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            outboxes.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::{Incarnation, RunId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_are_held_until_their_batch_is_done() {
        let held = Arc::new(Held::default());
        let event = |entry| EventId { source: 0, entry: (0, entry) };
        let first = held.hold(vec![event(1), event(2)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = held.hold(vec![event(3)]);
        assert_eq!(held.longer_than(Duration::from_secs(1)), [event(1), event(2)]);
        assert_eq!(held.longer_than(Duration::ZERO).len(), 3);
        drop(first);
        assert_eq!(held.longer_than(Duration::ZERO), [event(3)]);
        drop(second);
        assert_eq!(held.longer_than(Duration::ZERO), []);
    }

    #[tokio::test]
    async fn an_outbox_is_emptied_by_one_at_a_time_and_nothing_of_it_is_kept() {
        let outboxes = Arc::new(Outboxes::default());
        let run = RunId::from_parts(1, 1).incarnation(Incarnation::new(1));
        let first = outboxes.alone(run).await;
        assert!(outboxes.at_once(run).is_none());
        let next = outboxes.alone(run);
        let (next, ()) = tokio::join!(next, async { drop(first) });
        assert!(outboxes.at_once(run).is_none());
        drop(next);
        drop(outboxes.at_once(run).expect("nobody has it"));
        assert!(outboxes.outboxes().is_empty());
    }
}
