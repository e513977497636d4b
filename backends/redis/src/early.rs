//! Reports that come with their hint.
//!
//! Who finishes one leaf with a short value, where one connection listens and nothing else is in the line,
//! tells it the report with the hint (`scripts/finish.lua`): the coordinator there need not take it first,
//! which is one of four calls that a leaf of a chain costs. The report is in its line all the same, until it
//! is acknowledged. Till then it is nobody's: should its coordinator die, the next one takes it as if
//! nothing had been told.
//!
//! What is told so is held by nobody. So when the coordinator asks for more before it has acknowledged it,
//! it takes as usual: then it holds it, as it holds all others, and is not given it again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::EventId;
use tokio::time::Instant;

use crate::lines::{Entry, parse_id};

/// So many are remembered until somebody asks; the others are taken.
const NEWS_MAX: usize = 64;

/// What is older may have been taken by others meanwhile.
const NEWS_FOR: Duration = Duration::from_secs(1);

/// Of so many lines it is remembered what was taken.
const LINES_MAX: usize = 10_000;

/// A larger report is taken.
pub(crate) const BYTES_MAX: usize = 1024;

/// A report as it was told: its stream, its entry there, and its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) stream: String,
    pub(crate) entry: (u64, u64),
    pub(crate) report: Vec<u8>,
}

/// Splits a hint into the names that it has as a rule, and what comes with it from this database.
pub(crate) fn split<'h>(hint: &'h [u8], database: &str) -> (&'h [u8], Option<News>) {
    let mut parts = hint.splitn(4, |byte| *byte == 0);
    let names = parts.next().unwrap_or_default();
    let mut news = || {
        let stream = std::str::from_utf8(names.strip_prefix(b"r")?).ok()?;
        let is_here = parts.next()? == database.as_bytes();
        let entry = parse_id(std::str::from_utf8(parts.next()?).ok()?)?;
        let report = parts.next()?.to_vec();
        is_here.then(|| News { stream: stream.to_owned(), entry, report })
    };
    (names, news())
}

/// What was told and nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Told(VecDeque<(Instant, News)>);

impl Told {
    /// Whether there is room for it: else it has to be taken.
    pub(crate) fn add(&mut self, news: News) -> bool {
        let has_room = self.0.len() < NEWS_MAX;
        if has_room {
            self.0.push_back((Instant::now(), news));
        }
        has_room
    }

    /// The next one; `Err` when there was one, and it has to be taken.
    pub(crate) fn next(&mut self) -> Option<Result<News, ()>> {
        let (came, news) = self.0.pop_front()?;
        Some(if came.elapsed() < NEWS_FOR { Ok(news) } else { Err(()) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These are not to be given.
    pub(crate) fn forget(&mut self, which: impl Fn(&News) -> bool) {
        self.0.retain(|(_, news)| !which(news));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What this process was given without taking it, and what it has taken.
#[derive(Debug, Default)]
pub(crate) struct Early(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Given, and not acknowledged yet; since when.
    given: HashMap<EventId, Instant>,
    /// Of each line the last new entry that was taken: what was told of it or before comes too late.
    taken: HashMap<u32, (u64, u64)>,
}

/// What becomes of a report that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It is given now.
    Given,
    /// It was taken meanwhile.
    Taken,
    /// Its line was made anew, with smaller ids: one has to look.
    Anew,
}

impl Early {
    /// Gives it, unless it was taken meanwhile. Whoever looked each time that one was would take the next
    /// before its hint is read, and look again.
    pub(crate) fn begin(&self, event: EventId) -> Begin {
        let mut state = self.state();
        let last = state.taken.get(&event.source).copied();
        if last.is_none_or(|last| event.entry > last) {
            state.given.insert(event, Instant::now());
            return Begin::Given;
        }
        // What is told was written a moment ago, and so was what was taken last: by the same clock.
        let is_old = last.is_some_and(|(ms, _)| event.entry.0 + NEWS_FOR.as_millis() as u64 <= ms);
        if !is_old {
            return Begin::Taken;
        }
        state.taken.remove(&event.source);
        Begin::Anew
    }

    /// These are acknowledged.
    pub(crate) fn done<'e>(&self, events: impl IntoIterator<Item = &'e EventId>) {
        let mut state = self.state();
        if !state.given.is_empty() {
            for event in events {
                state.given.remove(event);
            }
        }
    }

    /// Whether something was given that is to be held.
    pub(crate) fn is_any(&self) -> bool {
        !self.state().given.is_empty()
    }

    /// Of what was taken now, leaves out what was given already: from now on that is held. Those of one line
    /// come one after the other.
    pub(crate) fn leave_new(&self, entries: &mut Vec<Entry>, source: impl Fn(&Entry) -> u32) {
        let mut state = self.state();
        let State { given, taken } = &mut *state;
        let new = |entry: &&Entry| entry.deliveries == 1;
        for same in entries.chunk_by(|one, next| one.line == next.line) {
            if let Some(entry) = same.iter().filter(new).max_by_key(|entry| entry.id) {
                let last = taken.entry(source(entry)).or_default();
                *last = entry.id.max(*last);
            }
        }
        if !given.is_empty() {
            entries.retain(|entry| {
                let id = EventId { source: source(entry), entry: entry.id };
                entry.deliveries > 1 || given.remove(&id).is_none()
            });
        }
    }

    /// All that was in these lines was taken at this time: what was given of them before, and did not come,
    /// is gone.
    pub(crate) fn all_taken(&self, sources: &[u32], since: Instant) {
        let mut state = self.state();
        state.given.retain(|event, given| *given >= since || !sources.contains(&event.source));
        // The lines of queues that come and go have new numbers.
        if state.taken.len() > LINES_MAX {
            state.taken.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(number: u64) -> News {
        News { stream: "app:{q:a}:done:stream".to_owned(), entry: (number, 7), report: b"x\0y".to_vec() }
    }

    #[test]
    fn a_hint_is_its_names_and_perhaps_a_report() {
        assert_eq!(split(b"rone\nrtwo", "0"), (&b"rone\nrtwo"[..], None));
        assert_eq!(split(b"", "0"), (&b""[..], None));
        let hint = b"rapp:{q:a}:done:stream\x0015\x0012-7\0x\0y";
        assert_eq!(split(hint, "15"), (&b"rapp:{q:a}:done:stream"[..], Some(news(12))));
        for other in ["0", "1", "5", ""] {
            assert_eq!(split(hint, other), (&b"rapp:{q:a}:done:stream"[..], None), "another database");
        }
        for broken in
            [&b"rone\0"[..], b"rone\x000\x001-1", b"rone\x000\0x\0y", b"tone\x000\x001-1\0y", b"\0\0"]
        {
            assert_eq!(split(broken, "0").1, None, "{broken:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_is_not_given_and_what_was_given_is_held_once() {
        let early = Early::default();
        let event = |source, entry| EventId { source, entry: (entry, 0) };
        let take = |source: u32, entry, deliveries| {
            let value = Vec::new();
            let mut taken = vec![Entry { line: 0, id: (entry, 0), deliveries, field: b"c".to_vec(), value }];
            early.leave_new(&mut taken, |_| source);
            !taken.is_empty()
        };
        assert!(take(1, 5, 1), "a take came first");
        assert_eq!(early.begin(event(1, 5)), Begin::Taken, "the hint comes after it");
        assert_eq!([early.begin(event(2, 5)), early.begin(event(1, 6))], [Begin::Given; 2]);
        assert!(early.is_any());
        assert!(!take(1, 6, 1), "it was given");
        assert!(take(1, 6, 2) && take(2, 5, 2), "its lease has passed");
        tokio::time::advance(NEWS_FOR).await;
        early.all_taken(&[1, 3], Instant::now());
        assert!(early.is_any(), "nobody has looked there");
        early.all_taken(&[2], Instant::now());
        assert!(!early.is_any());
        assert_eq!(early.begin(event(2, 7)), Begin::Given);
        early.done(&[event(2, 7), event(9, 9)]);
        assert!(!early.is_any());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asked_for_in_time_or_what_is_too_much_is_to_be_taken() {
        let mut told = Told::default();
        assert!((0..NEWS_MAX as u64).all(|number| told.add(news(number))));
        assert!(!told.add(news(99)));
        assert_eq!(told.next(), Some(Ok(news(0))));
        tokio::time::advance(NEWS_FOR).await;
        assert_eq!(told.next(), Some(Err(())));
        told.clear();
        assert!(told.is_empty() && told.next().is_none());
    }
}
