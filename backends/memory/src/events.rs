//! Events in memory.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Event, EventDelivery, EventId, Events};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Log, Memory, after, lock};

impl Log {
    fn take(&mut self, max: usize, lease: Duration) -> Vec<EventDelivery> {
        let until = after(lease);
        let count = max.min(self.waiting.len());
        let mut taken = Vec::with_capacity(count);
        for (number, event) in self.waiting.drain(..count) {
            self.held.insert(number, (until, event.clone()));
            taken.push(EventDelivery { id: EventId { source: 0, entry: (0, number) }, event });
        }
        taken
    }
}

impl Memory {
    /// Adds events and wakes coordinators.
    pub(crate) fn append(&self, events: impl IntoIterator<Item = Event>) {
        let mut log = lock(&self.0.events);
        for event in events {
            log.next += 1;
            let number = log.next;
            log.waiting.push_back((number, event));
        }
        drop(log);
        self.0.events_came.notify_waiters();
    }

    pub(crate) fn acknowledge_now(&self, events: &[EventId]) {
        let mut log = lock(&self.0.events);
        for event in events {
            log.held.remove(&event.entry.1);
        }
    }

    /// Puts events whose coordinator went away back to the head.
    pub(crate) fn sweep_events(&self) {
        let now = Instant::now();
        let mut log = lock(&self.0.events);
        let mut passed: Vec<u64> =
            log.held.iter().filter(|(_, (until, _))| *until <= now).map(|(n, _)| *n).collect();
        passed.sort_unstable();
        for number in passed.into_iter().rev() {
            let (_, event) = log.held.remove(&number).expect("it was just there");
            log.waiting.push_front((number, event));
        }
        drop(log);
        self.0.events_came.notify_waiters();
    }
}

#[async_trait]
impl Events for Memory {
    async fn events(
        &self,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<EventDelivery>, BackendError> {
        Ok(wait_for(&self.0.events_came, wait, || lock(&self.0.events).take(max, lease)).await)
    }

    async fn renew_events(&self, events: &[EventId], lease: Duration) -> Result<(), BackendError> {
        let until = after(lease);
        let mut log = lock(&self.0.events);
        for event in events {
            if let Some((held_until, _)) = log.held.get_mut(&event.entry.1) {
                *held_until = until;
            }
        }
        Ok(())
    }

    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        self.acknowledge_now(events);
        Ok(())
    }
}

/// Takes something, waiting up to `wait` for the first to come.
pub(crate) async fn wait_for<T>(came: &Notify, wait: Duration, mut take: impl FnMut() -> Vec<T>) -> Vec<T> {
    let deadline = after(wait);
    loop {
        // Listen first, then look: what comes in between is not missed.
        let notified = came.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        let taken = take();
        if !taken.is_empty() || tokio::time::timeout_at(deadline, notified).await.is_err() {
            return taken;
        }
    }
}
