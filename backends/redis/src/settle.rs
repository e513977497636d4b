//! The one atomic step: completions applied to runs, by a script.
//!
//! On one Redis the same script queues what was prepared and acknowledges the events. On a Cluster the run is
//! in one slot and the queues in others: then the script only settles, and the caller dispatches what it
//! released.

use std::collections::HashMap;
use std::sync::Arc;

use celeriac_backends::{Advance, Advanced, BackendError, ErrorKind, EventId, Lane, Store as _};
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::{Release, Settled, Verdict};
use celeriac_primitives::{Completion, NodeNo, RunRef};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _};

use crate::RedisBackend;
use crate::connection::GROUP;
use crate::denied::{self, is_denied};
use crate::error::corrupt;
use crate::keys::Line;
use crate::keys::{Keys, write_run};
use crate::lines::print_id;
use crate::queue::{encode, write_message};
use crate::scripts::{SETTLE, SLICE, SLICE_BYTES, slices};
use crate::wiring;

/// How often settling looks up the plan again when it fell out of the cache meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// On a Cluster so many runs are settled at the same time.
const RUNS_AT_ONCE: usize = 16;

/// Flags of the script's answer.
const DECIDED: u8 = 1;
const ENDED: u8 = 2;
const CLOSED: u8 = 4;
const ACKNOWLEDGED: u8 = 8;
/// Not by the script: nothing was done, the plan has to be read first.
const UNPLANNED: u8 = 16;

/// A part of an [`Advance`] that one script handles.
struct Part<'a> {
    /// Place of the advance in the batch.
    place: usize,
    completions: &'a [Completion],
    /// The last part brings the events.
    is_last: bool,
}

/// What the script says of one part.
enum Answer {
    Unknown,
    /// The plan is needed.
    Plan,
    /// Why the run cannot be settled.
    Broken(ErrorKind, String),
    Settled(Slice),
}

/// What settling has done to a run so far.
#[derive(Default)]
struct Slice {
    settled: Settled,
    flags: u8,
    owed: u32,
    retention_ms: u64,
}

impl RedisBackend {
    pub(crate) async fn settle_batch(
        &self,
        batch: &[Advance],
    ) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        let mut noted = None;
        if !self.link().is_cluster() {
            noted = self.queues().note(self.link(), "settle", places(batch), false).await?;
        }
        let mut whole: Vec<Option<Result<Option<Slice>, BackendError>>> =
            batch.iter().map(|_| None).collect();
        let groups = groups(batch, self.link().is_cluster());
        if self.link().is_cluster() {
            self.settle_apart(batch, groups, &mut whole).await;
        } else {
            for group in groups {
                let answers = self.settle_group(batch, &group).await?;
                for (part, answer) in group.iter().zip(answers) {
                    add(&mut whole[part.place], answer);
                }
            }
        }
        self.queues().note_again(self.link(), "settle", places(batch), noted).await?;
        let mut advanced = Vec::with_capacity(batch.len());
        for (advance, slice) in batch.iter().zip(whole) {
            advanced.push(match slice.unwrap_or(Ok(None)) {
                Err(error) => Err(error),
                Ok(None) => Ok(Advanced::Unknown),
                Ok(Some(slice)) if slice.flags & UNPLANNED != 0 => Ok(Advanced::Unplanned),
                Ok(Some(slice)) => {
                    if slice.flags & ACKNOWLEDGED != 0 {
                        self.early().done(&advance.events);
                    }
                    self.advanced(advance.run, slice).await
                }
            });
        }
        Ok(advanced)
    }

    /// On a Cluster each run is by itself: one whose shard is away holds up none of the others. The parts of
    /// a run come one after the other.
    async fn settle_apart(
        &self,
        batch: &[Advance],
        groups: Vec<Vec<Part<'_>>>,
        whole: &mut [Option<Result<Option<Slice>, BackendError>>],
    ) {
        let of_run = groups.chunk_by(|one, next| one[0].place == next[0].place);
        let settling: Vec<_> = of_run.map(|groups| self.settle_run(batch, groups).boxed()).collect();
        let settled: Vec<_> = stream::iter(settling).buffer_unordered(RUNS_AT_ONCE).collect().await;
        for (place, run) in settled {
            whole[place] = run;
        }
    }

    async fn settle_run(
        &self,
        batch: &[Advance],
        groups: &[Vec<Part<'_>>],
    ) -> (usize, Option<Result<Option<Slice>, BackendError>>) {
        let (place, mut run) = (groups[0][0].place, None);
        for group in groups {
            match self.settle_group(batch, group).await {
                Ok(answers) => answers.into_iter().for_each(|answer| add(&mut run, answer)),
                Err(error) => {
                    add(&mut run, Err(error));
                    break;
                }
            }
        }
        (place, run)
    }

    /// Settles parts, looking up the plans that the script asks for.
    async fn settle_group(
        &self,
        batch: &[Advance],
        group: &[Part<'_>],
    ) -> Result<Vec<Result<Option<Slice>, BackendError>>, BackendError> {
        let mut done: Vec<Option<Result<Option<Slice>, BackendError>>> = group.iter().map(|_| None).collect();
        let mut todo: Vec<usize> = (0..group.len()).collect();
        for _ in 0..ATTEMPTS_MAX {
            let parts: Vec<&Part<'_>> = todo.iter().map(|place| &group[*place]).collect();
            let answers = self.settle_now(batch, &parts).await?;
            let (mut again, mut without_plan) = (Vec::new(), Vec::new());
            for (place, answer) in todo.into_iter().zip(answers) {
                let run = batch[group[place].place].run;
                done[place] = match answer {
                    Answer::Settled(slice) => Some(Ok(Some(slice))),
                    Answer::Unknown => {
                        self.plans().remove(run);
                        Some(Ok(None))
                    }
                    Answer::Broken(kind, what) => {
                        Some(Err(BackendError::new(kind, "settle").context(format!("{run}: {what}"))))
                    }
                    Answer::Plan => {
                        without_plan.push(place);
                        None
                    }
                };
            }
            let plans = without_plan.iter().map(|place| self.has_plan(batch[group[*place].place].run));
            for (place, plan) in without_plan.iter().zip(futures::future::join_all(plans).await) {
                match plan {
                    Ok(true) => again.push(*place),
                    Ok(false) => {
                        done[*place] = Some(Ok(Some(Slice { flags: UNPLANNED, ..Slice::default() })))
                    }
                    Err(error) if error.may_retry() => return Err(error),
                    Err(error) => done[*place] = Some(Err(error)),
                }
            }
            if again.is_empty() {
                break;
            }
            again.sort_unstable();
            todo = again;
        }
        let settled = done.into_iter().zip(group).map(|(done, part)| {
            let changed =
                || BackendError::new(ErrorKind::Unavailable, "settle").context(batch[part.place].run);
            done.unwrap_or_else(|| Err(changed()))
        });
        Ok(settled.collect())
    }

    /// Calls the script once.
    async fn settle_now(&self, batch: &[Advance], parts: &[&Part<'_>]) -> Result<Vec<Answer>, BackendError> {
        let (link, alone) = (self.link(), self.link().is_cluster());
        let mut written = Written::default();
        parts.iter().for_each(|part| written.add(self, &batch[part.place], part));
        let replies: Vec<Option<Vec<u8>>> = link
            .run("settle", &SETTLE, |script| {
                for part in parts {
                    let keys = link.keys.run(batch[part.place].run.id);
                    script.key(keys.hash()).key(keys.states());
                }
                if !alone {
                    script.key(link.keys.ended());
                    for line in &written.lines {
                        script.key(&line.stream);
                    }
                    for (queue, lane) in &written.queues {
                        script.key(link.keys.stream(queue, *lane));
                    }
                }
                script.arg(parts.len()).arg(written.lines.len()).arg(GROUP).arg(link.keys.changes());
                script.arg(rmp_serde::to_vec(&written.numbers).expect("numbers have a MessagePack form"));
                for text in &written.texts {
                    script.arg(&text[..]);
                }
            })
            .await?;
        replies
            .into_iter()
            .zip(parts)
            .map(|(reply, part)| read(&reply.unwrap_or_default(), part.completions.len()))
            .collect()
    }

    /// What became of a run, with what it still owes when that is to be handed out again.
    async fn advanced(&self, run: RunRef, slice: Slice) -> Result<Advanced, BackendError> {
        let Slice { mut settled, flags, owed, retention_ms } = slice;
        if flags & ENDED != 0 {
            self.plans().has_ended(run);
        }
        if flags & CLOSED != 0 && self.link().is_cluster() && retention_ms > 0 {
            // What is not noted is found by a repair.
            if let Err(error) = self.note_end(run, retention_ms).await {
                tracing::debug!(%run, %error, "when the run is to be forgotten is not noted yet");
            }
        }
        if settled.repairs() && owed as usize > settled.released.len() {
            settled.released = self.outbox(run).await?;
        }
        settled.released.sort_unstable();
        settled.decided = flags & DECIDED != 0;
        settled.ended = flags & ENDED != 0;
        Ok(Advanced::Settled { settled, acknowledged: flags & ACKNOWLEDGED != 0 })
    }
}

/// What a call of the script takes, besides the keys of the runs.
#[derive(Default)]
struct Written<'a> {
    numbers: Vec<u32>,
    texts: Vec<Vec<u8>>,
    sources: Vec<u32>,
    /// In the same order.
    lines: Vec<Line>,
    queues: Vec<(&'a Arc<str>, Lane)>,
}

impl<'a> Written<'a> {
    fn add(&mut self, backend: &RedisBackend, advance: &'a Advance, part: &Part<'_>) {
        let plan = backend.plans().find(advance.run);
        let first = self.numbers.len();
        // How many follow, completions, prepared leaves and events are known in the end.
        self.numbers.extend([0, u32::from(plan.is_some()), part.completions.len() as u32, 0, 0]);
        self.texts.push(write_run(advance.run).to_vec());
        self.texts.push(Keys::change_channel(advance.run.id).to_string().into_bytes());
        for completion in part.completions {
            wiring::write(&mut self.numbers, plan.as_deref(), completion);
            self.texts.push(encode(&completion.outcome));
        }
        if !backend.link().is_cluster() {
            self.numbers[first + 3] = self.add_prepared(advance);
            // All events go with the last part: what the parts before released is known to the caller by
            // then.
            if part.is_last && part.completions.len() == advance.completions.len() {
                self.numbers[first + 4] = self.add_events(backend, &advance.events);
            }
        }
        self.numbers[first] = (self.numbers.len() - first - 1) as u32;
    }

    fn add_prepared(&mut self, advance: &'a Advance) -> u32 {
        let mut count = 0;
        // What a predecessor releases is at its first attempt.
        for leaf in advance.prepared.iter().filter(|leaf| leaf.release.attempt == 1) {
            let queue = place_of(&mut self.queues, (&leaf.queue, leaf.lane));
            self.numbers.extend([leaf.release.node.number(), queue as u32 + 1]);
            self.texts.push(write_message(&leaf.message));
            count += 1;
        }
        count
    }

    fn add_events(&mut self, backend: &RedisBackend, events: &[EventId]) -> u32 {
        let mut count = 0;
        for EventId { source, entry } in events {
            // The line of a queue that is gone has no events.
            if let Some(line) = self.line_of(backend, *source) {
                self.numbers.push(line as u32 + 1);
                self.texts.push(print_id(*entry).into_bytes());
                count += 1;
            }
        }
        count
    }

    /// The place of an event's line.
    fn line_of(&mut self, backend: &RedisBackend, source: u32) -> Option<usize> {
        if let Some(place) = self.sources.iter().position(|known| *known == source) {
            return Some(place);
        }
        self.lines.push(backend.line_of(source)?);
        self.sources.push(source);
        Some(self.lines.len() - 1)
    }
}

/// Where prepared leaves may go.
fn places(batch: &[Advance]) -> impl Iterator<Item = (&Arc<str>, Lane)> {
    batch.iter().flat_map(|advance| &advance.prepared).map(|leaf| (&leaf.queue, leaf.lane))
}

/// The place of an item among those known so far.
pub(crate) fn place_of<T: PartialEq>(known: &mut Vec<T>, item: T) -> usize {
    known.iter().position(|known| *known == item).unwrap_or_else(|| {
        known.push(item);
        known.len() - 1
    })
}

/// Sorts a batch into groups of which each is one call of the script: about a slice of completions each, in
/// number and in bytes, or on a Cluster one run.
fn groups(batch: &[Advance], is_cluster: bool) -> Vec<Vec<Part<'_>>> {
    let mut groups: Vec<Vec<Part<'_>>> = Vec::new();
    let (mut room, mut room_bytes) = (0, 0);
    let mut last_of = HashMap::new();
    for (place, advance) in batch.iter().enumerate() {
        // At least one part: also without completions there is an answer to whether the run is known.
        let mut parts = slices(&advance.completions, |completion| completion.outcome.weight());
        if parts.is_empty() {
            parts.push(&[]);
        }
        let prepared: usize = advance.prepared.iter().map(|leaf| leaf.message.weight()).sum();
        let count = parts.len();
        for (number, completions) in parts.into_iter().enumerate() {
            let part = Part { place, completions, is_last: number + 1 == count };
            let bytes = prepared + completions.iter().map(|done| done.outcome.weight()).sum::<usize>();
            // A run comes up once in a call.
            let is_there = last_of.insert(advance.run, groups.len()) == Some(groups.len());
            let is_full = completions.len() >= room || bytes > room_bytes;
            if is_cluster || is_there || is_full || groups.is_empty() {
                groups.push(Vec::new());
                (room, room_bytes) = (SLICE, SLICE_BYTES);
                last_of.insert(advance.run, groups.len());
            }
            room = room.saturating_sub(completions.len().max(1));
            room_bytes = room_bytes.saturating_sub(bytes);
            groups.last_mut().expect("there is a group").push(part);
        }
    }
    groups
}

/// Adds what a later part of the same run did.
fn add(whole: &mut Option<Result<Option<Slice>, BackendError>>, answer: Result<Option<Slice>, BackendError>) {
    match (whole, answer) {
        (Some(Ok(Some(whole))), Ok(Some(part))) => {
            whole.settled.verdicts.extend(part.settled.verdicts);
            whole.settled.released.extend(part.settled.released);
            whole.flags = (whole.flags | part.flags) & !ENDED | part.flags & ENDED;
            whole.owed = part.owed;
        }
        (whole @ None, answer) => *whole = Some(answer),
        // A part that came to nothing decides for the whole.
        (Some(whole @ Ok(_)), answer) => *whole = answer,
        (Some(Err(_)), _) => {}
    }
}

/// Flags, what is owed and how long the run is kept; a letter for each completion; and if anything is, what
/// is released as first and how many, and what is tried again as node and attempt.
fn read(reply: &[u8], completions: usize) -> Result<Answer, BackendError> {
    match reply {
        b"UNKNOWN" => return Ok(Answer::Unknown),
        b"PLAN" => return Ok(Answer::Plan),
        _ => {}
    }
    for (code, kind) in [(&b"CORRUPT "[..], ErrorKind::Corrupt), (b"LATER ", ErrorKind::Later)] {
        if let Some(what) = reply.strip_prefix(code) {
            let what = String::from_utf8_lossy(what).into_owned();
            if is_denied(&what) {
                return Ok(Answer::Broken(ErrorKind::Denied, format!("{}; {what}", denied::advice(&what))));
            }
            return Ok(Answer::Broken(kind, what));
        }
    }
    let short = || corrupt("settle", "the script's answer is too short");
    let (head, rest) = reply.split_first_chunk::<13>().ok_or_else(short)?;
    let (verdicts, rest) = rest.split_at_checked(completions).ok_or_else(short)?;
    let [flags, a, b, c, d, retention @ ..] = *head;
    let (owed, retention_ms) = (u32::from_be_bytes([a, b, c, d]), u64::from_be_bytes(retention));
    let verdict = |letter: &u8| match letter {
        b'A' => Ok(Verdict::Accepted),
        b'Y' => Ok(Verdict::Retried),
        b'P' => Ok(Verdict::Replaced),
        b'Q' => Ok(Verdict::ReplacedBefore),
        b'D' => Ok(Verdict::Duplicate),
        b'O' => Ok(Verdict::Stale),
        b'X' => Ok(Verdict::Refused),
        other => Err(corrupt("settle", format!("verdict {:?}", char::from(*other)))),
    };
    let verdicts = verdicts.iter().map(verdict).collect::<Result<_, _>>()?;
    let (ranges, retried): (Vec<u32>, Vec<u32>) = match rest {
        [] => Default::default(),
        rest => rmp_serde::from_slice(rest)
            .map_err(|error| corrupt("settle", "the script's answer").source(error))?,
    };
    let mut released = Vec::new();
    for range in ranges.chunks_exact(2) {
        for node in range[0]..range[0] + range[1] {
            released.push(Release { node: node_no("settle", node)?, attempt: 1 });
        }
    }
    for pair in retried.chunks_exact(2) {
        released.push(Release { node: node_no("settle", pair[0])?, attempt: pair[1] });
    }
    let settled = Settled { verdicts, released, ..Settled::default() };
    Ok(Answer::Settled(Slice { settled, flags, owed, retention_ms }))
}

pub(crate) fn node_no(operation: &'static str, number: u32) -> Result<NodeNo, BackendError> {
    NodeNo::new(number).ok_or_else(|| corrupt(operation, "a node with number 0"))
}

/// The number of a scope, as the fields of a run name it.
pub(crate) fn scope_field(scope: ScopeNo) -> String {
    format!("x{}", scope.index())
}
