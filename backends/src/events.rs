//! What has happened, on its way to coordinators.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_primitives::{Completion, RunRef};

use crate::BackendError;

/// Carries events to coordinators. Any number of them may take events; an event that its
/// coordinator does not acknowledge within the lease comes again, to any of them.
#[async_trait]
pub trait Events {
    /// Takes up to `max` events; waits up to `wait` for the first. Those that come again come by
    /// themselves and in small numbers, from the fourth time on alone: one of them may be why
    /// their coordinator was lost.
    ///
    /// Reports on leaves in bulk give way to all other events, so that nobody's next step waits
    /// behind a hundred thousand reports of one run; as with lanes, one take in eight is the
    /// other way round.
    ///
    /// Cancel safe: a future that is dropped has taken nothing.
    async fn events(
        &self,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<EventDelivery>, BackendError>;

    /// Prolongs the leases of these events by `lease` from now: whoever works on them longer than
    /// he thought says so. What is acknowledged, or was given to another coordinator meanwhile,
    /// is left as it is.
    async fn renew_events(&self, events: &[EventId], lease: Duration) -> Result<(), BackendError>;

    /// Notes that all that follows from these events is done.
    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError>;

    /// Gives events back to be taken again, not counted: their coordinator is not the one to
    /// handle them.
    async fn hand_back_events(&self, events: &[EventId]) -> Result<(), BackendError>;

    /// For how long the oldest event is there that nobody has taken, by the clock of the store;
    /// `None` when there is none, or the backend does not know. Whoever says how a process is
    /// asks now and then: it has to be cheap, and may pass over some.
    async fn oldest_event(&self) -> Result<Option<Duration>, BackendError> {
        Ok(None)
    }

    /// Sets an event aside as a [dead letter](crate::DeadLetters), for this reason: nobody takes
    /// it again until somebody requeues it.
    async fn set_aside(&self, event: &EventDelivery, reason: &str) -> Result<(), BackendError>;

    /// Adds that they were submitted for those of these runs of which no event is there, neither
    /// waiting nor with a coordinator; returns how many. Adds none when there are too many events
    /// to look through.
    async fn announce_again(&self, runs: &[RunRef]) -> Result<usize, BackendError>;
}

/// Something a coordinator has to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run was stored, and its first leaves are in its outbox.
    Submitted(RunRef),
    /// A delivery ended.
    Completed(Completion),
}

/// One delivery of an event.
#[derive(Clone, Debug)]
pub struct EventDelivery {
    /// What to acknowledge.
    pub id: EventId,
    /// What has happened.
    pub event: Event,
    /// Whether it is a report on a leaf in bulk.
    pub is_bulk: bool,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
}

impl Event {
    /// The run that it is about.
    pub fn run(&self) -> RunRef {
        match self {
            Self::Submitted(run) => *run,
            Self::Completed(completion) => completion.run(),
        }
    }
}

impl EventDelivery {
    /// With how many others that came as often an event is taken at most.
    pub fn batch_max(deliveries: u32) -> usize {
        match deliveries {
            0 | 1 => usize::MAX,
            2 => 64,
            3 => 8,
            _ => 1,
        }
    }
}

/// Names an event to the backend object that handed it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// Where it came from, by the backend's own count.
    pub source: u32,
    /// The place there: the two halves of a Redis stream id.
    pub entry: (u64, u64),
}
