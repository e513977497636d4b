//! Leaves in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    BackendError, Delivery, DeliveryId, Dispatch, Event, Lane, LaneOrder, Queue, Swept, WorkerId,
};
use celeriac_primitives::{Completion, Incarnation, Outcome, RunRef, TaskId, TaskMessage, When};
use tokio::time::Instant;

use crate::{Memory, after, lock};

/// The queues, and what workers hold of them.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    next: u64,
    queues: HashMap<Arc<str>, BTreeMap<Lane, VecDeque<Waiting>>>,
    leased: HashMap<u64, Lease>,
    /// Leaves whose time has not come, by when it comes.
    delayed: BTreeMap<(u64, u64), Delayed>,
    /// Attempts at leaves that have not begun and expire, by when they do.
    expiring: BTreeSet<(u64, Attempt)>,
}

/// An attempt at a leaf: the leaf, the incarnation of its run, and the number of the attempt.
type Attempt = (TaskId, Incarnation, u32);

type Delayed = (Arc<str>, Lane, Arc<TaskMessage>);

#[derive(Debug)]
struct Waiting {
    entry: u64,
    message: Arc<TaskMessage>,
    deliveries: u32,
}

#[derive(Debug)]
struct Lease {
    queue: Arc<str>,
    lane: Lane,
    worker: WorkerId,
    until: Instant,
    message: Arc<TaskMessage>,
    deliveries: u32,
}

impl Leaves {
    /// How many leaves wait, are leased, and how many timers there are.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let waiting = self.queues.values().flat_map(BTreeMap::values).map(VecDeque::len).sum();
        (waiting, self.leased.len(), self.delayed.len() + self.expiring.len())
    }

    fn push(&mut self, queue: &Arc<str>, lane: Lane, message: Arc<TaskMessage>) {
        self.next += 1;
        let waiting = Waiting { entry: self.next, message, deliveries: 0 };
        let lanes = match self.queues.get_mut(queue) {
            Some(lanes) => lanes,
            None => self.queues.entry(queue.clone()).or_default(),
        };
        lanes.entry(lane).or_default().push_back(waiting);
    }

    /// Takes the timers that are due: queues leaves, and returns what has expired.
    fn fire(&mut self, now_ms: u64) -> Vec<Attempt> {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now_ms) {
            let (queue, lane, message) = first.remove();
            self.push(&queue, lane, message);
        }
        let mut expired = Vec::new();
        while let Some((_, attempt)) = self.expiring.first().copied().filter(|first| first.0 <= now_ms) {
            self.expiring.pop_first();
            expired.push(attempt);
        }
        expired
    }

    /// When the next timer is due, in milliseconds since 1970.
    fn next_timer(&self) -> Option<u64> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        delayed.into_iter().chain(self.expiring.first().map(|first| first.0)).min()
    }

    fn take(
        &mut self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        max: usize,
        (lease, order): (Duration, LaneOrder),
    ) -> Vec<Delivery> {
        let until = after(lease);
        let mut taken = Vec::new();
        for name in queues {
            let Some(lanes) = self.queues.get_mut(name) else { continue };
            let count = lanes.len();
            for place in 0..count {
                let place = if order == LaneOrder::LastFirst { count - 1 - place } else { place };
                let Some((lane, waiting)) = lanes.iter_mut().nth(place) else { continue };
                let lane = *lane;
                while taken.len() < max
                    && let Some(Waiting { entry, message, deliveries }) = waiting.pop_front()
                {
                    let deliveries = deliveries + 1;
                    let held = Lease {
                        queue: name.clone(),
                        lane,
                        worker: worker.clone(),
                        until,
                        message: message.clone(),
                        deliveries,
                    };
                    self.leased.insert(entry, held);
                    let id = DeliveryId { queue: name.clone(), lane, entry: (0, entry) };
                    taken.push(Delivery { id, message, deliveries });
                }
            }
        }
        taken
    }

    /// Removes a delivery that is done with, also one that waits for another worker by now.
    fn remove(&mut self, id: &DeliveryId) {
        let entry = id.entry.1;
        if self.leased.remove(&entry).is_none()
            && let Some(queue) = self.queues.get_mut(&id.queue).and_then(|lanes| lanes.get_mut(&id.lane))
        {
            queue.retain(|waiting| waiting.entry != entry);
        }
    }

    /// Takes out all leaves of a run, also those that workers hold, and their timers.
    fn take_out(&mut self, run: RunRef) {
        let is_of = |leaf: &TaskMessage| leaf.run() == run;
        self.queues.values_mut().flat_map(BTreeMap::values_mut).for_each(|waiting| {
            waiting.retain(|waiting| !is_of(&waiting.message));
        });
        self.leased.retain(|_, held| !is_of(&held.message));
        self.delayed.retain(|_, (_, _, message)| !is_of(message));
        self.expiring.retain(|(_, (leaf, incarnation, _))| leaf.run().incarnation(*incarnation) != run);
    }

    /// Puts a leaf that was delivered before at the head of its queue.
    fn put_back(&mut self, entry: u64, lease: Lease) {
        let Lease { queue, lane, message, deliveries, .. } = lease;
        self.queues.entry(queue).or_default().entry(lane).or_default().push_front(Waiting {
            entry,
            message,
            deliveries,
        });
    }
}

fn attempt(leaf: &TaskMessage) -> Attempt {
    (leaf.task_id, leaf.incarnation, leaf.attempt)
}

impl Memory {
    /// Takes out all leaves of a run that was forgotten.
    pub(crate) fn take_out(&self, run: RunRef) {
        lock(&self.0.leaves).take_out(run);
    }

    /// Queues leaves and wakes workers; returns how many.
    pub(crate) fn enqueue(&self, dispatched: impl Iterator<Item = Dispatch>) -> usize {
        let mut leaves = lock(&self.0.leaves);
        let mut queued = 0;
        for leaf in dispatched {
            queued += 1;
            if let Some(expires_ms) = leaf.expires_ms() {
                leaves.expiring.insert((expires_ms, attempt(&leaf.message)));
            }
            let Dispatch { queue, lane, message, start, .. } = leaf;
            let due = start.and_then(|start| {
                let now_ms = self.0.clock.now_ms();
                Some(start.at_ms(now_ms)).filter(|due| *due > now_ms)
            });
            match due {
                Some(due) => {
                    leaves.next += 1;
                    let place = (due, leaves.next);
                    leaves.delayed.insert(place, (queue, lane, message));
                }
                None => leaves.push(&queue, lane, message),
            }
        }
        drop(leaves);
        self.0.leaves_came.notify_waiters();
        queued
    }
}

#[async_trait]
impl Queue for Memory {
    async fn receive(
        &self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        max: usize,
        lease: Duration,
        wait: Duration,
        order: LaneOrder,
    ) -> Result<Vec<Delivery>, BackendError> {
        let take = || lock(&self.0.leaves).take(worker, queues, max, (lease, order));
        Ok(crate::events::wait_for(&self.0.leaves_came, wait, take).await)
    }

    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError> {
        let mut leaves = lock(&self.0.leaves);
        for (id, _) in done {
            leaves.remove(id);
        }
        // Still under the lock: a leaf is acknowledged and reported, or neither.
        self.append(done.iter().map(|(_, completion)| Event::Completed(completion.clone())));
        Ok(())
    }

    async fn begin(&self, _: &DeliveryId, leaf: &TaskMessage) -> Result<bool, BackendError> {
        let Some(When::At(expires_ms)) = leaf.options.as_ref().and_then(|options| options.expires) else {
            return Ok(true);
        };
        lock(&self.0.leaves).expiring.remove(&(expires_ms, attempt(leaf)));
        Ok(self.0.clock.now_ms() < expires_ms)
    }

    async fn fire(&self) -> Result<Option<Duration>, BackendError> {
        let now_ms = self.0.clock.now_ms();
        let mut leaves = lock(&self.0.leaves);
        let waiting = leaves.next;
        let expired = leaves.fire(now_ms).into_iter();
        let outcome = Outcome::Expired;
        let completion = |(task_id, incarnation, attempt)| Completion {
            task_id,
            attempt,
            outcome: outcome.clone(),
            incarnation,
        };
        self.append(expired.map(|leaf| Event::Completed(completion(leaf))));
        let next = leaves.next_timer().map(|due| Duration::from_millis(due.saturating_sub(now_ms)));
        let has_come = leaves.next > waiting;
        drop(leaves);
        if has_come {
            self.0.leaves_came.notify_waiters();
        }
        Ok(next)
    }

    async fn postpone(
        &self,
        worker: &WorkerId,
        delivery: &DeliveryId,
        leaf: Arc<TaskMessage>,
        after: Duration,
    ) -> Result<(), BackendError> {
        let due = When::after(after).at_ms(self.0.clock.now_ms());
        let mut leaves = lock(&self.0.leaves);
        let entry = delivery.entry.1;
        if leaves.leased.get(&entry).is_some_and(|held| held.worker == *worker) {
            leaves.leased.remove(&entry);
            leaves.next += 1;
            let place = (due, leaves.next);
            leaves.delayed.insert(place, (delivery.queue.clone(), delivery.lane, leaf));
        }
        Ok(())
    }

    async fn renew(
        &self,
        worker: &WorkerId,
        deliveries: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError> {
        let until = after(lease);
        let mut leaves = lock(&self.0.leaves);
        for id in deliveries {
            if let Some(held) = leaves.leased.get_mut(&id.entry.1).filter(|held| held.worker == *worker) {
                held.until = until;
            }
        }
        Ok(())
    }

    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError> {
        let mut leaves = lock(&self.0.leaves);
        // Backwards, so that the first is at the head again.
        for id in deliveries.iter().rev() {
            let entry = id.entry.1;
            if leaves.leased.get(&entry).is_some_and(|held| held.worker == *worker) {
                let mut held = leaves.leased.remove(&entry).expect("it was just there");
                held.deliveries -= 1;
                leaves.put_back(entry, held);
            }
        }
        drop(leaves);
        self.0.leaves_came.notify_waiters();
        Ok(())
    }

    async fn retire(&self, _: &WorkerId, _: &[Arc<str>]) -> Result<(), BackendError> {
        Ok(())
    }

    async fn quiesce(&self) {}

    async fn sweep(&self, deliveries_max: u32) -> Result<Swept, BackendError> {
        self.sweep_events();
        let now = Instant::now();
        let mut swept = Swept { forgotten: self.forget_ended(now), ..Swept::default() };
        let mut leaves = lock(&self.0.leaves);
        let mut passed: Vec<u64> =
            leaves.leased.iter().filter(|(_, held)| held.until <= now).map(|(e, _)| *e).collect();
        passed.sort_unstable();
        for entry in passed.into_iter().rev() {
            let held = leaves.leased.remove(&entry).expect("it was just there");
            if held.deliveries < deliveries_max {
                swept.redelivered += 1;
                leaves.put_back(entry, held);
            } else {
                swept.lost += 1;
                let outcome = Outcome::WorkerLost { deliveries: held.deliveries };
                self.append([Event::Completed(held.message.completion(outcome))]);
            }
        }
        drop(leaves);
        self.0.leaves_came.notify_waiters();
        Ok(swept)
    }
}
