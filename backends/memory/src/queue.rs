//! Leaves in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Delivery, DeliveryId, Dispatch, Event, Queue, Swept, WorkerId};
use celeriac_primitives::{Completion, Outcome, TaskMessage};
use tokio::time::Instant;

use crate::{Memory, after, lock};

/// The queues, and what workers hold of them.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    next: u64,
    queues: HashMap<Arc<str>, VecDeque<Waiting>>,
    leased: HashMap<u64, Lease>,
}

#[derive(Debug)]
struct Waiting {
    entry: u64,
    message: Arc<TaskMessage>,
    deliveries: u32,
}

#[derive(Debug)]
struct Lease {
    queue: Arc<str>,
    worker: WorkerId,
    until: Instant,
    message: Arc<TaskMessage>,
    deliveries: u32,
}

impl Leaves {
    pub(crate) fn census(&self) -> (usize, usize) {
        (self.queues.values().map(VecDeque::len).sum(), self.leased.len())
    }

    fn take(&mut self, worker: &WorkerId, queues: &[Arc<str>], max: usize, lease: Duration) -> Vec<Delivery> {
        let until = after(lease);
        let mut taken = Vec::new();
        for name in queues {
            let Some(queue) = self.queues.get_mut(name) else { continue };
            while taken.len() < max
                && let Some(Waiting { entry, message, deliveries }) = queue.pop_front()
            {
                let deliveries = deliveries + 1;
                let held = Lease {
                    queue: name.clone(),
                    worker: worker.clone(),
                    until,
                    message: message.clone(),
                    deliveries,
                };
                self.leased.insert(entry, held);
                let id = DeliveryId { queue: name.clone(), entry: (0, entry) };
                taken.push(Delivery { id, message, deliveries });
            }
        }
        taken
    }

    /// Removes a delivery that is done with, also one that waits for another worker by now.
    fn remove(&mut self, id: &DeliveryId) {
        let entry = id.entry.1;
        if self.leased.remove(&entry).is_none()
            && let Some(queue) = self.queues.get_mut(&id.queue)
        {
            queue.retain(|waiting| waiting.entry != entry);
        }
    }

    /// Puts a leaf that was delivered before at the head of its queue.
    fn put_back(&mut self, entry: u64, lease: Lease) {
        let Lease { queue, message, deliveries, .. } = lease;
        self.queues.entry(queue).or_default().push_front(Waiting { entry, message, deliveries });
    }
}

impl Memory {
    /// Queues leaves and wakes workers; returns how many.
    pub(crate) fn enqueue(&self, dispatched: impl Iterator<Item = Dispatch>) -> usize {
        let mut leaves = lock(&self.0.leaves);
        let before = leaves.next;
        for Dispatch { queue, message, .. } in dispatched {
            leaves.next += 1;
            let waiting = Waiting { entry: leaves.next, message, deliveries: 0 };
            match leaves.queues.get_mut(&queue) {
                Some(queue) => queue.push_back(waiting),
                None => drop(leaves.queues.insert(queue, VecDeque::from([waiting]))),
            }
        }
        let queued = leaves.next - before;
        drop(leaves);
        self.0.leaves_came.notify_waiters();
        queued as usize
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
    ) -> Result<Vec<Delivery>, BackendError> {
        let take = || lock(&self.0.leaves).take(worker, queues, max, lease);
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
                let TaskMessage { task_id, attempt, .. } = *held.message;
                self.append([Event::Completed(Completion { task_id, attempt, outcome })]);
            }
        }
        drop(leaves);
        self.0.leaves_came.notify_waiters();
        Ok(swept)
    }
}
