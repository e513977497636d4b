//! Leaves on their way to workers, and completions on their way back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_primitives::{Completion, TaskMessage};

use crate::BackendError;

/// Carries leaves to workers. At least once: a delivery that is neither finished nor renewed comes again.
#[async_trait]
pub trait Queue {
    /// Takes up to `max` leaves from these queues, one queue after the other and each by its [`Lane`]s in this order, each leaf leased
    /// to this worker; waits up to `wait` for the first.
    ///
    /// Cancel safe: a future that is dropped has taken nothing.
    async fn receive(
        &self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        max: usize,
        lease: Duration,
        wait: Duration,
        order: LaneOrder,
    ) -> Result<Vec<Delivery>, BackendError>;

    /// Reports how deliveries ended and acknowledges them, both in one step for each.
    ///
    /// A delivery that was reclaimed or handed back meanwhile is reported all the same: the first report counts, later
    /// ones change nothing. Is it waiting for another worker, it does not come again.
    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError>;

    /// Whether a leaf that expires may start: `false` when its time is over. What starts does not expire any more.
    async fn begin(&self, delivery: &DeliveryId, leaf: &TaskMessage) -> Result<bool, BackendError>;

    /// Queues the leaves whose time has come, and ends those as [`Expired`](celeriac_primitives::Outcome::Expired) that
    /// have not started in time. Returns how long it is until the next, when there is one.
    async fn fire(&self) -> Result<Option<Duration>, BackendError>;

    /// Gives a delivery back with this in its place, to be queued in the same lane after a while; not counted. Nothing
    /// happens when the worker does not hold it any more.
    async fn postpone(
        &self,
        worker: &WorkerId,
        delivery: &DeliveryId,
        leaf: Arc<TaskMessage>,
        after: Duration,
    ) -> Result<(), BackendError>;

    /// Prolongs leases by `lease` from now.
    async fn renew(
        &self,
        worker: &WorkerId,
        deliveries: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError>;

    /// Gives deliveries back to their queues at once; the next worker sees them as if they had not been delivered.
    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError>;

    /// Notes that a worker is gone and holds nothing any more: the backend forgets it.
    async fn retire(&self, worker: &WorkerId, queues: &[Arc<str>]) -> Result<(), BackendError>;

    /// Waits until everything is given back that was taken for futures which were dropped meanwhile, of leaves and of
    /// events: the last thing to do before a process ends.
    async fn quiesce(&self);

    /// Takes up what lost its owner: leases that have passed go back to the head of their queues; a leaf that was
    /// delivered `deliveries_max` times ends as [`WorkerLost`](celeriac_primitives::Outcome::WorkerLost) instead.
    /// Runs that have been kept for their time after their end are forgotten.
    async fn sweep(&self, deliveries_max: u32) -> Result<Swept, BackendError>;
}

/// The unique name of a worker process, or of a worker in a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// A name that no other worker has.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One delivery of a leaf to a worker.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to finish, renew or hand back.
    pub id: DeliveryId,
    /// The leaf.
    pub message: Arc<TaskMessage>,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
}

/// In which part of its queue a leaf waits. Lanes are in the order in which they are taken from: those of a higher
/// priority first, and of the same priority the one for leaves that came in small numbers before the one for leaves that
/// came in bulk, so that nobody waits behind a hundred thousand leaves of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(u8);

impl Lane {
    /// The lane for a priority from 0 to 9.
    pub fn new(priority: u8, is_bulk: bool) -> Self {
        Self((9 - priority.min(9)) * 2 + u8::from(is_bulk))
    }

    /// Its place among the lanes: 0 is the first.
    pub fn place(self) -> u8 {
        self.0
    }

    /// The lane at a place.
    pub fn at(place: u8) -> Option<Self> {
        (place < 20).then_some(Self(place))
    }
}

/// In which order the lanes of a queue are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneOrder {
    /// As they are.
    #[default]
    FirstFirst,
    /// The other way round. Now and then, so that a lane that never empties does not hold up those after it for ever.
    LastFirst,
}

impl LaneOrder {
    /// For the receives of one worker, counted from 0: one in eight is the other way round.
    pub fn of(receive: u64) -> Self {
        if receive % 8 == 7 { Self::LastFirst } else { Self::FirstFirst }
    }
}

impl Default for Lane {
    /// Priority 0, small numbers.
    fn default() -> Self {
        Self::new(0, false)
    }
}

/// Names a delivery: its queue and its place there. The two numbers are the halves of a Redis stream id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// The queue.
    pub queue: Arc<str>,
    /// Which part of it.
    pub lane: Lane,
    /// The place: milliseconds, then a sequence number.
    pub entry: (u64, u64),
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leaves that go to another worker.
    pub redelivered: usize,
    /// Leaves that were given up.
    pub lost: usize,
    /// Runs that were forgotten because their time was over.
    pub forgotten: usize,
}
