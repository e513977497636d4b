//! Events in memory.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Event, EventDelivery, EventId, Events, Lane, LaneOrder};
use celeriac_primitives::{Completion, RunRef};
use foldhash::HashSet;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Held, Log, Memory, Sent, after, lock};

impl Log {
    fn take(&mut self, max: usize, lease: Duration) -> Vec<EventDelivery> {
        let until = after(lease);
        let mut taken: Vec<EventDelivery> = Vec::new();
        while taken.len() < max
            && let Some((_, deliveries, _)) = self.apart.front()
            && taken.len() < EventDelivery::batch_max(deliveries + 1)
        {
            let (number, deliveries, sent) = self.apart.pop_front().expect("it was just there");
            taken.push(hold(&mut self.held, until, number, deliveries + 1, sent));
        }
        if taken.is_empty() {
            let order = LaneOrder::of(self.takes);
            self.takes += u64::from(!self.waiting.is_empty() && !self.bulk.is_empty());
            let Self { waiting, bulk, held, .. } = self;
            let mut lines = [waiting, bulk];
            if order == LaneOrder::LastFirst {
                lines.reverse();
            }
            for line in lines {
                let count = (max - taken.len()).min(line.len());
                if count > 0 {
                    let new = line.drain(..count);
                    taken.extend(new.map(|(number, sent)| hold(held, until, number, 1, sent)));
                }
            }
        }
        taken
    }
}

fn hold(held: &mut Held, until: Instant, number: u64, deliveries: u32, sent: Sent) -> EventDelivery {
    held.insert(number, (until, deliveries, sent.clone()));
    let (id, Sent { event, is_bulk }) = (EventId { source: 0, entry: (0, number) }, sent);
    EventDelivery { id, event, is_bulk, deliveries }
}

impl Memory {
    /// Adds an event and wakes coordinators.
    pub(crate) fn announce(&self, event: Event) {
        let mut log = lock(&self.0.events);
        log.next += 1;
        let number = log.next;
        log.waiting.push_back((number, Sent { event, is_bulk: false }));
        drop(log);
        self.0.events_came.notify_waiters();
    }

    /// Adds reports on leaves, each with its lane, and wakes coordinators.
    pub(crate) fn report(&self, reports: impl IntoIterator<Item = (Lane, Completion)>) {
        let mut log = lock(&self.0.events);
        for (lane, completion) in reports {
            log.next += 1;
            let sent = Sent { event: Event::Completed(completion), is_bulk: lane.is_bulk() };
            let (number, log) = (log.next, &mut *log);
            let line = if lane.is_bulk() { &mut log.bulk } else { &mut log.waiting };
            line.push_back((number, sent));
        }
        drop(log);
        self.0.events_came.notify_waiters();
    }

    pub(crate) fn acknowledge_now(&self, events: &[EventId]) {
        let mut log = lock(&self.0.events);
        for event in events {
            let number = event.entry.1;
            if log.held.remove(&number).is_none() {
                log.apart.retain(|(waiting, ..)| *waiting != number);
            }
        }
    }

    /// Puts events whose coordinator went away apart, to be taken before new ones.
    pub(crate) fn sweep_events(&self) {
        let now = Instant::now();
        let mut log = lock(&self.0.events);
        let mut passed: Vec<u64> =
            log.held.iter().filter(|(_, (until, ..))| *until <= now).map(|(n, _)| *n).collect();
        passed.sort_unstable();
        for number in passed {
            let (_, deliveries, sent) = log.held.remove(&number).expect("it was just there");
            log.apart.push_back((number, deliveries, sent));
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
            let number = event.entry.1;
            if let Some((held_until, ..)) = log.held.get_mut(&number) {
                *held_until = until;
            } else if let Some(place) = log.apart.iter().position(|(waiting, ..)| *waiting == number) {
                // Taken up, and with nobody yet: whoever comes back keeps it.
                let (number, deliveries, sent) = log.apart.remove(place).expect("it was just there");
                log.held.insert(number, (until, deliveries, sent));
            }
        }
        Ok(())
    }

    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        self.acknowledge_now(events);
        Ok(())
    }

    async fn hand_back_events(&self, events: &[EventId]) -> Result<(), BackendError> {
        self.hand_back_now(events);
        Ok(())
    }

    async fn set_aside(&self, event: &EventDelivery, reason: &str) -> Result<(), BackendError> {
        self.set_aside_now(event.id, reason);
        Ok(())
    }

    async fn announce_again(&self, runs: &[RunRef]) -> Result<usize, BackendError> {
        let known: HashSet<RunRef> = {
            let log = lock(&self.0.events);
            let waiting = log.waiting.iter().chain(&log.bulk).map(|(_, sent)| sent);
            let held = log.held.values().map(|(_, _, sent)| sent);
            let apart = log.apart.iter().map(|(_, _, sent)| sent);
            waiting.chain(held).chain(apart).map(|sent| sent.event.run()).collect()
        };
        let unheard: Vec<RunRef> = runs.iter().filter(|run| !known.contains(run)).copied().collect();
        unheard.iter().for_each(|run| self.announce(Event::Submitted(*run)));
        Ok(unheard.len())
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
