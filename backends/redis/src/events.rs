//! Events in Redis: a line for the submissions, and one for the reports of each queue.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Event, EventDelivery, EventId, Events};
use celeriac_primitives::RunRef;
use tokio::time::Instant;

use crate::RedisBackend;
use crate::connection::GROUP;
use crate::early::{Begin, News};
use crate::envelope::{self, Unreadable};
use crate::error::First;
use crate::hints::{POLL, POLL_LIVE, Wait};
use crate::keys::{Line, read_run};
use crate::lines::{self, Entry, Suspects, Taken};
use crate::queue::read_report;
use crate::queues::Named;
use crate::reports::Sources;
use crate::scripts::AGE;

/// So many events of so many queues are looked through for those of a run, so many at once.
const EVENTS_MAX: usize = 2000;
const LINES_MAX: usize = 1000;
const EVENTS_AT_ONCE: usize = 100;

/// The age of the oldest event is looked for in so many lines.
const OLDEST_AMONG: usize = 50;

/// Of an entry of a stream.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

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
            let is_still_empty = || link.emptied.is_still_empty(&owner, count(), Suspects::Batch);
            // What was told before it is held has to be taken, and now and then all is.
            let looks = !is_still_empty() || self.early().is_any() || link.emptied.age(&owner) >= POLL;
            if !looks {
                let told = self.told(max, &owner);
                if !told.is_empty() {
                    return Ok(told);
                }
            }
            // So it is with what was told too long ago.
            if looks || wait.is_over() || !is_still_empty() {
                let (before, since) = (count(), Instant::now());
                let sources = self.sources_now().await?;
                let what = (max, Suspects::Batch);
                let mut taken =
                    lines::take_now(link, "events", &sources.lines, owner.clone(), what, lease, &nobody)
                        .await?;
                self.note_taken(&mut taken, &sources);
                let is_all = !taken.more;
                if is_all {
                    self.early().all_taken(&sources.numbers, since);
                }
                link.emptied.note(&owner, before.filter(|_| is_all), Suspects::Batch);
                let is_idle = taken.entries.is_empty() && max > 0;
                let is_more = is_all && {
                    let gave: HashSet<u32> =
                        taken.entries.iter().map(|entry| sources.numbers[entry.line]).collect();
                    self.emptied(&sources, |number| !gave.contains(&number), is_idle).await?
                };
                if is_more {
                    link.emptied.forget(&owner);
                }
                if !is_idle {
                    let taken = taken.keep();
                    return Ok(taken
                        .iter()
                        .filter_map(|entry| self.read_event(entry, &sources, lease))
                        .collect());
                }
                // Nothing here; perhaps at a queue of which nothing was heard. Or all was given already.
                if is_more || !is_all {
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
            // With a hint or without one: look, unless all that has come came with its hint.
            if !link.hints.has_early() {
                link.emptied.forget(&owner);
            }
        }
    }

    async fn renew_events(&self, events: &[EventId], lease: Duration) -> Result<(), BackendError> {
        let mut first = First::default();
        for (line, ids) in self.by_line(events) {
            first.of(lines::renew(self.link(), "renew_events", &line, COORDINATORS, &ids, lease).await);
        }
        first.into_result()
    }

    async fn acknowledge(&self, events: &[EventId]) -> Result<(), BackendError> {
        let mut first = First::default();
        for (line, ids) in self.by_line(events) {
            first.of(lines::acknowledge(self.link(), &line, &ids).await);
        }
        first.into_result()?;
        self.early().done(events);
        Ok(())
    }

    async fn hand_back_events(&self, events: &[EventId]) -> Result<(), BackendError> {
        // What was not taken is there for the next one.
        self.early().done(events);
        let mut first = First::default();
        for (line, ids) in self.by_line(events) {
            let ids: Vec<_> = ids.into_iter().map(|id| (0, id)).collect();
            let here = std::slice::from_ref(&line);
            first.of(lines::hand_back(self.link(), "hand_back_events", here, COORDINATORS, &ids).await);
            lines::note_reports(self.link(), std::iter::once(&line)).await;
        }
        first.into_result()
    }

    async fn oldest_event(&self) -> Result<Option<Duration>, BackendError> {
        let link = self.link();
        let mut streams = vec![link.keys.submission_stream()];
        if link.is_cluster() {
            let queues = self.queues().all(link, "oldest_event").await?;
            let reports =
                queues.iter().flat_map(Named::reports).map(|reports| link.keys.reports(&reports).stream);
            streams.extend(reports.take(OLDEST_AMONG));
        } else {
            // Those that may have something.
            let mut cmd = redis::cmd("ZRANGE");
            cmd.arg(link.keys.report_index()).arg(0).arg(OLDEST_AMONG - 1);
            let known: Vec<Vec<u8>> = link.ask("oldest_event", &cmd).await?;
            streams.extend(known.into_iter().filter_map(|stream| String::from_utf8(stream).ok()));
        }
        // A line that is broken or away is told of otherwise.
        let ages = streams.iter().map(|stream| async move {
            let asked = link.run::<i64>("oldest_event", &AGE, |script| {
                script.key(stream).arg(GROUP);
            });
            asked.await.ok().and_then(|age_ms| u64::try_from(age_ms).ok())
        });
        let oldest = futures::future::join_all(ages).await.into_iter().flatten().max();
        Ok(oldest.map(Duration::from_millis))
    }

    async fn set_aside(&self, event: &EventDelivery, reason: &str) -> Result<(), BackendError> {
        let Some(line) = self.line_of(event.id.source) else { return Ok(()) };
        self.set_entry_aside(&line, event.id.entry, event.deliveries, reason).await?;
        self.early().done([&event.id]);
        Ok(())
    }

    async fn announce_again(&self, runs: &[RunRef]) -> Result<usize, BackendError> {
        let Some(known) = self.runs_with_events().await? else { return Ok(0) };
        let unheard = runs.iter().filter(|run| !known.contains(run));
        let announced = unheard.map(|run| self.announce(*run));
        Ok(futures::future::try_join_all(announced).await?.len())
    }
}

impl RedisBackend {
    /// The runs of all events that are there, waiting or taken; `None` when these are too many, or one has a
    /// later format.
    async fn runs_with_events(&self) -> Result<Option<HashSet<RunRef>>, BackendError> {
        let (link, mut known) = (self.link(), HashSet::new());
        let queues = self.queues().all(link, "announce_again").await?;
        if queues.len() > LINES_MAX {
            return Ok(None);
        }
        let mut left = EVENTS_MAX;
        let reports = queues.iter().flat_map(Named::reports);
        let reports = reports.map(|reports| link.keys.reports(&reports).stream);
        for stream in std::iter::once(link.keys.submission_stream()).chain(reports) {
            let mut from = "-".to_owned();
            loop {
                let mut cmd = redis::cmd("XRANGE");
                cmd.arg(&stream).arg(from).arg("+").arg("COUNT").arg(EVENTS_AT_ONCE);
                let page: Vec<(String, Fields)> = link.ask("announce_again", &cmd).await?;
                let is_last = page.len() < EVENTS_AT_ONCE;
                from = page.last().map(|(id, _)| format!("({id}")).unwrap_or_default();
                for (_, fields) in page {
                    let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
                    // What cannot be read is nobody's event; of a later format it may be anybody's.
                    match fields.first().map(|(field, value)| read(field, value)) {
                        Some(Ok(event)) => drop(known.insert(event.run())),
                        Some(Err(Unreadable::Later)) => return Ok(None),
                        Some(Err(Unreadable::Broken(_))) | None => {}
                    }
                    left = fewer;
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(Some(known))
    }

    /// The events that came with their hints. What has to be taken after all is looked for.
    fn told(&self, max: usize, owner: &Arc<str>) -> Vec<EventDelivery> {
        let (link, mut told) = (self.link(), Vec::new());
        while told.len() < max
            && let Some(news) = link.hints.next_early()
        {
            let event = news.ok().and_then(|News { stream, entry, report }| {
                let (reports, completion) = (link.keys.reports_of(&stream)?, read_report(&report).ok()?);
                let id = EventId { source: self.reports().number(&reports), entry };
                let event = Event::Completed(completion);
                let event = EventDelivery { id, event, is_bulk: reports.is_bulk, deliveries: 1 };
                match self.early().begin(id) {
                    Begin::Given => Some(Some(event)),
                    Begin::Taken => Some(None),
                    Begin::Anew => None,
                }
            });
            match event {
                Some(event) => told.extend(event),
                None => link.emptied.forget(owner),
            }
        }
        told
    }

    /// What was given before it was taken is held from now on, and not given again.
    fn note_taken(&self, taken: &mut Taken, sources: &Sources) {
        if self.link().hints.has_early() {
            let is_taken = |news: &News| {
                let is_it =
                    |entry: &Entry| entry.id == news.entry && sources.lines[entry.line].stream == news.stream;
                taken.entries.iter().any(is_it)
            };
            self.link().hints.forget_early(is_taken);
        }
        self.early().leave_new(&mut taken.entries, |entry| sources.numbers[entry.line]);
    }

    /// The event of an entry. What is none is set aside, and what has a later format is left to others.
    fn read_event(&self, entry: &Entry, sources: &Sources, lease: Duration) -> Option<EventDelivery> {
        let source = sources.numbers[entry.line];
        let line = || sources.lines[entry.line].clone();
        match read(&entry.field, &entry.value) {
            Ok(event) => {
                let id = EventId { source, entry: entry.id };
                let is_bulk = sources.are_bulk[entry.line];
                Some(EventDelivery { id, event, is_bulk, deliveries: entry.deliveries })
            }
            Err(Unreadable::Later) => {
                self.leave_to_later(line(), COORDINATORS.into(), entry.id, lease);
                None
            }
            Err(Unreadable::Broken(reason)) => {
                self.set_aside_beside(line(), entry.id, entry.deliveries, reason);
                None
            }
        }
    }

    /// Events by the lines they came from. The line of a queue that is gone has none of them any more.
    fn by_line(&self, events: &[EventId]) -> Vec<(Line, Vec<(u64, u64)>)> {
        let mut sources: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for event in events {
            sources.entry(event.source).or_default().push(event.entry);
        }
        sources.into_iter().filter_map(|(source, ids)| Some((self.line_of(source)?, ids))).collect()
    }
}

fn read(field: &[u8], value: &[u8]) -> Result<Event, Unreadable> {
    let broken = |reason: &str| Unreadable::Broken(reason.to_owned());
    match field {
        b"s" => read_run(value)
            .map(Event::Submitted)
            .ok_or_else(|| broken("it is no submission: it names no run")),
        b"c" => read_report(value).map(Event::Completed),
        _ if envelope::is_later(value) => Err(Unreadable::Later),
        _ => Err(broken("it is no event: its field is neither s nor c")),
    }
}
