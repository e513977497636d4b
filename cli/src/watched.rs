//! A backend that notes whether it answers.
//!
//! Each part of a process gets one of its own: what a worker is asked must not hide that a coordinator hears
//! nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    Advance, Advanced, Backend, BackendError, Begin, DeadLetter, DeadLetters, Delivery, DeliveryId, Dispatch,
    ErrorKind, EventDelivery, EventId, Events, Grown, Known, LetterId, NewRun, Origin, Progress, Queue,
    Requeued, RunStatus, Store, Submitted, Swept, Take, WorkerId,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::{Plan, Release};
use celeriac_primitives::{Completion, NodeNo, RunId, RunRef, Stored, TaskId, TaskMessage};
use tokio::time::Instant;

/// Passes everything on.
#[derive(Debug)]
pub(crate) struct Watched {
    backend: Arc<dyn Backend>,
    pulse: Mutex<Pulse>,
    /// What it refuses, by operation, and when it did so last. That another one succeeds says nothing of it.
    denied: Mutex<BTreeMap<&'static str, (Instant, String)>>,
    #[cfg(test)]
    panics: bool,
}

/// What is refused is asked for again sooner than that, as long as somebody needs it.
const DENIED_FOR: Duration = Duration::from_secs(10);

/// When the backend has answered, and when it has not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    answered: Instant,
    /// Since when it does not, and why.
    failing: Option<(Instant, ErrorKind)>,
}

impl Watched {
    /// This backend, which has just answered.
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        let pulse = Pulse { answered: Instant::now(), failing: None };
        Self {
            backend,
            pulse: Mutex::new(pulse),
            denied: Mutex::default(),
            #[cfg(test)]
            panics: false,
        }
    }

    /// The same, which panics with every answer.
    #[cfg(test)]
    pub(crate) fn panicking(backend: Arc<dyn Backend>) -> Self {
        Self { panics: true, ..Self::new(backend) }
    }

    /// Why nothing can be taken from the backend, if so. Whoever takes asks at least every `silence`,
    /// answered or not.
    pub(crate) fn complaint(&self, silence: Duration) -> Option<String> {
        {
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            denied.retain(|_, (last, _)| last.elapsed() < DENIED_FOR);
            if let Some((_, text)) = denied.values().next() {
                return Some(text.clone());
            }
        }
        let Pulse { answered, failing } = *self.pulse();
        match failing {
            Some((since, kind)) => Some(format!("{kind} (for {} s)", since.elapsed().as_secs())),
            None if answered.elapsed() > silence => {
                Some(format!("the backend has not answered for {} s", answered.elapsed().as_secs()))
            }
            None => None,
        }
    }

    /// Notes whether the backend has answered. A refusal of one run is an answer.
    fn note<T>(&self, operation: &'static str, answer: Result<T, BackendError>) -> Result<T, BackendError> {
        #[cfg(test)]
        assert!(!self.panics, "one too many");
        self.note_denied(operation, answer.as_ref().err());
        let mut pulse = self.pulse();
        match &answer {
            Err(error) if error.kind == ErrorKind::Unavailable => {
                let since = pulse.failing.map_or_else(Instant::now, |(since, _)| since);
                pulse.failing = Some((since, error.kind));
            }
            _ => *pulse = Pulse { answered: Instant::now(), failing: None },
        }
        drop(pulse);
        answer
    }

    fn note_denied(&self, operation: &'static str, error: Option<&BackendError>) {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if error.kind == ErrorKind::Denied => {
                denied.insert(operation, (Instant::now(), error.to_string()));
            }
            // As a rule there is nothing.
            _ if denied.is_empty() => {}
            _ => drop(denied.remove(operation)),
        }
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some methods as they are, and methods that only note what they pass on.
macro_rules! watched {
    ($trait:ident { $($as_it_is:item)* } and {
        $($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*
    }) => {
        #[async_trait]
        impl $trait for Watched {
            $($as_it_is)*
            $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, BackendError> {
                self.note(stringify!($name), self.backend.$name($($arg),*).await)
            })*
        }
    };
}

watched!(Store {
    fn plan_at_hand(&self, run: RunRef) -> Option<Arc<Plan>> {
        self.backend.plan_at_hand(run)
    }

    fn inline_bytes_max(&self) -> usize {
        self.backend.inline_bytes_max()
    }

    /// That somebody asks for health is no sign of it.
    async fn strain(&self) -> Result<Option<String>, BackendError> {
        self.backend.strain().await
    }
} and {
    submit(run: NewRun) -> Submitted;
    find(id: RunId) -> Option<(RunRef, Arc<Plan>)>;
    plan(run: RunRef) -> Option<Arc<Plan>>;
    settle(batch: &[Advance]) -> Vec<Result<Advanced, BackendError>>;
    outbox(run: RunRef) -> Vec<Release>;
    owing(max: usize) -> Vec<RunRef>;
    known(run: RunRef, nodes: &[NodeNo], scopes: &[ScopeNo]) -> Option<Known>;
    dispatch(run: RunRef, leaves: &[Dispatch]) -> usize;
    claim_outbox(run: RunRef, holder: u64, lease: Duration) -> bool;
    free_outbox(run: RunRef, holder: u64) -> ();
    note_progress(reports: &[Progress]) -> ();
    progress(run: RunRef, nodes: &[NodeNo]) -> Vec<Progress>;
    now() -> u64;
    status(id: RunId) -> Option<RunStatus>;
    changed(run: RunRef, since: u64, timeout: Duration) -> Option<RunStatus>;
    decided(run: RunRef, nodes: &[NodeNo], timeout: Duration) -> Option<(RunStatus, Known)>;
    phases(run: RunRef) -> Option<Vec<Phase>>;
    list(before: Option<RunId>, max: usize) -> Vec<RunId>;
    grow(root: RunRef, segment: RunId, nodes: usize, nodes_max: usize) -> Grown;
    segments(run: RunRef) -> Vec<RunId>;
    origin(run: RunRef) -> Option<Origin>;
    keep(value: &Stored, text: &str) -> bool;
    fetch(value: &Stored, out: &mut Vec<u8>) -> bool;
    discard(leaf: TaskId, value: &Stored) -> ();
    forget(run: RunRef) -> bool;
});

watched!(Events {
    /// Nor is this.
    async fn oldest_event(&self) -> Result<Option<Duration>, BackendError> {
        self.backend.oldest_event().await
    }
} and {
    events(max: usize, lease: Duration, wait: Duration) -> Vec<EventDelivery>;
    renew_events(events: &[EventId], lease: Duration) -> ();
    acknowledge(events: &[EventId]) -> ();
    hand_back_events(events: &[EventId]) -> ();
    set_aside(event: &EventDelivery, reason: &str) -> ();
    announce_again(runs: &[RunRef]) -> usize;
});

watched!(DeadLetters {} and {
    dead_letters(after: Option<LetterId>, max: usize) -> Vec<DeadLetter>;
    requeue(letter: LetterId) -> Requeued;
    drop_letter(letter: LetterId) -> bool;
});

watched!(Queue {
    async fn quiesce(&self) {
        self.backend.quiesce().await;
    }
} and {
    receive(worker: &WorkerId, queues: &[Arc<str>], take: Take) -> Vec<Delivery>;
    finish(done: &[(DeliveryId, Completion)]) -> ();
    begin(worker: &WorkerId, delivery: &Delivery, once: bool) -> Begin;
    fire() -> Option<Duration>;
    postpone(worker: &WorkerId, delivery: &DeliveryId, leaf: Arc<TaskMessage>, after: Duration) -> ();
    renew(worker: &WorkerId, deliveries: &[DeliveryId], lease: Duration) -> ();
    hand_back(worker: &WorkerId, deliveries: &[DeliveryId]) -> ();
    retire(worker: &WorkerId, queues: &[Arc<str>]) -> ();
    sweep(deliveries_max: u32) -> Swept;
});

#[cfg(test)]
mod tests {
    use celeriac_memory::Memory;

    use super::*;

    fn watched() -> Watched {
        Watched::new(Arc::new(Memory::new()))
    }

    fn fails(kind: ErrorKind) -> Result<(), BackendError> {
        Err(BackendError::new(kind, "receive"))
    }

    const SILENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_told_until_it_answers_again() {
        let watched = watched();
        assert_eq!(watched.complaint(SILENCE), None);
        let _ = watched.note("receive", fails(ErrorKind::Unavailable));
        tokio::time::advance(Duration::from_secs(7)).await;
        let _ = watched.note("receive", fails(ErrorKind::Unavailable));
        assert_eq!(watched.complaint(SILENCE).unwrap(), "the backend cannot be reached (for 7 s)");
        watched.sweep(1).await.unwrap();
        assert_eq!(watched.complaint(SILENCE), None);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(watched.complaint(SILENCE).unwrap(), "the backend has not answered for 61 s");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_told_whatever_else_succeeds_until_it_is_taken_again() {
        let watched = watched();
        let refused = || {
            let error = BackendError::new(ErrorKind::Denied, "finish").context("may not run 'xadd'");
            Err::<(), _>(error)
        };
        let _ = watched.note("finish", refused());
        watched.sweep(1).await.unwrap();
        let complaint = watched.complaint(SILENCE).unwrap();
        assert!(complaint.contains("finish failed (may not run 'xadd')"), "{complaint}");
        let _ = watched.note("finish", Ok(()));
        assert_eq!(watched.complaint(SILENCE), None);
        let _ = watched.note("finish", refused());
        tokio::time::advance(DENIED_FOR).await;
        assert_eq!(watched.complaint(SILENCE), None, "nobody asks for it any more");
    }

    #[tokio::test]
    async fn a_broken_run_is_no_outage() {
        let watched = watched();
        let _ = watched.note("receive", fails(ErrorKind::Corrupt));
        assert_eq!(watched.complaint(SILENCE), None);
    }
}
