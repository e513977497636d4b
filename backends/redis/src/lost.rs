//! What a part of the store has lost: a shard that went back to an older state, or somebody who removed a
//! key.
//!
//! A run that stands still is looked at more closely. What it waits for is noted there as queued; so it is in
//! one of its queues, with a timer, among the reports, or a dead letter. All of these are gone through, a
//! slice at a time, and what was not found goes through them once more, since leaves move meanwhile. What
//! is found in neither round is gone: it goes back to the outbox, and is queued again. A leaf that may run
//! once only, and has begun, has lost its worker for all that anybody knows; and one that was replaced fails
//! when what was to run in its place is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, DEFAULT_QUEUE, DeadLetters as _, Lane};
use celeriac_engine::RunOutcome;
use celeriac_primitives::{Completion, NodeNo, Outcome, RunRef, TaskError};
use tokio::time::Instant;

use crate::RedisBackend;
use crate::keys::{ReportsOf, write_incarnation};
use crate::lines::note_reports;
use crate::meta::Meta;
use crate::queue::{HEAD, head, write_report};
use crate::scripts::{HEADS, LOST, SLICE};

/// A run that has not changed for so long stands still. It is looked at again after twice the time, and so
/// on until it changes: one that only waits costs little.
const STANDS_FOR: Duration = Duration::from_secs(5);
const LOOKED_AT_EVERY: Duration = Duration::from_secs(40);

/// The second round begins so long after the first has begun, at least.
const ROUND: Duration = Duration::from_secs(2);

/// So many runs are known to stand, and so many of them, with so many leaves each, are looked at together.
const STANDING_MAX: usize = 10_000;
const RUNS_MAX: usize = 100;
const LEAVES_MAX: usize = 1000;

/// A slice has so many entries, and so many slices are looked through each time.
const ENTRIES: usize = 100;
const SLICES_MAX: usize = 50;

/// So many dead letters there are at most; they are read in pages.
const LETTERS_PAGE: usize = 100;

/// What a leaf's message and its report begin with.
type Head = [u8; HEAD];

/// What is known of runs that stand, and what is looked for now.
#[derive(Debug, Default)]
pub(crate) struct Lost(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    standing: HashMap<RunRef, Standing>,
    search: Option<Search>,
}

/// A run as it was seen.
#[derive(Debug)]
struct Standing {
    version: u64,
    /// When it was looked at, or first seen in this version.
    since: Instant,
    /// When it is to be looked at, after that.
    after: Duration,
}

impl Standing {
    fn new(version: u64) -> Self {
        Self { version, since: Instant::now(), after: STANDS_FOR }
    }
}

/// An attempt at a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Attempt {
    run: RunRef,
    node: NodeNo,
    attempt: u32,
}

impl Attempt {
    fn head(self) -> Head {
        let Self { run, node, attempt } = self;
        head(run.id.task(node), attempt, run.incarnation).try_into().expect("a head has the length of a head")
    }

    /// How a replaced leaf ends comes as the next attempt.
    fn end(self) -> Self {
        Self { attempt: self.attempt + 1, ..self }
    }

    /// Whether a report or a dead letter is about this leaf, which was replaced: it has not been settled, and
    /// may be about to bring what is missing, or was in vain.
    fn is_reported_by(self, head: &Head) -> bool {
        [self, self.end()].iter().any(|attempt| attempt.head() == *head)
    }

    /// How the attempt has ended.
    fn completion(self, outcome: Outcome) -> Completion {
        let Self { run, node, attempt } = self;
        Completion { task_id: run.id.task(node), attempt, outcome, incarnation: run.incarnation }
    }
}

/// Where something may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    // In this order a leaf passes them.
    Timers(Arc<str>, Lane),
    Leaves(Arc<str>, Lane),
    Reports(ReportsOf),
    Letters,
}

/// Looks for what some runs wait for.
#[derive(Debug, Default)]
struct Search {
    wanted: HashMap<Head, Attempt>,
    /// Leaves that were replaced by what is not there.
    orphans: Vec<Attempt>,
    /// The names of the queues of each run.
    queues: HashMap<RunRef, Vec<Arc<str>>>,
    places: BTreeSet<Place>,
    left: VecDeque<Place>,
    /// Where to go on in the first place that is left.
    from: String,
    began: Option<Instant>,
    is_second: bool,
}

impl Search {
    /// Looks into this lane, too; whether that is new.
    fn look_into(&mut self, queue: &Arc<str>, lane: Lane) -> bool {
        let are_new =
            [Place::Timers, Place::Leaves].map(|place| self.places.insert(place(queue.clone(), lane)));
        are_new.contains(&true)
    }

    /// Goes through all places once more, or for the first time.
    fn begin_round(&mut self) {
        self.left = self.places.iter().cloned().collect();
        (self.from, self.began) = (String::new(), Some(Instant::now()));
    }

    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.orphans.is_empty()
    }
}

impl Lost {
    /// Those of these runs that have not changed for a while.
    fn standing(&self, runs: &[(RunRef, Meta)]) -> Vec<RunRef> {
        let (mut state, mut standing) = (self.state(), Vec::new());
        if state.standing.len() > STANDING_MAX {
            state.standing.clear();
        }
        for (run, meta) in runs {
            if meta.open == 0 {
                state.standing.remove(run);
                continue;
            }
            let seen = state.standing.entry(*run).or_insert_with(|| Standing::new(meta.version));
            if seen.version != meta.version {
                *seen = Standing::new(meta.version);
            } else if seen.since.elapsed() >= seen.after && standing.len() < RUNS_MAX {
                standing.push(*run);
            }
        }
        standing
    }

    /// These are looked at: not again before a while has passed.
    fn note_looked(&self, runs: &[RunRef]) {
        let mut state = self.state();
        for run in runs {
            if let Some(seen) = state.standing.get_mut(run) {
                seen.since = Instant::now();
                seen.after = (seen.after * 2).min(LOOKED_AT_EVERY);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisBackend {
    /// Looks on for what runs that stand still have lost; these are some of the runs that are there. Returns
    /// those for which there is something to do now.
    pub(crate) async fn find_lost(&self, runs: &[(RunRef, Meta)]) -> Result<Vec<RunRef>, BackendError> {
        let (standing, mut owing) = (self.lost().standing(runs), Vec::new());
        let search = self.lost().state().search.take();
        let mut search = match search {
            Some(search) => search,
            None if standing.is_empty() => return Ok(owing),
            None => {
                self.lost().note_looked(&standing);
                let mut search = Search::default();
                for run in standing {
                    // One that cannot be read holds up no other.
                    if let Err(error) = self.add_to(&mut search, run, &mut owing).await {
                        tracing::debug!(%run, %error, "a run that stands still cannot be looked at");
                        if !error.may_retry() {
                            self.link().broken.note(&self.link().keys.run(run.id).hash(), error);
                        }
                    }
                }
                search.begin_round();
                search
            }
        };
        if search.is_empty() {
            return Ok(owing);
        }
        let is_over = self.go_on(&mut search).await?;
        if !is_over || search.began.is_some_and(|began| !search.is_second && began.elapsed() < ROUND) {
            self.lost().state().search = Some(search);
            return Ok(owing);
        }
        if !search.is_second && !search.is_empty() {
            // With lanes that nobody has noted, the first round begins anew.
            search.is_second = !self.add_unnoted(&mut search).await?;
            search.begin_round();
            self.lost().state().search = Some(search);
            return Ok(owing);
        }
        owing.extend(self.bring_back(search).await?);
        Ok(owing)
    }

    /// Adds what a run, and what runs in the place of its leaves, waits for. What such a run has to tell is
    /// to be done now.
    async fn add_to(
        &self,
        search: &mut Search,
        run: RunRef,
        owing: &mut Vec<RunRef>,
    ) -> Result<(), BackendError> {
        let mut runs = vec![run];
        while let Some(run) = runs.pop() {
            let Some((meta, states)) = self.states(run, "owing").await? else { continue };
            let of = |state: u8| {
                let found = states.iter().enumerate().filter(move |(_, found)| **found == state);
                found.map(|(place, _)| NodeNo::from_index(place)).take(LEAVES_MAX).collect::<Vec<_>>()
            };
            let queued = self.attempts(run, &meta, of(b'D')).await?;
            search.wanted.extend(queued.into_iter().map(|attempt| (attempt.head(), attempt)));
            let queues = self.queues_of(run).await?;
            for (queue, lane) in self.queues().places_there(self.link(), "owing", &queues).await? {
                search.look_into(&queue, lane);
            }
            search.places.extend(queues.iter().flat_map(ReportsOf::both).map(Place::Reports));
            search.places.insert(Place::Letters);
            search.queues.insert(run, queues);
            for replaced in self.attempts(run, &meta, of(b'P')).await? {
                let segment = run.segment(replaced.node, replaced.attempt);
                match self.meta_of(segment, "owing").await? {
                    None => search.orphans.push(replaced),
                    // Who decided it may have died before anybody heard of it.
                    Some(meta) if meta.status().outcome != RunOutcome::Undecided || meta.owed > 0 => {
                        owing.push(segment);
                    }
                    Some(_) => runs.push(segment),
                }
            }
        }
        Ok(())
    }

    /// Adds lanes that are there and on no list; whether there are any.
    async fn add_unnoted(&self, search: &mut Search) -> Result<bool, BackendError> {
        let queues: BTreeSet<Arc<str>> = search.queues.values().flatten().cloned().collect();
        let mut is_new = false;
        for queue in queues {
            for lane in self.queues().lanes_used(self.link(), "owing", &queue).await? {
                is_new |= search.look_into(&queue, lane);
            }
        }
        Ok(is_new)
    }

    async fn attempts(
        &self,
        run: RunRef,
        meta: &Meta,
        nodes: Vec<NodeNo>,
    ) -> Result<Vec<Attempt>, BackendError> {
        let mut attempts = Vec::with_capacity(nodes.len());
        for slice in nodes.chunks(SLICE) {
            let known = if meta.retried == 0 {
                vec![None; slice.len()]
            } else {
                let names = slice.iter().map(|node| format!("a{node}")).collect();
                let fields = self.fields::<u32>(run, "owing", names).await?;
                fields.map_or_else(Vec::new, |(_, known)| known)
            };
            let attempt = |(node, known): (&NodeNo, Option<u32>)| Attempt {
                run,
                node: *node,
                attempt: known.unwrap_or(1),
            };
            attempts.extend(slice.iter().zip(known).map(attempt));
        }
        Ok(attempts)
    }

    /// The names of a run's queues.
    async fn queues_of(&self, run: RunRef) -> Result<Vec<Arc<str>>, BackendError> {
        let fields = self.fields::<Vec<u8>>(run, "owing", vec!["q".to_owned()]).await?;
        let names = fields.and_then(|(_, fields)| fields.into_iter().next().flatten());
        let names = names.and_then(|names| String::from_utf8(names).ok());
        Ok(match names {
            Some(names) => names.split('\u{1}').map(Arc::from).collect(),
            None => vec![Arc::from(DEFAULT_QUEUE)],
        })
    }

    /// Looks through some slices; whether all of this round was looked through.
    async fn go_on(&self, search: &mut Search) -> Result<bool, BackendError> {
        let (link, keys) = (self.link(), &self.link().keys);
        for _ in 0..SLICES_MAX {
            let Some(place) = search.left.front().cloned() else { return Ok(true) };
            let (key, what, first) = match &place {
                Place::Timers(queue, lane) => (keys.timers(queue, *lane)[0].clone(), "timers", "0"),
                Place::Leaves(queue, lane) => (keys.stream(queue, *lane), "stream", "-"),
                Place::Reports(reports) => (keys.reports(reports).stream, "stream", "-"),
                Place::Letters => {
                    self.look_at_letters(search).await?;
                    search.left.pop_front();
                    continue;
                }
            };
            let from = if search.from.is_empty() { first } else { &search.from };
            let looked = link.run::<(Vec<u8>, String)>("owing", &HEADS, |script| {
                script.key(&key).arg(what).arg(from).arg(ENTRIES);
            });
            let (heads, next) = match looked.await {
                Ok(looked) => looked,
                Err(error) if error.may_retry() => return Err(error),
                // Nobody knows what is there: it is looked for again when that is mended.
                Err(error) => {
                    link.broken.note(&key, error);
                    search.wanted.clear();
                    search.orphans.clear();
                    return Ok(true);
                }
            };
            for head in heads.chunks_exact(HEAD) {
                let head = Head::try_from(head).expect("a chunk has the length of a head");
                search.wanted.remove(&head);
                search.orphans.retain(|orphan| !orphan.is_reported_by(&head));
            }
            if next.is_empty() {
                search.left.pop_front();
            }
            search.from = next;
        }
        Ok(search.left.is_empty())
    }

    async fn look_at_letters(&self, search: &mut Search) -> Result<(), BackendError> {
        let mut after = None;
        loop {
            let letters = self.dead_letters(after, LETTERS_PAGE).await?;
            let Some(last) = letters.last() else { return Ok(()) };
            after = Some(last.id);
            for (_, value) in letters.iter().flat_map(|letter| &letter.fields) {
                if let Some(head) = value.first_chunk::<HEAD>() {
                    search.wanted.remove(head);
                    search.orphans.retain(|orphan| !orphan.is_reported_by(head));
                }
            }
        }
    }

    /// Queues again what was found nowhere; returns the runs that owe it now.
    async fn bring_back(&self, search: Search) -> Result<Vec<RunRef>, BackendError> {
        let Search { wanted, orphans, queues, .. } = search;
        let mut by_run: BTreeMap<RunRef, Vec<Attempt>> = BTreeMap::new();
        for attempt in wanted.into_values() {
            by_run.entry(attempt.run).or_default().push(attempt);
        }
        let (mut owing, mut ended) = (Vec::new(), Vec::new());
        for (run, mut attempts) in by_run {
            attempts.sort_unstable();
            let mut back = 0;
            for slice in attempts.chunks(SLICE) {
                let answers = self.put_back(run, slice).await?;
                back += answers.iter().filter(|answer| **answer == 1).count();
                let begun = slice.iter().zip(&answers).filter(|(_, answer)| **answer == 2);
                ended.extend(begun.map(|(begun, _)| (*begun, Outcome::WorkerLost { deliveries: 1 })));
            }
            if back > 0 {
                tracing::warn!(
                    %run,
                    leaves = back,
                    "leaves that were queued are nowhere any more, and are queued again: a part of the store went back, or \
                     somebody removed them"
                );
                owing.push(run);
            }
        }
        for orphan in self.still_orphans(orphans).await? {
            let text = "what ran in its place is not there any more: a part of the store went back";
            let failed = Outcome::Failed(TaskError::new("ReplacementLost", text));
            ended.push((orphan.end(), failed));
        }
        for (attempt, outcome) in ended {
            tracing::warn!(run = %attempt.run, node = %attempt.node, "a leaf has lost what was to end it; it fails");
            let queue = queues.get(&attempt.run).and_then(|queues| queues.first().cloned());
            self.report_beside(queue, &attempt.completion(outcome)).await?;
        }
        Ok(owing)
    }

    async fn put_back(&self, run: RunRef, attempts: &[Attempt]) -> Result<Vec<u8>, BackendError> {
        let keys = self.link().keys.run(run.id);
        self.link()
            .run("owing", &LOST, |script| {
                script.key(keys.hash()).key(keys.states()).arg(&write_incarnation(run.incarnation)[..]);
                for attempt in attempts {
                    script.arg(attempt.node.number()).arg(attempt.attempt);
                }
            })
            .await
    }

    /// Those whose segments are still missing, and that were not ended meanwhile.
    async fn still_orphans(&self, orphans: Vec<Attempt>) -> Result<Vec<Attempt>, BackendError> {
        let mut left = Vec::new();
        for orphan in orphans {
            let segment = orphan.run.segment(orphan.node, orphan.attempt);
            let Some((meta, states)) = self.states(orphan.run, "owing").await? else { continue };
            let is_replaced = states.get(orphan.node.index()) == Some(&b'P');
            let attempt = self.attempts(orphan.run, &meta, vec![orphan.node]).await?;
            if is_replaced && attempt == [orphan] && self.meta_of(segment, "owing").await?.is_none() {
                left.push(orphan);
            }
        }
        Ok(left)
    }

    /// Reports how a leaf has ended, in the place of a worker.
    async fn report_beside(&self, queue: Option<Arc<str>>, done: &Completion) -> Result<(), BackendError> {
        let link = self.link();
        let queue = queue.unwrap_or_else(|| Arc::from(DEFAULT_QUEUE));
        let reports = ReportsOf { is_bulk: false, queue };
        let line = link.keys.reports(&reports);
        let entry: [&[u8]; 3] = [b"*", b"c", &write_report(done)];
        link.write::<String>("owing", "XADD", line.stream.clone(), &entry[..]).await?;
        self.reports().hear([reports]);
        note_reports(link, std::iter::once(&line)).await;
        Ok(())
    }

    /// Notes of runs that have ended when they are to be forgotten, where that is not noted.
    pub(crate) async fn note_ends(&self, runs: &[(RunRef, Meta)]) -> Result<(), BackendError> {
        let ended: Vec<_> = runs.iter().filter(|(_, meta)| meta.open == 0 && meta.retention_ms > 0).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let link = self.link();
        let mut cmd = redis::cmd("ZMSCORE");
        cmd.arg(link.keys.ended());
        ended.iter().for_each(|(run, _)| {
            cmd.arg(&crate::keys::write_run(*run)[..]);
        });
        let noted: Vec<Option<f64>> = link.ask("owing", &cmd).await?;
        let known: HashSet<RunRef> =
            ended.iter().zip(noted).filter(|(_, noted)| noted.is_some()).map(|((run, _), _)| *run).collect();
        for (run, meta) in ended.into_iter().filter(|(run, _)| !known.contains(run)) {
            self.note_end(*run, meta.retention_ms).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::{Incarnation, RunId};

    use super::*;
    use crate::meta::Digest;

    fn seen(version: u64) -> Meta {
        Meta {
            nodes: 1,
            open: 1,
            owed: 0,
            left: 1,
            failed: 0,
            done: 0,
            expected: 0,
            retried: 0,
            retention_ms: 0,
            version,
            digest: Digest::of(b"plan"),
            incarnation: Incarnation::new(1),
        }
    }

    /// How many seconds lie between looks at a run that is seen every second.
    async fn looks(lost: &Lost, version: u64, times: usize) -> Vec<u64> {
        let run = RunRef { id: RunId::from_key("a"), incarnation: Incarnation::new(1) };
        let (mut last, mut looks) = (Instant::now(), Vec::new());
        while looks.len() < times {
            let standing = lost.standing(&[(run, seen(version))]);
            if !standing.is_empty() {
                lost.note_looked(&standing);
                looks.push(last.elapsed().as_secs());
                last = Instant::now();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        looks
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_stands_is_looked_at_ever_less_often_until_it_changes() {
        let lost = Lost::default();
        assert_eq!(looks(&lost, 1, 6).await, [5, 10, 20, 40, 40, 40]);
        assert_eq!(looks(&lost, 2, 2).await, [5, 10]);
    }
}
