//! Submitting a run: all of it becomes visible in one step.
//!
//! A small run is one step of a script, and runs that are submitted at the same time share one: while the
//! answer to one call is awaited, those that come meanwhile gather for the next. The parts of a large run are
//! staged before, a slice at a time, under names that nobody reads and that expire; the last step gives them
//! their own names. A client that dies halfway leaves nothing.
//!
//! On a Cluster the run, the list of runs and the queues are in different slots. There the intent to store a
//! run is noted first, then the run is stored, then it is announced; a run whose client dies before the
//! announcement is announced by a sweep.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{BackendError, Dispatch, ErrorKind, Lane, NewRun, Submitted};
use celeriac_engine::RunState;
use celeriac_engine::advance::Phase;
use celeriac_primitives::{NodeNo, RunId, RunRef};
use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::RedisBackend;
use crate::clocks;
use crate::connection::Link;
use crate::denied::{self, is_denied};
use crate::error::corrupt;
use crate::gone::write_queues;
use crate::invocation::Script;
use crate::keys::write_run;
use crate::meta::{Digest, Meta};
use crate::plans::Need;
use crate::queue::write_message;
use crate::scripts::{
    ANNOUNCE, INTEND, OVERDUE, PUBLISH, PUBLISH_SEGMENT, SLICE, STAGE, STAGE_SEGMENT, SUBMIT, SUBMIT_SEGMENT,
};
use crate::settle::place_of;
use crate::store::phase_byte;
use crate::texts::{PIECE_BYTES, PIECES_AT_ONCE, STAGED_SECONDS, literal_field};
use crate::wiring::{counts, joins, whole};

/// So that whoever panics again and again does not run hot.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// A run whose parts are larger is staged.
const SMALL_BYTES: usize = 256 * 1024;

/// The states of so many nodes are kept with the run; those of more have a key of their own.
const STATES_INLINE: usize = 1024;

/// Runs of so few nodes know themselves whom their leaves count down.
const WIRED_NODES: usize = 16;

/// A run of more nodes is written on a thread of its own, off those on which others wait for their turn.
const WRITTEN_HERE: usize = 5_000;

/// So many runs, and so many bytes of them, are submitted in one step at most.
const RUNS_AT_ONCE: usize = 100;
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// On a Cluster a client has so long to store a run after it noted its intent; much later a sweep announces
/// it.
const STORED_WITHIN: Duration = Duration::from_secs(30);
const OVERDUE_MS: u64 = 5 * 60 * 1000;

/// A run as it is stored first.
struct Parts {
    run: RunRef,
    meta: Meta,
    plan: Vec<u8>,
    states: Vec<u8>,
    /// Fields of the hash besides `m`, `s` and `p`.
    fields: Vec<(String, Vec<u8>)>,
    starts: Vec<Dispatch>,
    /// Of a segment, the outermost run.
    root: Option<RunId>,
    /// Arguments that are stored beside the plan.
    literals: Vec<(uuid::Uuid, Arc<str>)>,
    /// Of what was given.
    given: Digest,
}

impl Parts {
    fn new(new: &NewRun) -> Self {
        let plan = &new.plan;
        let (state, released) = RunState::start(plan);
        let phases: Vec<Phase> = state.phases().collect();
        let is_done =
            |(i, phase): (usize, &Phase)| (*phase == Phase::Succeeded).then(|| NodeNo::from_index(i));
        let done: Vec<NodeNo> = phases.iter().enumerate().filter_map(is_done).collect();
        let left = plan.outputs().iter().filter(|node| phases[node.index()] != Phase::Succeeded).count();
        let pack = "numbers have a MessagePack form";
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        fields.extend(joins(plan).map(|(name, nodes)| (name, rmp_serde::to_vec(&nodes).expect(pack))));
        let counts = counts(plan, done.into_iter()).into_iter();
        fields.extend(counts.map(|(node, seen)| (format!("c{node}"), seen.to_string().into_bytes())));
        if plan.len() <= WIRED_NODES {
            fields.push(("w".to_owned(), rmp_serde::to_vec(&whole(plan)).expect(pack)));
        }
        if let Some(origin) = &new.origin {
            fields.push(("u".to_owned(), rmp_serde::to_vec(origin).expect("ids have a MessagePack form")));
        }
        let bytes = plan.encode();
        fields.extend(write_queues(plan.queues()).map(|queues| ("q".to_owned(), queues.into_bytes())));
        let given = new.given.as_ref().map(|given| Digest::of(&given.encode()));
        fields.extend(given.map(|given| ("v".to_owned(), given.0.to_vec())));
        let meta = Meta {
            nodes: plan.len() as u32,
            open: state.open(),
            owed: state.owed(),
            left: left as u32,
            failed: 0,
            done: 0,
            expected: plan.expected(),
            retried: 0,
            retention_ms: new
                .retention
                .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 12).max(1)),
            version: 1,
            digest: Digest::of(&bytes),
            incarnation: new.run.incarnation,
        };
        let states = phases.into_iter().map(phase_byte).collect();
        // All or none: else a coordinator queues them.
        let starts = if new.starts_with(&released) { new.starts.clone() } else { Vec::new() };
        let (root, literals) = (new.origin.map(|origin| origin.root), new.literals.clone());
        let given = given.unwrap_or(meta.digest);
        Self { run: new.run, meta, plan: bytes, states, fields, starts, root, literals, given }
    }

    fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, nodes)| name.len() + nodes.len()).sum();
        let starts: usize = self.starts.iter().map(|leaf| leaf.message.args.as_str().len() + 256).sum();
        self.plan.len() + fields + starts
    }

    fn is_small(&self) -> bool {
        self.literals.is_empty()
            && self.bytes() <= SMALL_BYTES
            && self.states.len() <= STATES_INLINE
            && self.fields.len() <= SLICE
    }

    /// Segments are not.
    fn is_listed(&self) -> bool {
        self.root.is_none()
    }

    /// The run with its first leaves dispatched, which is what queueing them in the same step means.
    fn started(mut self) -> Self {
        for leaf in &self.starts {
            self.states[leaf.release.node.index()] = phase_byte(Phase::Dispatched);
        }
        self.meta.owed -= self.starts.len() as u32;
        self
    }
}

/// Where small runs are handed in.
pub(crate) struct Desk(mpsc::UnboundedSender<Handed>);

/// A run, and who waits to hear whether it is a new one.
type Handed = (Parts, oneshot::Sender<Result<bool, BackendError>>);

impl Desk {
    /// Opens it: a task submits what is handed in, until the desk is gone.
    pub(crate) fn open(link: Link) -> Self {
        let (hand_in, handed) = mpsc::unbounded_channel();
        tokio::spawn(attend(link, handed));
        Self(hand_in)
    }

    async fn submit(&self, parts: Parts) -> Result<bool, BackendError> {
        let run = parts.run;
        let gone = || BackendError::new(ErrorKind::Unavailable, "submit").context(run);
        let (answer, answered) = oneshot::channel();
        self.0.send((parts, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Serves, also when that has panicked: those whose runs were at hand then hear that the backend is not
/// there.
async fn attend(link: Link, mut handed: mpsc::UnboundedReceiver<Handed>) {
    while AssertUnwindSafe(serve(&link, &mut handed)).catch_unwind().await.is_err() {
        tracing::error!("who submits runs has panicked; going on");
        tokio::time::sleep(PANIC_PAUSE).await;
    }
}

async fn serve(link: &Link, handed: &mut mpsc::UnboundedReceiver<Handed>) {
    let mut waiting: Vec<Handed> = Vec::with_capacity(RUNS_AT_ONCE);
    while handed.recv_many(&mut waiting, RUNS_AT_ONCE).await > 0 {
        let mut rest = std::mem::take(&mut waiting).into_iter().peekable();
        while rest.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some((parts, _)) = rest.peek() {
                bytes += parts.bytes();
                let is_of_a_kind = |(first, _): &Handed| first.is_listed() == parts.is_listed();
                if !batch.is_empty() && (bytes > BYTES_AT_ONCE || !batch.first().is_some_and(is_of_a_kind)) {
                    break;
                }
                batch.extend(rest.next());
            }
            let (parts, answers): (Vec<Parts>, Vec<_>) = batch.into_iter().unzip();
            match submit_small(link, &parts, None).await {
                Ok(new) => {
                    for (answer, new) in answers.into_iter().zip(new) {
                        // Who does not wait any more does not want to know.
                        let _ = answer.send(new);
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let context = error.context.clone().unwrap_or_default();
                        let same = BackendError::new(error.kind, error.operation).context(context);
                        let _ = answer.send(Err(same));
                    }
                }
            }
        }
    }
}

/// Submits runs in one step; whether each is a new one.
async fn submit_small(
    link: &Link,
    runs: &[Parts],
    latest_ms: Option<u64>,
) -> Result<Vec<Result<bool, BackendError>>, BackendError> {
    let mut queues: Vec<(&Arc<str>, Lane)> = Vec::new();
    let is_cluster = link.is_cluster();
    runs.iter().flat_map(|parts| &parts.starts).for_each(|leaf| {
        place_of(&mut queues, (&leaf.queue, leaf.lane));
    });
    let (mut roots, first_root) = (Vec::new(), runs.len() + 3 + queues.len() + 1);
    // Runs of clients do not come in one step with segments, for which a Redis that is full makes an
    // exception.
    let submit: &Script = if runs.iter().all(|parts| parts.is_listed()) { &SUBMIT } else { &SUBMIT_SEGMENT };
    let reply: Vec<redis::Value> = link
        .run("submit", submit, |script| {
            for parts in runs {
                script.key(link.keys.run(parts.run.id).hash());
            }
            script.arg(runs.len()).arg(latest_ms.map(|time| time.to_string()).unwrap_or_default());
            for parts in runs {
                let Meta { open, retention_ms, .. } = parts.meta;
                let over = (open == 0 && retention_ms > 0).then(|| retention_ms.to_string());
                let is_owed = parts.meta.owed > 0 && !is_cluster;
                script.arg(&write_run(parts.run)[..]);
                script.arg(over.unwrap_or_default()).arg(u8::from(is_owed)).arg(u8::from(parts.is_listed()));
                script.arg(
                    parts
                        .root
                        .filter(|_| !is_cluster)
                        .map_or(0, |root| first_root + place_of(&mut roots, root)),
                );
                script.arg(3 + parts.fields.len());
                script.arg("m").arg(&parts.meta.pack()[..]).arg("s").arg(&parts.states);
                script.arg("p").arg(&parts.plan);
                for (name, value) in &parts.fields {
                    script.arg(name).arg(value);
                }
                script.arg(parts.starts.len());
                for leaf in &parts.starts {
                    let place = place_of(&mut queues, (&leaf.queue, leaf.lane));
                    script.arg(place + 1).arg(write_message(&leaf.message));
                }
            }
            if !is_cluster {
                script.key(link.keys.runs()).key(link.keys.submission_stream()).key(link.keys.ended());
                for (queue, lane) in &queues {
                    script.key(link.keys.stream(queue, *lane));
                }
                for root in &roots {
                    script.key(link.keys.run(*root).hash());
                }
            }
        })
        .await?;
    let answer = |(reply, parts): (redis::Value, &Parts)| match reply {
        redis::Value::Int(2) => Err(gone(parts.run)),
        redis::Value::Int(new) => Ok(new == 1),
        redis::Value::BulkString(why) => {
            let why = String::from_utf8_lossy(&why);
            if is_denied(&why) {
                let context = format!("{}; {}: {why}", denied::advice(&why), parts.run);
                return Err(BackendError::new(ErrorKind::Denied, "submit").context(context));
            }
            Err(corrupt("submit", format!("{}: {why}", parts.run)))
        }
        other => Err(corrupt("submit", format!("{}: {other:?}", parts.run))),
    };
    Ok(reply.into_iter().zip(runs).map(answer).collect())
}

impl RedisBackend {
    pub(crate) async fn submit_run(&self, new: NewRun) -> Result<Submitted, BackendError> {
        let (link, is_segment) = (self.link(), new.origin.is_some());
        if is_segment {
            return self.submit_now(new).await;
        }
        link.room.check(link).await?;
        match self.submit_now(new).await {
            Ok(submitted) => Ok(submitted),
            Err(error) => Err(link.room.explain(link, error).await),
        }
    }

    async fn submit_now(&self, new: NewRun) -> Result<Submitted, BackendError> {
        let parts = if new.plan.len() > WRITTEN_HERE {
            let new = new.clone();
            let written = tokio::task::spawn_blocking(move || Parts::new(&new)).await;
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        } else {
            Parts::new(&new)
        };
        // All its queues are there before it is accepted: afterwards none is refused.
        let queues = new.plan.queues().iter().map(|queue| (queue, Lane::default()));
        self.queues().note(self.link(), "submit", queues, true).await?;
        // Nobody waits for a segment.
        let listener = parts.is_listed().then(|| self.link().hints.listen_from_the_start(new.run.id));
        let (meta, given) = (parts.meta, parts.given);
        let is_new = if self.link().is_cluster() {
            self.submit_apart(parts).await?
        } else if parts.is_small() {
            let starts = parts.starts.iter().map(|leaf| (leaf.queue.clone(), leaf.lane));
            let mut starts: Vec<(Arc<str>, Lane)> = starts.collect();
            starts.dedup();
            let starts = || starts.iter().map(|(queue, lane)| (queue, *lane));
            let noted = self.queues().note(self.link(), "submit", starts(), false).await?;
            let is_new = self.0.desk.submit(parts.started()).await?;
            self.queues().note_again(self.link(), "submit", starts(), noted).await?;
            is_new
        } else {
            let is_new = self.submit_large(&parts).await?;
            if is_new && meta.open == 0 && meta.retention_ms > 0 {
                self.note_end(new.run, meta.retention_ms).await?;
            }
            is_new
        };
        if is_new {
            let need = if meta.open == 0 { Need::Nothing } else { Need::Perhaps };
            self.plans().insert(new.run, new.plan, need);
            listener.into_iter().for_each(|listener| self.0.fresh.put(new.run, listener));
            return Ok(Submitted::Accepted);
        }
        match self.given(new.run.id).await? {
            Some((run, known)) if known == given => Ok(Submitted::Existing(run)),
            Some(_) => Err(BackendError::new(ErrorKind::Conflict, "submit").context(new.run)),
            // It was there and is forgotten: the caller may try again.
            None => Err(try_again(new.run)),
        }
    }

    /// The run that has this id now, and of what it was given.
    async fn given(&self, id: RunId) -> Result<Option<(RunRef, Digest)>, BackendError> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.link().keys.run(id).hash()).arg("m").arg("v");
        let (meta, given): (Option<Vec<u8>>, Option<[u8; 16]>) = self.link().ask("submit", &cmd).await?;
        let Some(meta) = meta else { return Ok(None) };
        let meta = Meta::unpack("submit", &meta)?;
        Ok(Some((id.incarnation(meta.incarnation), given.map_or(meta.digest, Digest))))
    }

    /// On a Cluster: notes the intent, stores, announces.
    async fn submit_apart(&self, mut parts: Parts) -> Result<bool, BackendError> {
        let (link, run, root, meta, given) = (self.link(), parts.run, parts.root, parts.meta, parts.given);
        // A segment is submitted again by whoever gets the event that asked for it, until it is announced.
        let latest_ms: Option<u64> = if parts.is_listed() {
            let begun = Instant::now();
            let noted = link.run::<u64>("submit", &INTEND, |script| {
                script.key(link.keys.runs()).key(link.keys.intents()).arg(&write_run(run)[..]);
            });
            // It is stored elsewhere, where another clock goes.
            let hash = link.keys.run(run.id).hash();
            let (_, now_ms) = futures::try_join!(noted, clocks::now_ms(link, "submit", &hash))?;
            let left = STORED_WITHIN.checked_sub(begun.elapsed()).ok_or_else(|| try_again(run))?;
            Some(now_ms + left.as_millis() as u64)
        } else {
            None
        };
        parts.starts.clear();
        let stored = if parts.is_small() {
            let answers = submit_small(link, &[parts], latest_ms).await;
            answers.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(try_again(run))))
        } else {
            self.submit_large(&parts).await
        };
        // What was refused will not be stored. Of what got no answer nobody knows: that is left to a sweep.
        if stored.as_ref().is_err_and(|error| !error.may_retry())
            && latest_ms.is_some()
            && let Err(error) = self.withdraw(run).await
        {
            tracing::debug!(%error, "the intent to store a run that was refused is found by a sweep");
        }
        let is_new = stored?;
        if meta.open == 0 && meta.retention_ms > 0 && is_new {
            self.note_end(run, meta.retention_ms).await?;
        }
        if let Some(root) = root.map(|root| root.incarnation(run.incarnation))
            && self.meta_of(root, "submit").await?.is_none()
        {
            // Its run was forgotten before it knew of this segment being stored: nobody else takes it away.
            self.forget_run(run, "any").await?;
            return Err(gone(run));
        }
        // Also the same run that was there already: its client may have died before the announcement.
        let known = if is_new { Some((run, given)) } else { self.given(run.id).await? };
        let known = known.and_then(|(stored, known)| (known == given).then_some(stored));
        if let Some(stored) = known {
            self.announce(stored).await?;
        }
        if latest_ms.is_some() && known != Some(run) {
            // The id belongs to another run: this one is none.
            self.withdraw(run).await?;
        }
        Ok(is_new)
    }

    /// On a Cluster: takes back the intent to store a run.
    async fn withdraw(&self, run: RunRef) -> Result<(), BackendError> {
        let (link, mut cmd) = (self.link(), redis::cmd("ZREM"));
        link.ask::<()>("submit", cmd.arg(link.keys.intents()).arg(&write_run(run)[..])).await?;
        self.drop_from_list(run).await
    }

    /// Adds the event of a submission.
    pub(crate) async fn announce(&self, run: RunRef) -> Result<(), BackendError> {
        let link = self.link();
        link.run("submit", &ANNOUNCE, |script| {
            script.key(link.keys.intents()).key(link.keys.submission_stream());
            script.arg(&write_run(run)[..]);
        })
        .await
    }

    /// Announces what clients that died have stored and not announced.
    pub(crate) async fn announce_overdue(&self) -> Result<(), BackendError> {
        let link = self.link();
        if !link.is_cluster() {
            return Ok(());
        }
        link.run::<()>("sweep", &OVERDUE, |script| {
            script.key(link.keys.intents()).key(link.keys.submission_stream());
            script.arg(OVERDUE_MS).arg(SLICE);
        })
        .await
    }

    async fn submit_large(&self, parts: &Parts) -> Result<bool, BackendError> {
        let link = self.link();
        let (run, keys) = (parts.run, link.keys.run(parts.run.id));
        let unique = unique();
        let staged = [keys.hash(), keys.plan(), keys.literals()].map(|key| format!("{key}:stage:{unique}"));
        let is_inline = parts.states.len() <= STATES_INLINE;
        let mut fields: Vec<(&str, &[u8])> =
            parts.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        if is_inline {
            fields.push(("s", &parts.states));
        }
        let (stage, publish): (&Script, &Script) =
            if parts.is_listed() { (&STAGE, &PUBLISH) } else { (&STAGE_SEGMENT, &PUBLISH_SEGMENT) };
        let literals = match self.stage(stage, &staged, parts, &fields).await {
            Ok(literals) => literals,
            Err(error) => {
                // It would expire, but a Redis that is full has no room for it.
                let _ = link.ask::<()>("submit", redis::cmd("UNLINK").arg(&staged)).await;
                return Err(error);
            }
        };
        let answer: String = link
            .run("submit", publish, |script| {
                script
                    .key(keys.hash())
                    .key(keys.states())
                    .key(keys.plan())
                    .key(keys.literals())
                    .key(&staged[..]);
                if !link.is_cluster() {
                    script.key(link.keys.runs()).key(link.keys.submission_stream());
                    parts.root.into_iter().for_each(|root| {
                        script.key(link.keys.run(root).hash());
                    });
                }
                script.arg(&write_run(run)[..]).arg(&parts.meta.pack()[..]);
                script.arg(if is_inline { &[][..] } else { &parts.states });
                script.arg(fields.len()).arg(parts.plan.len()).arg(u8::from(parts.is_listed())).arg(literals);
            })
            .await?;
        match answer.as_str() {
            "ACCEPTED" => Ok(true),
            "EXISTING" => Ok(false),
            "GONE" => Err(gone(run)),
            _ => Err(try_again(run)),
        }
    }

    /// Stages it, each piece with its expiry in one step: a piece without one would stay for ever. Returns in
    /// how many pieces its literals are.
    async fn stage(
        &self,
        script: &'static Script,
        [hash, plan, literals]: &[String; 3],
        parts: &Parts,
        fields: &[(&str, &[u8])],
    ) -> Result<usize, BackendError> {
        let link = self.link();
        for piece in parts.plan.chunks(PIECE_BYTES) {
            let add = link.prepare("submit", script, |script| {
                script.key(plan).arg(STAGED_SECONDS).arg(piece);
            });
            self.0.turns.take(add.send::<()>()).await?;
        }
        for slice in fields.chunks(SLICE) {
            let add = link.run::<()>("submit", script, |script| {
                script.key(hash).arg(STAGED_SECONDS);
                slice.iter().for_each(|(name, value)| {
                    script.arg(name).arg(value);
                });
            });
            add.await?;
        }
        self.stage_literals(script, literals, &parts.literals).await
    }

    /// Stages the arguments that are stored beside the plan; returns in how many pieces.
    async fn stage_literals(
        &self,
        script: &'static Script,
        key: &str,
        literals: &[(uuid::Uuid, Arc<str>)],
    ) -> Result<usize, BackendError> {
        type Piece<'p> = (String, &'p [u8]);
        let pieces = literals.iter().flat_map(|(name, text)| {
            let pieces = text.as_bytes().chunks(PIECE_BYTES).enumerate();
            pieces.map(|(place, piece)| (literal_field(*name, place), piece))
        });
        // Small ones go together.
        let mut batches: Vec<(Vec<Piece<'_>>, usize)> = Vec::new();
        for (field, piece) in pieces {
            match batches.last_mut() {
                Some((batch, bytes)) if *bytes + piece.len() <= PIECE_BYTES => {
                    *bytes += piece.len();
                    batch.push((field, piece));
                }
                _ => batches.push((vec![(field, piece)], piece.len())),
            }
        }
        let count = batches.iter().map(|(batch, _)| batch.len()).sum();
        let staged = stream::iter(0..batches.len()).map(|place| {
            let batch = &batches[place].0;
            let add = self.link().prepare("submit", script, move |script| {
                script.key(key).arg(STAGED_SECONDS);
                batch.iter().for_each(|(name, value)| {
                    script.arg(name).arg(*value);
                });
            });
            self.0.turns.take(add.send::<()>())
        });
        staged.buffer_unordered(PIECES_AT_ONCE).try_collect::<()>().await?;
        Ok(count)
    }
}

/// A segment whose run is gone.
fn gone(segment: RunRef) -> BackendError {
    BackendError::new(ErrorKind::UnknownRun, "submit").context(segment)
}

fn try_again(run: RunRef) -> BackendError {
    BackendError::new(ErrorKind::Unavailable, "submit").context(run)
}

/// A name that no other submission has: 128 bits from the system's randomness.
fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
