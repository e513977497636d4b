//! What a coordinator works on: events whose leases it renews, and runs whose outboxes it empties.
//!
//! Events are renewed as long as their handling moves, which is as long as something wakes it: an answer, a
//! slice that was queued, a turn that has come. What nothing wakes over many renewals does not return,
//! whatever it waits for. Then it is dropped as if its coordinator had died: the events come again, and are
//! counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_backends::EventId;
use celeriac_primitives::RunRef;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Duration, Instant};

/// Handling that has not moved over so many renewals does not return; and not before this time, since short
/// leases are no reason for a large plan to be read more quickly.
const RENEWALS_MAX: u32 = 30;
const STILL_MIN: Duration = Duration::from_secs(60);

/// Events that are being worked on, a batch at a time: what is done within a part of its lease is never
/// renewed.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Batches>);

#[derive(Debug, Default)]
struct Batches {
    next: u64,
    batches: BTreeMap<u64, Batch>,
}

#[derive(Debug)]
struct Batch {
    since: Instant,
    events: Vec<(EventId, RunRef)>,
    /// Of these, since they were last renewed.
    done: Vec<EventId>,
    moves: Arc<Moves>,
    /// How many moves there were when that was last looked at, since when, and over how many renewals.
    seen: (u64, Instant, u32),
}

#[derive(Debug, Default)]
struct Moves {
    count: AtomicU64,
    given_up: Notify,
}

/// A batch, until it is dropped.
#[derive(Debug)]
pub(super) struct Holding {
    held: Arc<Held>,
    number: u64,
    moves: Arc<Moves>,
}

/// What is to be renewed, and what does not return.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Due {
    pub(super) renew: Vec<EventId>,
    pub(super) stuck: Vec<(EventId, RunRef)>,
}

impl Held {
    /// Holds events from now on.
    pub(super) fn hold(self: &Arc<Self>, events: Vec<(EventId, RunRef)>) -> Holding {
        let (now, moves) = (Instant::now(), Arc::<Moves>::default());
        let mut batches = self.batches();
        batches.next += 1;
        let number = batches.next;
        let (done, seen) = (Vec::new(), (0, now, 0));
        batches.batches.insert(number, Batch { since: now, events, done, moves: moves.clone(), seen });
        Holding { held: self.clone(), number, moves }
    }

    /// The events that are held for so long at least, and are to be renewed now. What does not return is held
    /// no longer.
    pub(super) fn due(&self, time: Duration) -> Due {
        let (mut due, mut batches) = (Due::default(), self.batches());
        batches.batches.retain(|_, batch| {
            if batch.since.elapsed() < time {
                return true;
            }
            batch.let_go();
            let is_stuck = batch.is_stuck();
            if is_stuck {
                batch.moves.given_up.notify_one();
                due.stuck.append(&mut batch.events);
            } else {
                due.renew.extend(batch.events.iter().map(|(event, _)| *event));
            }
            !is_stuck
        });
        due
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn let_go(&mut self) {
        if !self.done.is_empty() {
            let done: HashSet<EventId> = self.done.drain(..).collect();
            self.events.retain(|(event, _)| !done.contains(event));
        }
    }

    /// Whether it has not moved for too long; asked with each renewal.
    fn is_stuck(&mut self) -> bool {
        let (count, (seen, since, renewals)) = (self.moves.count.load(Ordering::Relaxed), &mut self.seen);
        if count != *seen {
            (*seen, *since, *renewals) = (count, Instant::now(), 0);
        }
        *renewals += 1;
        *renewals > RENEWALS_MAX && since.elapsed() >= STILL_MIN
    }
}

impl Holding {
    /// Works on these events; `None` when that does not return, and they are held no longer.
    pub(super) async fn watch<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let moving = poll_fn(|context| {
            self.moves.count.fetch_add(1, Ordering::Relaxed);
            work.as_mut().poll(context)
        });
        tokio::select! {
            biased;
            done = moving => Some(done),
            () = self.moves.given_up.notified() => None,
        }
    }

    /// That these are done with, and others are not.
    pub(super) fn let_go(&self, done: Vec<EventId>) {
        if let Some(batch) = self.held.batches().batches.get_mut(&self.number) {
            batch.done.extend(done);
        }
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
pub(super) struct Outboxes(Mutex<HashMap<RunRef, Arc<Outbox>>>);

#[derive(Debug, Default)]
struct Outbox {
    lock: Arc<tokio::sync::Mutex<()>>,
    /// A slice of it was queued: who waits for it moves, too.
    moved: Notify,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    outboxes: Arc<Outboxes>,
    run: RunRef,
    outbox: Option<Arc<Outbox>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Outboxes {
    /// Waits until nobody else here empties the outbox of this run.
    pub(super) async fn alone(self: &Arc<Self>, run: RunRef) -> Alone {
        let outbox = self.outboxes().entry(run).or_default().clone();
        let mut free = pin!(outbox.lock.clone().lock_owned());
        let mut alone = Alone { outboxes: self.clone(), run, outbox: Some(outbox), guard: None };
        while let Some(outbox) = &alone.outbox {
            tokio::select! {
                biased;
                guard = &mut free => {
                    alone.guard = Some(guard);
                    break;
                }
                () = outbox.moved.notified() => {}
            }
        }
        alone
    }

    /// The same when nobody does so now.
    pub(super) fn at_once(self: &Arc<Self>, run: RunRef) -> Option<Alone> {
        let outbox = self.outboxes().entry(run).or_default().clone();
        let guard = Some(outbox.lock.clone().try_lock_owned().ok()?);
        Some(Alone { outboxes: self.clone(), run, outbox: Some(outbox), guard })
    }

    fn outboxes(&self) -> MutexGuard<'_, HashMap<RunRef, Arc<Outbox>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alone {
    /// Another part of it is done: those who wait move with it.
    pub(super) fn moved(&self) {
        self.outbox.iter().for_each(|outbox| outbox.moved.notify_waiters());
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.guard.take());
        drop(self.outbox.take());
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

    fn run(number: u64) -> RunRef {
        RunId::from_parts(1, number).incarnation(Incarnation::new(number))
    }

    fn event(entry: u64) -> (EventId, RunRef) {
        (EventId { source: 0, entry: (0, entry) }, run(entry))
    }

    #[track_caller]
    fn check(held: &Held, time: Duration, renewed: &[u64], stuck: &[u64]) {
        let due = held.due(time);
        let renewed: Vec<EventId> = renewed.iter().map(|number| event(*number).0).collect();
        assert_eq!((due.renew, due.stuck), (renewed, stuck.iter().map(|number| event(*number)).collect()));
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_held_until_their_batch_is_done() {
        let held = Arc::new(Held::default());
        let first = held.hold(vec![event(1), event(2)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = held.hold(vec![event(3)]);
        check(&held, Duration::from_secs(1), &[1, 2], &[]);
        check(&held, Duration::ZERO, &[1, 2, 3], &[]);
        first.let_go(vec![event(1).0]);
        check(&held, Duration::ZERO, &[2, 3], &[]);
        drop(first);
        check(&held, Duration::ZERO, &[3], &[]);
        drop(second);
        check(&held, Duration::ZERO, &[], &[]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_returns_is_held_no_longer() {
        let held = Arc::new(Held::default());
        let (hangs, moves) = (held.hold(vec![event(1)]), held.hold(vec![event(2)]));
        let hangs = tokio::spawn(async move { hangs.watch(std::future::pending::<()>()).await });
        let moves = tokio::spawn(async move {
            let slow = async {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_secs(200)).await;
                }
            };
            moves.watch(slow).await
        });
        for _ in 0..RENEWALS_MAX {
            tokio::time::sleep(Duration::from_secs(10)).await;
            check(&held, Duration::ZERO, &[1, 2], &[]);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        check(&held, Duration::ZERO, &[2], &[1]);
        assert_eq!(hangs.await.unwrap(), None);
        for _ in 0..10 * RENEWALS_MAX {
            tokio::time::sleep(Duration::from_secs(10)).await;
            check(&held, Duration::ZERO, &[2], &[]);
        }
        assert_eq!(moves.await.unwrap(), Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn short_leases_hurry_nobody() {
        let held = Arc::new(Held::default());
        let _holding = held.hold(vec![event(1)]);
        for _ in 0..2 * RENEWALS_MAX {
            tokio::time::advance(STILL_MIN / (3 * RENEWALS_MAX)).await;
            check(&held, Duration::ZERO, &[1], &[]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_outbox_moves_with_whoever_empties_it() {
        let (held, outboxes) = (Arc::new(Held::default()), Arc::new(Outboxes::default()));
        let first = outboxes.alone(run(1)).await;
        let (holding, waited) = (held.hold(vec![event(1)]), outboxes.clone());
        let next = tokio::spawn(async move { holding.watch(waited.alone(run(1))).await.is_some() });
        for _ in 0..10 * RENEWALS_MAX {
            tokio::time::sleep(Duration::from_secs(10)).await;
            first.moved();
            check(&held, Duration::ZERO, &[1], &[]);
        }
        drop(first);
        assert!(next.await.unwrap());
        assert!(outboxes.outboxes().is_empty());
    }

    #[tokio::test]
    async fn an_outbox_is_emptied_by_one_at_a_time_and_nothing_of_it_is_kept() {
        let outboxes = Arc::new(Outboxes::default());
        let run = run(1);
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
