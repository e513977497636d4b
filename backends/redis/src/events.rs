//! Events in Redis: one line for all coordinators.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Event, EventDelivery, EventId, Events};
use celeriac_primitives::Completion;

use crate::RedisBackend;
use crate::lines::{self, Entry};

/// All coordinators are one consumer: whoever settles an event may acknowledge it.
const COORDINATORS: &str = "coordinators";

#[async_trait]
impl Events for RedisBackend {
    async fn events(
        &self,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<EventDelivery>, BackendError> {
        let line = [self.link().keys.events()].into();
        let taken =
            lines::take(self.link(), "events", &line, COORDINATORS.into(), max, (lease, wait)).await?;
        Ok(taken.iter().filter_map(delivery).collect())
    }

    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        let ids: Vec<_> = events.iter().map(|EventId(ms, sequence)| (*ms, *sequence)).collect();
        lines::acknowledge(self.link(), &self.link().keys.events(), &ids).await
    }
}

/// An event that cannot be read stays where it is: a program that can read it may come.
fn delivery(entry: &Entry) -> Option<EventDelivery> {
    let event = read(entry);
    if event.is_none() {
        tracing::error!(id = lines::print_id(entry.id), "an event cannot be read; it comes again");
    }
    Some(EventDelivery { id: EventId(entry.id.0, entry.id.1), event: event? })
}

fn read(entry: &Entry) -> Option<Event> {
    let submitted = entry.text("s");
    if !submitted.is_empty() {
        return submitted.parse().ok().map(Event::Submitted);
    }
    Some(Event::Completed(Completion {
        task_id: entry.text("t").parse().ok()?,
        attempt: entry.text("a").parse().ok()?,
        outcome: rmp_serde::from_slice(entry.field("o")).ok()?,
    }))
}
