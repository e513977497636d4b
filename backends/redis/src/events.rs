//! Events in Redis: a line for the submissions, and one for the reports of each queue.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Event, EventDelivery, EventId, Events};

use crate::RedisBackend;
use crate::hints::{POLL, POLL_LIVE, Wait};
use crate::keys::{Line, read_run};
use crate::lines::{self, Entry, Suspects};
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
        let wait = Wait::new(vec![link.hints.keep(&link.keys.submission_stream())], wait);
        let (channel, owner) = (link.keys.submission_stream(), Arc::<str>::from(COORDINATORS));
        let nobody = Arc::default();
        loop {
            let hint = wait.hint();
            let count = || link.hints.count([channel.as_str()]);
            if !link.emptied.is_still_empty(&owner, count(), Suspects::Batch) || wait.is_over() {
                let before = count();
                let sources = self.sources_now().await?;
                let what = (max, Suspects::Batch);
                let (taken, more, _) =
                    lines::take_now(link, "events", &sources.lines, owner.clone(), what, lease, &nobody)
                        .await?;
                let is_all = !more;
                link.emptied.note(&owner, before.filter(|_| is_all), Suspects::Batch);
                let is_idle = taken.is_empty() && max > 0;
                let is_more = is_all && {
                    let gave: HashSet<u32> = taken.iter().map(|entry| sources.numbers[entry.line]).collect();
                    self.emptied(&sources, |number| !gave.contains(&number), is_idle).await?
                };
                if is_more {
                    link.emptied.forget(&owner);
                }
                if !is_idle {
                    let number = |entry: &Entry| sources.numbers[entry.line];
                    return Ok(taken.iter().filter_map(|entry| delivery(entry, number(entry))).collect());
                }
                // Nothing here; perhaps at a queue of which nothing was heard.
                if is_more {
                    continue;
                }
                if wait.is_over() {
                    return Ok(Vec::new());
                }
            }
            let poll = match count() {
                Some(_) if !link.is_cluster() => POLL_LIVE,
                _ => POLL,
            };
            wait.next(hint, poll).await;
            // With a hint or without one: look.
            link.emptied.forget(&owner);
        }
    }

    async fn renew_events(&self, events: &[EventId], lease: Duration) -> Result<(), BackendError> {
        for (line, ids) in self.by_line(events) {
            lines::renew(self.link(), "renew_events", &line, COORDINATORS, &ids, lease).await?;
        }
        Ok(())
    }

    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        for (line, ids) in self.by_line(events) {
            lines::acknowledge(self.link(), &line, &ids).await?;
        }
        Ok(())
    }
}

impl RedisBackend {
    /// Events by the lines they came from. The line of a queue that is gone has none of them any more.
    fn by_line(&self, events: &[EventId]) -> Vec<(Line, Vec<(u64, u64)>)> {
        let mut sources: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for event in events {
            sources.entry(event.source).or_default().push(event.entry);
        }
        sources.into_iter().filter_map(|(source, ids)| Some((self.line_of(source)?, ids))).collect()
    }
}

/// An event that cannot be read stays where it is: a program that can read it may come.
fn delivery(entry: &Entry, source: u32) -> Option<EventDelivery> {
    let event = read(entry);
    if event.is_none() {
        tracing::error!(id = lines::print_id(entry.id), "an event cannot be read; it comes again");
    }
    let id = EventId { source, entry: entry.id };
    Some(EventDelivery { id, event: event?, deliveries: entry.deliveries })
}

fn read(entry: &Entry) -> Option<Event> {
    if entry.field == "s" {
        return read_run(&entry.value).map(Event::Submitted);
    }
    read_report(&entry.value).map(Event::Completed)
}
