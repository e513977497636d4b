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
    /// Takes leaves from these queues, one queue after the other and each by its [`Lane`]s, each leaf leased
    /// to this worker; waits for the first. Of [suspects](Delivery::is_suspect) it takes one at most.
    ///
    /// Cancel safe: a future that is dropped has taken nothing.
    async fn receive(
        &self,
        worker: &WorkerId,
        queues: &[Arc<str>],
        take: Take,
    ) -> Result<Vec<Delivery>, BackendError>;

    /// Reports how deliveries ended and acknowledges them, both in one step for each.
    ///
    /// A delivery that was reclaimed or handed back meanwhile is reported all the same: the first report
    /// counts, later ones change nothing. Is it waiting for another worker, it does not come again.
    async fn finish(&self, done: &[(DeliveryId, Completion)]) -> Result<(), BackendError>;

    /// Notes that a leaf begins, and says whether it may. A worker asks before it runs a leaf that
    /// [has to be asked for](Delivery::must_ask), or that may run `once` at most; all others it just runs.
    ///
    /// What has begun does not expire any more. A leaf that has lost a worker is counted here, and not when
    /// it is taken. Who begins a leaf `once` leaves a mark at its run, and no other delivery of this attempt
    /// may begin.
    async fn begin(&self, worker: &WorkerId, delivery: &Delivery, once: bool) -> Result<Begin, BackendError>;

    /// Queues the leaves whose time has come, and ends those as
    /// [`Expired`](celeriac_primitives::Outcome::Expired) that have not started in time. Returns how long it
    /// is until the next, when there is one.
    async fn fire(&self) -> Result<Option<Duration>, BackendError>;

    /// Gives a delivery back with this in its place, to be queued in the same lane after a while; not
    /// counted. Nothing happens when the worker does not hold it any more.
    async fn postpone(
        &self,
        worker: &WorkerId,
        delivery: &DeliveryId,
        leaf: Arc<TaskMessage>,
        after: Duration,
    ) -> Result<(), BackendError>;

    /// Prolongs leases by `lease` from now. What was taken up and is not with another worker yet is held
    /// again.
    async fn renew(
        &self,
        worker: &WorkerId,
        deliveries: &[DeliveryId],
        lease: Duration,
    ) -> Result<(), BackendError>;

    /// Gives deliveries back to their queues at once; the next worker sees them as if they had not been
    /// delivered this time.
    async fn hand_back(&self, worker: &WorkerId, deliveries: &[DeliveryId]) -> Result<(), BackendError>;

    /// Notes that a worker is gone and holds nothing any more: the backend forgets it.
    async fn retire(&self, worker: &WorkerId, queues: &[Arc<str>]) -> Result<(), BackendError>;

    /// Waits until everything is given back that was taken for futures which were dropped meanwhile, of
    /// leaves and of events: the last thing to do before a process ends.
    async fn quiesce(&self);

    /// Takes up what lost its owner: leaves whose leases have passed wait apart as suspects, before all
    /// others of their queue; one that has begun `deliveries_max` times, the first delivery counted as begun,
    /// ends as [`WorkerLost`](celeriac_primitives::Outcome::WorkerLost) instead. Events whose leases have
    /// passed come again. Runs that have been kept for their time after their end are forgotten.
    ///
    /// Time in which the backend could not be reached from here does not count.
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
    /// How often it has begun when this delivery begins. The first delivery counts as begun once its worker
    /// is lost: nobody notes whether it had; later ones count when they begin.
    pub deliveries: u32,
}

impl Delivery {
    /// From this delivery on a leaf is a suspect.
    const SUSPECT_FROM: u32 = 3;

    /// Whether it has begun in several workers that were lost, and may be why. A worker has one such leaf at
    /// a time, and it is to run alone there.
    pub fn is_suspect(&self) -> bool {
        self.deliveries >= Self::SUSPECT_FROM
    }

    /// Whether a worker has to ask before it begins it: a worker that had it was lost, or it expires.
    pub fn must_ask(&self) -> bool {
        let expires = || self.message.options.as_ref().is_some_and(|options| options.expires.is_some());
        self.deliveries > 1 || expires()
    }
}

/// Whether a leaf may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Begin {
    /// It may; asking again gives the same answer.
    Run,
    /// Its time is over: it ends as [`Expired`](celeriac_primitives::Outcome::Expired).
    Expired,
    /// It was to run once at most, and has begun in a worker that is lost: it ends as
    /// [`WorkerLost`](celeriac_primitives::Outcome::WorkerLost).
    Begun,
    /// It is not this worker's any more, or nobody waits for it: nothing is to be reported.
    Gone,
}

/// How much a worker takes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Take {
    /// How many leaves at most. There may be fewer though there are more, when they are large.
    pub max: usize,
    /// How long it may hold them without renewing.
    pub lease: Duration,
    /// How long it waits for the first.
    pub wait: Duration,
    /// In which order the lanes of a queue are taken from.
    pub order: LaneOrder,
    /// Whether it takes a suspect.
    pub suspects: bool,
}

impl Take {
    /// Up to `max` leaves that are there now, a suspect among them, the lanes in their order.
    pub fn new(max: usize, lease: Duration) -> Self {
        Self { max, lease, wait: Duration::ZERO, order: LaneOrder::default(), suspects: true }
    }

    /// The same, waiting for the first.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The same, the lanes in this order.
    #[must_use]
    pub fn order(mut self, order: LaneOrder) -> Self {
        self.order = order;
        self
    }

    /// The same, with a suspect or without.
    #[must_use]
    pub fn suspects(mut self, suspects: bool) -> Self {
        self.suspects = suspects;
        self
    }
}

/// In which part of its queue a leaf waits. Lanes are in the order in which they are taken from: those of a
/// higher priority first, and of the same priority the one for leaves that came in small numbers before the
/// one for leaves that came in bulk, so that nobody waits behind a hundred thousand leaves of one run.
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

    /// Whether it is for leaves that came in bulk. Reports on them give way to others.
    pub fn is_bulk(self) -> bool {
        self.0 % 2 == 1
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
    /// The other way round. Now and then, so that a lane that never empties does not hold up those after it
    /// for ever.
    LastFirst,
}

impl LaneOrder {
    /// For the takes of one worker or coordinator, counted from 0: one in eight is the other way round.
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
