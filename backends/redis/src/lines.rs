//! Lines: streams whose entries are leased. Queues are lines, and so are the events.
//!
//! Who takes an entry holds it until it was idle, by the clock of Redis, for the lease. The length of a lease
//! is a part of the consumer's name: an owner is the consumer `<owner>#<lease in ms>`.
//!
//! What was handed back waits in `again`, before all new entries, and belongs to the consumer `-` until it is
//! taken; so does a leaf that has lost one owner. A leaf that has lost several is a suspect: it may be why;
//! and so is every event that has lost one. Suspects wait in `apart`, before all others, and belong to the
//! consumer `~`. Who had it may renew what has lost its owner and waits, and holds it again. The delivery
//! counter of what has lost an owner tells how often it has begun, and whether it has in its present owner
//! (`scripts/held.lua`).

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::BackendError;
use dashmap::DashMap;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::connection::{GROUP, Link, line_keys};
use crate::error::{First, corrupt};
use crate::hints::Count;
use crate::keys::Line;
use crate::scripts::{ACKNOWLEDGE, HAND_BACK, RENEW, SLICE, SLICE_BYTES, TAKE};
use crate::waking::{Noted, Noting};

/// Leases are not longer than this.
const LEASE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A take returns no more than about so many bytes, or one entry: what takes long on its way is leased
/// already. With the entry that goes beyond it, it is as much as one step settles.
const BYTES_MAX: usize = SLICE_BYTES - 64 * 1024;

/// How large entries are nobody knows before they are read: at first no more than so many are.
const FIRST_MAX: usize = 16;

/// How many entries to read at first, when a value in them has no more bytes than this.
pub(crate) fn first(inline_bytes_max: usize) -> usize {
    (BYTES_MAX / 2 / inline_bytes_max.max(1)).clamp(1, FIRST_MAX)
}

/// Which suspects to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspects {
    None,
    /// One, beside others; it is counted when it begins.
    One,
    /// A batch of them and nothing else, counted.
    Batch,
}

/// An entry: which of the lines it came from, its id, how often it was delivered, its only field.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) line: usize,
    pub(crate) id: (u64, u64),
    pub(crate) deliveries: u32,
    pub(crate) field: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Entry {
    /// Whether it was taken as a suspect: an event the second time it comes, a leaf the third time.
    pub(crate) fn is_suspect(&self, which: Suspects) -> bool {
        self.deliveries > if which == Suspects::Batch { 1 } else { 2 }
    }
}

/// Entries on their way to who asked for them. When that one is gone, they go back to their lines.
pub(crate) struct Taken {
    link: Link,
    lines: Arc<[Line]>,
    owner: Arc<str>,
    pub(crate) entries: Vec<Entry>,
    /// Whether there may be more.
    pub(crate) more: bool,
    /// Whether who takes is noted, and whether that took more steps than one.
    pub(crate) noted: (Noted, bool),
    /// Whoever waits until nothing is taken any more waits for this, too: the task that takes has ended
    /// before what it took is dropped.
    _under_way: TaskTrackerToken,
}

impl Taken {
    /// They have arrived. Who waits for anything after this loses them when he is dropped.
    pub(crate) fn keep(mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let (link, lines, owner) = (self.link.clone(), self.lines.clone(), self.owner.clone());
        let back: Vec<_> = self.entries.iter().map(|entry| (entry.line, entry.id)).collect();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let takes = link.takes.clone();
            takes.spawn_on(async move {
                // Should this fail, their leases pass.
                if let Err(error) = hand_back(&link, "receive", &lines, &owner, &back).await {
                    tracing::debug!(%error, "entries of a dropped receive come again when their leases pass");
                }
                note_reports(&link, back.iter().map(|(line, _)| &lines[*line])).await;
            }, &runtime);
        }
    }
}

/// Notes those of these lines that are lines of reports in their index: there is something again.
pub(crate) async fn note_reports<'l>(link: &Link, lines: impl Iterator<Item = &'l Line>) {
    let reports = lines.filter(|line| link.keys.reports_of(&line.stream).is_some());
    let mut streams: Vec<&String> = reports.map(|line| &line.stream).collect();
    streams.dedup();
    if streams.is_empty() || link.is_cluster() {
        return;
    }
    let hints: Vec<String> = streams.iter().map(|stream| format!("r{stream}")).collect();
    let scored: Vec<(u8, &String)> = streams.into_iter().map(|stream| (0, stream)).collect();
    if let Err(error) = link.write::<()>("events", "ZADD", link.keys.report_index(), scored).await {
        tracing::debug!(%error, "events of a dropped take are found by a sweep");
    }
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(link.keys.submission_stream()).arg(hints.join("\n"));
    if let Err(error) = link.ask::<()>("events", &publish).await {
        tracing::debug!(%error, "events of a dropped take are found by a poll");
    }
}

/// Owners that have taken all there was, each with how many hints there were before it looked. Until there is
/// another hint there is nothing more, and who asks again need not look at once; unless it takes suspects now
/// and did not then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Emptied(Arc<DashMap<Arc<str>, (Count, Suspects, Instant)>>);

impl Emptied {
    pub(crate) fn is_still_empty(&self, owner: &Arc<str>, hints: Option<Count>, suspects: Suspects) -> bool {
        let before = self.0.get(owner).map(|before| *before);
        before.is_some_and(|(before, looked, _)| {
            Some(before) == hints && (suspects == Suspects::None || looked != Suspects::None)
        })
    }

    pub(crate) fn note(&self, owner: &Arc<str>, hints: Option<Count>, suspects: Suspects) {
        match hints {
            Some(hints) => drop(self.0.insert(owner.clone(), (hints, suspects, Instant::now()))),
            None => drop(self.0.remove(owner)),
        }
    }

    /// How long ago it looked.
    pub(crate) fn age(&self, owner: &Arc<str>) -> Duration {
        self.0.get(owner).map_or(Duration::ZERO, |before| before.2.elapsed())
    }

    /// Who asks again has to look.
    pub(crate) fn forget(&self, owner: &Arc<str>) {
        self.0.remove(owner);
    }
}

/// Takes up to `max` entries that are there.
///
/// Cancel safe: the step that takes runs in a task of its own, and what it took for a future that was dropped
/// goes back to its line, until it is [kept](Taken::keep).
pub(crate) async fn take_now(
    link: &Link,
    operation: &'static str,
    lines: &Arc<[Line]>,
    owner: Arc<str>,
    (max, suspects): (usize, Suspects),
    lease: Duration,
    noting: &Arc<Noting>,
) -> Result<Taken, BackendError> {
    let taken = Taken {
        link: link.clone(),
        lines: lines.clone(),
        owner,
        entries: Vec::new(),
        more: max == 0,
        noted: (Noted::No, false),
        _under_way: link.takes.token(),
    };
    let taken = link.takes.spawn(take_all(operation, taken, (max, suspects), lease, noting.clone())).await;
    taken.map_err(|panic| corrupt(operation, panic))?
}

/// Takes from all lines in one script, or, where they are on different servers, from one after the other.
async fn take_all(
    operation: &'static str,
    mut taken: Taken,
    (max, mut suspects): (usize, Suspects),
    lease: Duration,
    noting: Arc<Noting>,
) -> Result<Taken, BackendError> {
    let lines = taken.lines.clone();
    let at_once = if taken.link.is_cluster() { 1 } else { lines.len().max(1) };
    let (mut bytes, mut is_again) = (BYTES_MAX, false);
    let (mut has_answered, mut failed) = (false, None);
    for (group, some) in lines.chunks(at_once).enumerate() {
        loop {
            let slice = SLICE.min(max - taken.entries.len());
            let what = (slice, bytes, suspects);
            let took = take_some(&taken, operation, some, what, lease, &noting.args(is_again)).await;
            let (entries, more, noted) = match took {
                Ok(took) => took,
                // A shard that is away holds up none of the others.
                Err(error) if error.may_retry() && at_once == 1 => {
                    failed.get_or_insert(error);
                    break;
                }
                Err(error) => return Err(error),
            };
            has_answered = true;
            taken.noted = (noted, is_again);
            is_again |= more;
            let has_suspects = entries.iter().any(|entry| entry.is_suspect(suspects));
            let count = entries.len();
            bytes = bytes.saturating_sub(entries.iter().map(|entry| entry.value.len()).sum());
            taken.entries.extend(
                entries.into_iter().map(|entry| Entry { line: entry.line + group * at_once, ..entry }),
            );
            let is_batch = suspects == Suspects::Batch && has_suspects;
            if is_batch || bytes == 0 || taken.entries.len() >= max {
                taken.more = true;
                return Ok(taken);
            }
            if has_suspects || suspects == Suspects::Batch && count > 0 {
                suspects = Suspects::None;
            }
            if !more {
                break;
            }
        }
    }
    match failed {
        Some(error) if !has_answered => Err(error),
        _ => Ok(taken),
    }
}

async fn take_some(
    taken: &Taken,
    operation: &'static str,
    lines: &[Line],
    (max, bytes, suspects): (usize, usize, Suspects),
    lease: Duration,
    noting: &[String],
) -> Result<(Vec<Entry>, bool, Noted), BackendError> {
    let reply: Vec<redis::Value> = taken
        .link
        .run(operation, &TAKE, |script| {
            let aside = lines.iter().flat_map(|line| [&line.again, &line.apart]);
            let mut gone: Vec<&String> = lines.iter().filter_map(|line| line.gone.as_ref()).collect();
            gone.dedup();
            for key in lines.iter().map(|line| &line.stream).chain(aside).chain(gone) {
                script.key(key);
            }
            script.arg(GROUP).arg(consumer(&taken.owner, lease)).arg(max).arg(bytes);
            script.arg(match suspects {
                Suspects::None => "",
                Suspects::One => "one",
                Suspects::Batch => "some",
            });
            script
                .arg(lines.len())
                .arg(lines.iter().position(|line| line.stays).map_or(0, |place| place + 1));
            script.arg(taken.link.first).arg(noting);
        })
        .await?;
    let mut values = reply.into_iter();
    let (more, noted) = match values.next() {
        Some(redis::Value::Int(1)) => (true, Noted::No),
        Some(redis::Value::Int(2)) => (false, Noted::Yes),
        Some(redis::Value::Int(4)) => (false, Noted::Few),
        _ => (false, Noted::No),
    };
    let mut entries = Vec::with_capacity(values.len() / 3);
    let here = |line: usize| lines.get(line.saturating_sub(1)).map_or("", |line| line.stream.as_str());
    while let Some(line) = values.next() {
        let number = |value: Option<redis::Value>| match value {
            Some(redis::Value::Int(number @ 0..)) => Ok(number as usize),
            other => Err(corrupt(operation, format!("{other:?} for a number"))),
        };
        let line = number(Some(line))?;
        let (deliveries, count) = (number(values.next())?, number(values.next())?);
        if (deliveries, count) == (0, 0) {
            taken.link.broken.note(here(line), "it, or a list that belongs to it, holds something else");
        }
        for _ in 0..count {
            let [id, field, value] = [(); 3].map(|()| values.next().unwrap_or(redis::Value::Nil));
            let id: String = redis::from_redis_value(id).map_err(|error| corrupt(operation, error))?;
            let id = parse_id(&id).ok_or_else(|| corrupt(operation, format!("stream id {id:?}")))?;
            let (field, value) = (bytes_of(field), bytes_of(value));
            entries.push(Entry { line: line - 1, id, deliveries: deliveries as u32, field, value });
        }
    }
    Ok((entries, more, noted))
}

/// What stands in an entry, whatever it is: anybody may write there.
fn bytes_of(value: redis::Value) -> Vec<u8> {
    match value {
        redis::Value::BulkString(bytes) => bytes,
        redis::Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    }
}

/// Gives entries back to the head of their lines, in the order given.
pub(crate) async fn hand_back(
    link: &Link,
    operation: &'static str,
    lines: &[Line],
    owner: &str,
    entries: &[(usize, (u64, u64))],
) -> Result<(), BackendError> {
    let mut first = First::default();
    for (place, line) in lines.iter().enumerate() {
        let here: Vec<_> = entries.iter().filter(|(at, _)| *at == place).map(|(_, id)| *id).collect();
        // Each slice goes to the head, so the last slice goes first.
        for slice in here.rchunks(SLICE) {
            let handed = link.run::<()>(operation, &HAND_BACK, |script| {
                line_keys(script, [line]);
                script.arg(GROUP).arg(owner).arg(u8::from(line.gone.is_none()));
                for id in slice {
                    script.arg(print_id(*id));
                }
            });
            first.of(handed.await);
        }
    }
    first.into_result()
}

/// Prolongs the leases that their owner still holds.
pub(crate) async fn renew(
    link: &Link,
    operation: &'static str,
    line: &Line,
    owner: &str,
    entries: &[(u64, u64)],
    lease: Duration,
) -> Result<(), BackendError> {
    for slice in entries.chunks(SLICE) {
        link.run::<()>(operation, &RENEW, |script| {
            script.key(&line.stream).arg(GROUP).arg(owner).arg(consumer(owner, lease));
            for id in slice {
                script.arg(print_id(*id));
            }
        })
        .await?;
    }
    Ok(())
}

/// Removes entries that are done with. The oldest go first: then each step finds what it removes at the head
/// of the line.
pub(crate) async fn acknowledge(
    link: &Link,
    line: &Line,
    entries: &[(u64, u64)],
) -> Result<(), BackendError> {
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    for slice in entries.chunks(SLICE) {
        link.run::<()>("acknowledge", &ACKNOWLEDGE, |script| {
            script.key(&line.stream).arg(GROUP);
            for id in slice {
                script.arg(print_id(*id));
            }
        })
        .await?;
    }
    Ok(())
}

/// An owner with the length of its leases, as Redis knows it.
pub(crate) fn consumer(owner: &str, lease: Duration) -> String {
    format!("{owner}#{}", lease.min(LEASE_MAX).as_millis())
}

/// The id of a stream's entry.
pub(crate) fn print_id((ms, sequence): (u64, u64)) -> String {
    format!("{ms}-{sequence}")
}

/// Reads it.
pub(crate) fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (ms, sequence) = id.split_once('-')?;
    Some((ms.parse().ok()?, sequence.parse().ok()?))
}
