//! Events in Redis: a line for the submissions, and one for the reports of each queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Event, EventDelivery, EventId, Events};

use crate::RedisBackend;
use crate::hints::Wait;
use crate::keys::{Line, read_run};
use crate::lines::{self, Entry};
use crate::queue::read_report;

/// All coordinators are one owner: whoever settles an event may acknowledge it.
const COORDINATORS: &str = "coordinators";

#[async_trait]
impl Events for RedisBackend {
    async fn events(
        &self,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<EventDelivery>, BackendError> {
        let link = self.link();
        let wait = Wait::new(vec![link.hints.keep(&link.keys.submissions().stream)], wait);
        let (channel, owner) = (link.keys.submissions().stream, Arc::<str>::from(COORDINATORS));
        loop {
            let hint = wait.hint();
            let count = || link.hints.count([channel.as_str()]);
            if !link.emptied.is_still_empty(&owner, count()) || wait.is_over() {
                let before = count();
                let sources: Arc<[Line]> = self.queues().sources(link).into();
                let taken = lines::take_now(link, "events", &sources, owner.clone(), max, lease).await?;
                link.emptied.note(&owner, before.filter(|_| taken.len() < max));
                if !taken.is_empty() || max == 0 {
                    return Ok(taken.iter().filter_map(delivery).collect());
                }
                // Nothing here; perhaps at a queue that somebody has begun to use.
                let (_, is_new) = self.queues().refresh(link, "events").await?;
                if is_new {
                    link.emptied.note(&owner, None);
                    continue;
                }
                if wait.is_over() {
                    return Ok(Vec::new());
                }
            }
            wait.next(hint).await;
            // With a hint or without one: look.
            link.emptied.note(&owner, None);
        }
    }

    async fn renew_events(&self, events: &[EventId], lease: Duration) -> Result<(), BackendError> {
        let sources = self.queues().sources(self.link());
        for (source, line) in sources.iter().enumerate() {
            let here = events.iter().filter(|event| event.source as usize == source);
            let ids: Vec<_> = here.map(|event| event.entry).collect();
            lines::renew(self.link(), "renew_events", line, COORDINATORS, &ids, lease).await?;
        }
        Ok(())
    }

    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        let sources = self.queues().sources(self.link());
        for (source, line) in sources.iter().enumerate() {
            let here = events.iter().filter(|event| event.source as usize == source);
            let ids: Vec<_> = here.map(|event| event.entry).collect();
            lines::acknowledge(self.link(), line, &ids).await?;
        }
        Ok(())
    }
}

/// An event that cannot be read stays where it is: a program that can read it may come.
fn delivery(entry: &Entry) -> Option<EventDelivery> {
    let event = read(entry);
    if event.is_none() {
        tracing::error!(id = lines::print_id(entry.id), "an event cannot be read; it comes again");
    }
    Some(EventDelivery { id: EventId { source: entry.line as u32, entry: entry.id }, event: event? })
}

fn read(entry: &Entry) -> Option<Event> {
    if entry.field == "s" {
        return read_run(&entry.value).map(Event::Submitted);
    }
    read_report(&entry.value).map(Event::Completed)
}
