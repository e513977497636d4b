//! Leaves in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    BackendError, Begin, Delivery, DeliveryId, Dispatch, Lane, LaneOrder, Queue, Swept, Take, WorkerId,
};
use celeriac_primitives::{Completion, Incarnation, Outcome, RunRef, TaskId, TaskMessage, When};
use foldhash::HashMap;
use tokio::time::Instant;

use crate::{Memory, after, lock};

/// The queues, and what workers hold of them.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    next: u64,
    queues: HashMap<Arc<str>, BTreeMap<Lane, Line>>,
    /// Leaves that are held, and those that were given back or taken up when their leases had passed.
    leased: HashMap<u64, Lease>,
    /// Leaves whose time has not come, by when it comes.
    delayed: BTreeMap<(u64, u64), Delayed>,
    /// Attempts at leaves that have not begun and expire, by when they do, and their lanes.
    expiring: BTreeMap<(u64, Attempt), Lane>,
}

/// An attempt at a leaf: the leaf, the incarnation of its run, and the number of the attempt.
type Attempt = (TaskId, Incarnation, u32);

type Delayed = (Arc<str>, Lane, Arc<TaskMessage>);

/// What waits in a lane.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(u64, Arc<TaskMessage>)>,
    /// What was handed back or has lost one worker, before new ones. Some may be gone, or held again, by now.
    again: VecDeque<u64>,
    /// Suspects, before all others. The same.
    apart: VecDeque<u64>,
}

#[derive(Debug)]
struct Lease {
    queue: Arc<str>,
    lane: Lane,
    /// Nobody when it was given back or taken up.
    worker: Option<WorkerId>,
    until: Instant,
    message: Arc<TaskMessage>,
    /// How often it has begun before.
    begun: u32,
    /// Whether it has begun this time; the first time nobody knows, and it counts as begun.
    begins: bool,
}

impl Lease {
    fn is_held_by(&self, worker: &WorkerId) -> bool {
        self.worker.as_ref() == Some(worker)
    }

    /// Whether its next delivery is one of a suspect.
    fn is_suspect(&self) -> bool {
        self.begun > 1
    }
}

/// Which delivery has begun a leaf that is to run once at most.
#[derive(Debug)]
pub(crate) struct Mark {
    attempt: u32,
    entry: u64,
    worker: WorkerId,
}

impl Mark {
    /// Whether it is of an earlier attempt.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.attempt < other.attempt
    }

    /// Whether another delivery of the same leaf may begin.
    pub(crate) fn allows(&self, other: &Self) -> Begin {
        match () {
            () if self.attempt != other.attempt || self.entry != other.entry => Begin::Gone,
            () if self.worker == other.worker => Begin::Run,
            () => Begin::Begun,
        }
    }
}

impl Leaves {
    /// How many leaves wait, are leased, how many timers and how many queues there are.
    pub(crate) fn census(&self) -> (usize, usize, usize, usize) {
        let waiting: usize =
            self.queues.values().flat_map(BTreeMap::values).map(|line| line.waiting.len()).sum();
        let held = self.leased.values().filter(|lease| lease.worker.is_some()).count();
        let apart = self.leased.len() - held;
        (waiting + apart, held, self.delayed.len() + self.expiring.len(), self.queues.len())
    }

    fn push(&mut self, queue: &Arc<str>, lane: Lane, message: Arc<TaskMessage>) {
        self.next += 1;
        let waiting = (self.next, message);
        let lanes = match self.queues.get_mut(queue) {
            Some(lanes) => lanes,
            None => self.queues.entry(queue.clone()).or_default(),
        };
        lanes.entry(lane).or_default().waiting.push_back(waiting);
    }

    /// Lanes and queues in which nothing waits go away.
    fn forget_empty(&mut self) {
        self.queues.retain(|_, lanes| {
            lanes.retain(|_, line| {
                !line.waiting.is_empty() || !line.again.is_empty() || !line.apart.is_empty()
            });
            !lanes.is_empty()
        });
    }

    /// Takes the timers that are due: queues leaves, and returns what has expired.
    fn fire(&mut self, now_ms: u64) -> Vec<(Lane, Attempt)> {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now_ms) {
            let (queue, lane, message) = first.remove();
            self.push(&queue, lane, message);
        }
        let mut expired = Vec::new();
        while let Some(first) = self.expiring.first_entry().filter(|first| first.key().0 <= now_ms) {
            let ((_, attempt), lane) = first.remove_entry();
            expired.push((lane, attempt));
        }
        expired
    }

    /// When the next timer is due, in milliseconds since 1970.
    fn next_timer(&self) -> Option<u64> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        let expiring = self.expiring.first_key_value().map(|((expires, _), _)| *expires);
        delayed.into_iter().chain(expiring).min()
    }

    fn take(&mut self, worker: &WorkerId, queues: &[Arc<str>], take: Take) -> Vec<Delivery> {
        let (max, until) = (take.max, after(take.lease));
        let mut taken: Vec<Delivery> = Vec::new();
        let mut suspects = take.suspects;
        for name in queues {
            let Some(lanes) = self.queues.get_mut(name) else { continue };
            let count = lanes.len();
            for place in 0..count {
                let place = if take.order == LaneOrder::LastFirst { count - 1 - place } else { place };
                let Some((lane, line)) = lanes.iter_mut().nth(place) else { continue };
                let delivery = |entry, message: &Arc<TaskMessage>, deliveries| Delivery {
                    id: DeliveryId { queue: name.clone(), lane: *lane, entry: (0, entry) },
                    message: message.clone(),
                    deliveries,
                };
                let mut take_again = |entry: u64| {
                    let lease = self.leased.get_mut(&entry).filter(|lease| lease.worker.is_none())?;
                    lease.worker = Some(worker.clone());
                    lease.until = until;
                    lease.begins = lease.begun == 0;
                    Some(delivery(entry, &lease.message, lease.begun + 1))
                };
                while suspects
                    && taken.len() < max
                    && let Some(entry) = line.apart.pop_front()
                {
                    let suspect = take_again(entry);
                    suspects = suspect.is_none();
                    taken.extend(suspect);
                }
                while taken.len() < max
                    && let Some(entry) = line.again.pop_front()
                {
                    taken.extend(take_again(entry));
                }
                while taken.len() < max
                    && let Some((entry, message)) = line.waiting.pop_front()
                {
                    taken.push(delivery(entry, &message, 1));
                    let (queue, lane, worker) = (name.clone(), *lane, Some(worker.clone()));
                    let lease = Lease { queue, lane, worker, until, message, begun: 0, begins: true };
                    self.leased.insert(entry, lease);
                }
            }
        }
        taken
    }

    /// Removes a delivery that is done with, also one that waits for another worker by now.
    fn remove(&mut self, id: &DeliveryId) {
        let entry = id.entry.1;
        if self.leased.remove(&entry).is_none()
            && let Some(line) = self.queues.get_mut(&id.queue).and_then(|lanes| lanes.get_mut(&id.lane))
        {
            line.waiting.retain(|(waiting, _)| *waiting != entry);
        }
    }

    /// Takes out all leaves of a run, also those that workers hold, and their timers.
    fn take_out(&mut self, run: RunRef) {
        let is_of = |leaf: &TaskMessage| leaf.run() == run;
        self.queues.values_mut().flat_map(BTreeMap::values_mut).for_each(|line| {
            line.waiting.retain(|(_, message)| !is_of(message));
        });
        self.leased.retain(|_, held| !is_of(&held.message));
        self.delayed.retain(|_, (_, _, message)| !is_of(message));
        self.expiring.retain(|(_, (leaf, incarnation, _)), _| leaf.run().incarnation(*incarnation) != run);
    }

    fn held_by(&mut self, worker: &WorkerId, id: &DeliveryId) -> Option<&mut Lease> {
        self.leased.get_mut(&id.entry.1).filter(|lease| lease.is_held_by(worker))
    }

    /// The line of a lane that is there, since something was taken from it.
    fn line(&mut self, queue: &Arc<str>, lane: Lane) -> &mut Line {
        self.queues.entry(queue.clone()).or_default().entry(lane).or_default()
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
                leaves.expiring.insert((expires_ms, attempt(&leaf.message)), leaf.lane);
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
        take: Take,
    ) -> Result<Vec<Delivery>, BackendError> {
        let taken = || lock(&self.0.leaves).take(worker, queues, take);
        Ok(crate::events::wait_for(&self.0.leaves_came, take.wait, taken).await)
    }

    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError> {
        let mut leaves = lock(&self.0.leaves);
        for (id, _) in done {
            leaves.remove(id);
        }
        // Still under the lock: a leaf is acknowledged and reported, or neither.
        self.report(done.iter().map(|(id, completion)| (id.lane, completion.clone())));
        Ok(())
    }

    async fn begin(&self, worker: &WorkerId, delivery: &Delivery, once: bool) -> Result<Begin, BackendError> {
        let mut leaves = lock(&self.0.leaves);
        let Some(lease) = leaves.held_by(worker, &delivery.id) else { return Ok(Begin::Gone) };
        lease.begins = true;
        let (leaf, expires) = (&delivery.message, delivery.message.options.as_ref().and_then(|o| o.expires));
        if let Some(When::At(expires_ms)) = expires {
            leaves.expiring.remove(&(expires_ms, attempt(leaf)));
            if self.0.clock.now_ms() >= expires_ms {
                return Ok(Begin::Expired);
            }
        }
        if !once {
            return Ok(Begin::Run);
        }
        let mark = Mark { attempt: leaf.attempt, entry: delivery.id.entry.1, worker: worker.clone() };
        // Who submits holds the lock of its run and wants this one.
        drop(leaves);
        let begin = self.mark(leaf.run(), leaf.task_id.node(), mark);
        if begin == Begin::Gone {
            lock(&self.0.leaves).remove(&delivery.id);
        }
        Ok(begin)
    }

    async fn fire(&self) -> Result<Option<Duration>, BackendError> {
        let now_ms = self.0.clock.now_ms();
        let mut leaves = lock(&self.0.leaves);
        let waiting = leaves.next;
        let expired = leaves.fire(now_ms).into_iter();
        let report = |(lane, (task_id, incarnation, attempt))| {
            (lane, Completion { task_id, attempt, outcome: Outcome::Expired, incarnation })
        };
        self.report(expired.map(report));
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
        if leaves.held_by(worker, delivery).is_some() {
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
            match leaves.leased.get_mut(&id.entry.1) {
                Some(lease) if lease.is_held_by(worker) => lease.until = until,
                // Taken up, and with nobody yet: whoever comes back keeps it.
                Some(lease) if lease.worker.is_none() && lease.begun > 0 => {
                    lease.worker = Some(worker.clone());
                    lease.until = until;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError> {
        let mut leaves = lock(&self.0.leaves);
        // Backwards, so that the first is at the head again.
        for id in deliveries.iter().rev() {
            let entry = id.entry.1;
            let Some(lease) = leaves.held_by(worker, id) else { continue };
            lease.worker = None;
            lease.begins = false;
            let is_suspect = lease.is_suspect();
            let line = leaves.line(&id.queue, id.lane);
            if is_suspect { line.apart.push_front(entry) } else { line.again.push_front(entry) }
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
        let is_over = |lease: &Lease| lease.worker.is_some() && lease.until <= now;
        let mut passed: Vec<u64> =
            leaves.leased.iter().filter(|(_, lease)| is_over(lease)).map(|(entry, _)| *entry).collect();
        passed.sort_unstable();
        for entry in passed {
            let lease = leaves.leased.get_mut(&entry).expect("it was just there");
            lease.begun += u32::from(std::mem::take(&mut lease.begins));
            if lease.begun < deliveries_max {
                swept.redelivered += 1;
                lease.worker = None;
                let (queue, lane, is_suspect) = (lease.queue.clone(), lease.lane, lease.is_suspect());
                let line = leaves.line(&queue, lane);
                if is_suspect { line.apart.push_back(entry) } else { line.again.push_back(entry) }
            } else {
                swept.lost += 1;
                let lease = leaves.leased.remove(&entry).expect("it was just there");
                let outcome = Outcome::WorkerLost { deliveries: lease.begun };
                self.report([(lease.lane, lease.message.completion(outcome))]);
            }
        }
        leaves.forget_empty();
        drop(leaves);
        self.0.leaves_came.notify_waiters();
        Ok(swept)
    }
}
