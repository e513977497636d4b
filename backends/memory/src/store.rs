//! Runs in memory.

use std::cmp::Reverse;
use std::collections::{BTreeSet, hash_map};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    Advance, Advanced, BackendError, Begin, Dispatch, ErrorKind, Event, Grown, Known, NewRun, Origin,
    Progress, RunStatus, Store, Submitted,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::{Results as _, ScopeNo};
use celeriac_engine::{Plan, Release, RunOutcome, RunState};
use celeriac_primitives::{Incarnation, NodeNo, RunId, RunRef, Stored, TaskId};
use dashmap::Entry;
use foldhash::{HashMap, HashSet};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::queue::Mark;
use crate::{Memory, after, lock};

/// A run whose time is over, and of which a segment goes on, is looked at again after its time, or this when
/// it is less.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// One run: its plan, its state, and what wakes those who wait for it.
#[derive(Debug)]
pub(crate) struct Run {
    incarnation: Incarnation,
    plan: Arc<Plan>,
    /// What comes under the same id is compared with this.
    given: Arc<Plan>,
    expected: u32,
    retention: Option<Duration>,
    /// When it is to be forgotten, once it has ended.
    until: OnceLock<Instant>,
    state: Mutex<RunState>,
    /// Counts changes.
    version: watch::Sender<u64>,
    /// Whether it is decided, or was forgotten: who waits for its value is not woken by each step.
    decided: watch::Sender<bool>,
    progress: Mutex<HashMap<NodeNo, Progress>>,
    /// Which deliveries have begun leaves that run once at most.
    marks: Mutex<HashMap<NodeNo, Mark>>,
    origin: Option<Origin>,
    segments: Mutex<Segments>,
    /// Texts that are kept apart, by their names.
    kept: Mutex<HashMap<Uuid, Arc<str>>>,
    /// Whether it was forgotten. It is told while the state is locked: who has that locked and is told no
    /// knows that what it queues is taken out again when the run is forgotten.
    gone: AtomicBool,
}

/// The segments of a run.
#[derive(Debug, Default)]
struct Segments {
    ids: BTreeSet<RunId>,
    nodes: usize,
}

impl Run {
    fn status(&self) -> RunStatus {
        let state = lock(&self.state);
        RunStatus {
            incarnation: self.incarnation,
            outcome: state.outcome(),
            open: state.open(),
            done: state.done(),
            expected: self.expected,
            version: *self.version.borrow(),
        }
    }

    /// How many texts are kept for it.
    pub(crate) fn texts(&self) -> usize {
        lock(&self.kept).len()
    }

    /// Its state, unless it was forgotten meanwhile.
    fn stored(&self) -> Option<MutexGuard<'_, RunState>> {
        let state = lock(&self.state);
        (!self.gone.load(Ordering::Relaxed)).then_some(state)
    }

    /// Counts a change.
    fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Counts a change of the state, while that is still locked.
    fn touch_state(&self, state: &RunState) {
        self.touch();
        if is_decided(state) || self.gone.load(Ordering::Relaxed) {
            self.decided.send_if_modified(|decided| !std::mem::replace(decided, true));
        }
    }
}

fn is_decided(state: &RunState) -> bool {
    state.outcome() != RunOutcome::Undecided
}

impl Memory {
    fn settle_run(&self, advance: &Advance) -> Advanced {
        let Some(run) = self.run(advance.run) else { return Advanced::Unknown };
        let Some(mut state) = run.stored() else { return Advanced::Unknown };
        let open = state.open();
        let mut settled = state.settle(&run.plan, advance.completions.iter().cloned());
        if !settled.repairs() {
            let is_released = |leaf: &&Dispatch| settled.released.binary_search(&leaf.release).is_ok();
            let prepared: Vec<Dispatch> = advance.prepared.iter().filter(is_released).cloned().collect();
            let is_prepared: HashSet<Release> = prepared.iter().map(|leaf| leaf.release).collect();
            settled.released.retain(|release| !is_prepared.contains(release));
            // Under the run's lock: what is marked is queued before anybody else can look.
            self.enqueue(prepared.into_iter().filter(|leaf| state.dispatch(leaf.release)));
        }
        if settled.changes() {
            run.touch_state(&state);
        }
        if open > 0 && state.ended() {
            self.keep(advance.run.id, &run);
        }
        let acknowledged = !advance.events.is_empty() && settled.released.is_empty();
        if acknowledged {
            self.acknowledge_now(&advance.events);
        }
        Advanced::Settled { settled, acknowledged }
    }

    /// Notes when a run that has ended is to be forgotten.
    fn keep(&self, id: RunId, run: &Run) {
        if let Some(retention) = run.retention {
            let until = *run.until.get_or_init(|| after(retention));
            lock(&self.0.ended).push(Reverse((until, id)));
        }
    }

    /// Forgets the runs whose time is over; returns how many.
    pub(crate) fn forget_ended(&self, now: Instant) -> usize {
        let mut forgotten = 0;
        loop {
            let mut ended = lock(&self.0.ended);
            if ended.peek().is_none_or(|Reverse((until, _))| *until > now) {
                return forgotten;
            }
            let Some(Reverse((_, run))) = ended.pop() else { return forgotten };
            drop(ended);
            // The id may have been forgotten and taken again by a run that goes on, or that is kept for
            // longer.
            let Some(known) = self.current(run) else { continue };
            if known.until.get().is_none_or(|until| *until > now) {
                continue;
            }
            if !self.segments_have_ended(&known) {
                let again = known.retention.unwrap_or(LOOK_AGAIN_MAX).min(LOOK_AGAIN_MAX);
                // Not before the next sweep, whatever its time is.
                let again = after(again.max(Duration::from_millis(1)));
                lock(&self.0.ended).push(Reverse((again, run)));
                continue;
            }
            forgotten += usize::from(self.forget_now(run.incarnation(known.incarnation)));
        }
    }

    fn forget_now(&self, run: RunRef) -> bool {
        let forgotten = self.0.runs.remove_if(&run.id, |_, known| known.incarnation == run.incarnation);
        if let Some((_, known)) = &forgotten {
            let state = lock(&known.state);
            known.gone.store(true, Ordering::Relaxed);
            let may_be_queued = !state.ended();
            // Whoever waits for a change looks again, and finds nothing.
            known.touch_state(&state);
            drop(state);
            // Whoever notes or stores a segment from now on is told that the run is gone.
            let segments = std::mem::take(&mut *lock(&known.segments)).ids;
            for segment in segments {
                self.forget_now(segment.incarnation(run.incarnation));
            }
            if may_be_queued {
                self.take_out(run);
            }
        }
        forgotten.is_some()
    }

    /// Notes that a delivery begins a leaf that runs once at most, unless another one has.
    pub(crate) fn mark(&self, run: RunRef, node: NodeNo, mark: Mark) -> Begin {
        let Some(run) = self.run(run) else { return Begin::Gone };
        match lock(&run.marks).entry(node) {
            hash_map::Entry::Occupied(known) if !known.get().is_before(&mark) => known.get().allows(&mark),
            hash_map::Entry::Occupied(mut older) => {
                older.insert(mark);
                Begin::Run
            }
            hash_map::Entry::Vacant(free) => {
                free.insert(mark);
                Begin::Run
            }
        }
    }

    /// What failed inside a segment is the end of its leaf; what goes on there all the same is not cut off.
    fn segments_have_ended(&self, run: &Run) -> bool {
        let segments = lock(&run.segments).ids.clone();
        let known = segments.into_iter().filter_map(|id| self.run(id.incarnation(run.incarnation)));
        known.into_iter().all(|segment| segment.status().ended())
    }

    fn run(&self, run: RunRef) -> Option<Arc<Run>> {
        self.current(run.id).filter(|known| known.incarnation == run.incarnation)
    }

    /// The run that has this id now.
    fn current(&self, id: RunId) -> Option<Arc<Run>> {
        self.0.runs.get(&id).map(|run| run.value().clone())
    }
}

#[async_trait]
impl Store for Memory {
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError> {
        // As long as the segment is about to be stored, its run is not forgotten.
        let root = run.origin.and_then(|origin| self.run(origin.root.incarnation(origin.incarnation)));
        let segments = root.as_ref().map(|root| lock(&root.segments));
        if run.origin.is_some() && root.as_ref().is_none_or(|root| root.gone.load(Ordering::Relaxed)) {
            return Err(BackendError::new(ErrorKind::UnknownRun, "submit").context(run.run));
        }
        let answer = match self.0.runs.entry(run.run.id) {
            Entry::Occupied(known) if *known.get().given == **run.given() => {
                Ok(Submitted::Existing(run.run.id.incarnation(known.get().incarnation)))
            }
            Entry::Occupied(_) => Err(BackendError::new(ErrorKind::Conflict, "submit").context(run.run)),
            Entry::Vacant(free) => {
                let (mut state, released) = RunState::start(&run.plan);
                let is_ready = run.starts_with(&released);
                let given = run.given().clone();
                let NewRun { run: new, plan, starts, retention, origin, literals, .. } = run;
                if !released.is_empty() && is_ready {
                    self.enqueue(starts.into_iter().filter(|leaf| state.dispatch(leaf.release)));
                } else if !released.is_empty() {
                    self.announce(Event::Submitted(new));
                }
                let (expected, version, ended) = (plan.expected(), watch::Sender::new(1), state.ended());
                let (until, decided) = (OnceLock::new(), watch::Sender::new(is_decided(&state)));
                let run = Arc::new(Run {
                    incarnation: new.incarnation,
                    plan,
                    given,
                    expected,
                    retention,
                    until,
                    state: Mutex::new(state),
                    version,
                    decided,
                    progress: Mutex::default(),
                    marks: Mutex::default(),
                    origin,
                    segments: Mutex::default(),
                    kept: Mutex::new(literals.into_iter().collect()),
                    gone: AtomicBool::new(false),
                });
                if ended {
                    self.keep(new.id, &run);
                }
                free.insert(run);
                Ok(Submitted::Accepted)
            }
        };
        drop(segments);
        answer
    }

    async fn find(&self, id: RunId) -> Result<Option<(RunRef, Arc<Plan>)>, BackendError> {
        Ok(self.current(id).map(|run| (id.incarnation(run.incarnation), run.plan.clone())))
    }

    async fn plan(&self, run: RunRef) -> Result<Option<Arc<Plan>>, BackendError> {
        Ok(self.plan_at_hand(run))
    }

    fn plan_at_hand(&self, run: RunRef) -> Option<Arc<Plan>> {
        self.run(run).map(|run| run.plan.clone())
    }

    async fn settle(&self, batch: &[Advance]) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        Ok(batch.iter().map(|advance| Ok(self.settle_run(advance))).collect())
    }

    async fn outbox(&self, run: RunRef) -> Result<Vec<Release>, BackendError> {
        Ok(self.run(run).map(|run| lock(&run.state).outbox().collect()).unwrap_or_default())
    }

    async fn owing(&self, max: usize) -> Result<Vec<RunRef>, BackendError> {
        let owing = self.0.runs.iter().filter(|run| lock(&run.state).owed() > 0);
        let owing = owing.map(|run| run.key().incarnation(run.incarnation));
        Ok(owing.take(max).collect())
    }

    async fn known(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        scopes: &[ScopeNo],
    ) -> Result<Option<Known>, BackendError> {
        let Some(run) = self.run(run) else { return Ok(None) };
        let (state, mut known) = (lock(&run.state), Known::default());
        let outcome = |node: NodeNo| state.outcome_of(node).map(|outcome| (node, outcome.clone()));
        known.outcomes.extend(nodes.iter().copied().filter_map(outcome));
        for scope in scopes {
            if let Some(node) = state.closed_by(*scope) {
                known.closed.insert(*scope, node);
                known.outcomes.extend(outcome(node));
            }
        }
        Ok(Some(known))
    }

    async fn dispatch(&self, run: RunRef, leaves: &[Dispatch]) -> Result<usize, BackendError> {
        let Some(run) = self.run(run) else { return Ok(0) };
        let Some(mut state) = run.stored() else { return Ok(0) };
        // Under the run's lock: what is marked is queued before anybody else can look.
        Ok(self.enqueue(leaves.iter().filter(|leaf| state.dispatch(leaf.release)).cloned()))
    }

    async fn note_progress(&self, reports: &[Progress]) -> Result<(), BackendError> {
        for report in reports {
            if let Some(run) = self.run(report.task_id.run().incarnation(report.incarnation)) {
                lock(&run.progress).insert(report.task_id.node(), report.clone());
                run.touch();
            }
        }
        Ok(())
    }

    async fn progress(&self, run: RunRef, nodes: &[NodeNo]) -> Result<Vec<Progress>, BackendError> {
        let Some(run) = self.run(run) else { return Ok(Vec::new()) };
        let progress = lock(&run.progress);
        Ok(nodes.iter().filter_map(|node| progress.get(node).cloned()).collect())
    }

    async fn now(&self) -> Result<u64, BackendError> {
        Ok(self.0.clock.now_ms())
    }

    async fn status(&self, id: RunId) -> Result<Option<RunStatus>, BackendError> {
        Ok(self.current(id).map(|run| run.status()))
    }

    async fn changed(
        &self,
        run: RunRef,
        since: u64,
        timeout: Duration,
    ) -> Result<Option<RunStatus>, BackendError> {
        let Some(known) = self.run(run) else { return Ok(None) };
        let mut version = known.version.subscribe();
        // Out of time or not, the status is the answer.
        let _ = tokio::time::timeout(timeout, version.wait_for(|version| *version > since)).await;
        Ok(self.run(run).map(|run| run.status()))
    }

    async fn decided(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        timeout: Duration,
    ) -> Result<Option<(RunStatus, Known)>, BackendError> {
        let Some(known) = self.run(run) else { return Ok(None) };
        let mut decided = known.decided.subscribe();
        // Out of time or not, the status is the answer.
        let _ = tokio::time::timeout_at(after(timeout), decided.wait_for(|decided| *decided)).await;
        let Some(status) = self.run(run).map(|run| run.status()) else { return Ok(None) };
        let outcomes = if status.outcome == RunOutcome::Succeeded { nodes } else { &[] };
        Ok(self.known(run, outcomes, &[]).await?.map(|known| (status, known)))
    }

    async fn phases(&self, run: RunRef) -> Result<Option<Vec<Phase>>, BackendError> {
        Ok(self.run(run).map(|run| lock(&run.state).phases().collect()))
    }

    async fn grow(
        &self,
        root: RunRef,
        segment: RunId,
        nodes: usize,
        nodes_max: usize,
    ) -> Result<Grown, BackendError> {
        let Some(run) = self.run(root) else { return Ok(Grown::Unknown) };
        let mut segments = lock(&run.segments);
        if run.gone.load(Ordering::Relaxed) {
            return Ok(Grown::Unknown);
        }
        if segments.ids.contains(&segment) {
            return Ok(Grown::Noted);
        }
        if run.plan.len() + segments.nodes + nodes > nodes_max {
            return Ok(Grown::Full);
        }
        segments.ids.insert(segment);
        segments.nodes += nodes;
        Ok(Grown::Noted)
    }

    async fn segments(&self, run: RunRef) -> Result<Vec<RunId>, BackendError> {
        Ok(self.run(run).map(|run| lock(&run.segments).ids.iter().copied().collect()).unwrap_or_default())
    }

    async fn origin(&self, run: RunRef) -> Result<Option<Origin>, BackendError> {
        Ok(self.run(run).and_then(|run| run.origin))
    }

    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError> {
        let older = |run: &RunId| before.is_none_or(|before| *run < before);
        let mut runs: Vec<RunId> = {
            let listed = self.0.runs.iter().filter(|run| run.origin.is_none());
            listed.map(|run| *run.key()).filter(older).collect()
        };
        runs.sort_unstable_by(|a, b| b.cmp(a));
        runs.truncate(max);
        Ok(runs)
    }

    fn inline_bytes_max(&self) -> usize {
        self.0.inline_bytes_max.unwrap_or(usize::MAX)
    }

    async fn keep(&self, value: &Stored, text: &str) -> Result<bool, BackendError> {
        let Some(run) = self.run(value.run) else { return Ok(false) };
        lock(&run.kept).insert(value.name, text.into());
        Ok(true)
    }

    async fn fetch(&self, value: &Stored, out: &mut Vec<u8>) -> Result<bool, BackendError> {
        let Some(run) = self.run(value.run) else { return Ok(false) };
        let text = lock(&run.kept).get(&value.name).cloned();
        text.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
        Ok(text.is_some())
    }

    async fn discard(&self, leaf: TaskId, value: &Stored) -> Result<(), BackendError> {
        let Some(run) = self.run(value.run) else { return Ok(()) };
        let state = lock(&run.state);
        let outcome = state.outcome_of(leaf.node());
        if !outcome.is_some_and(|outcome| outcome.stored_texts().contains(value)) {
            lock(&run.kept).remove(&value.name);
        }
        Ok(())
    }

    async fn forget(&self, run: RunRef) -> Result<bool, BackendError> {
        Ok(self.forget_now(run))
    }
}
