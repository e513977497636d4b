//! Runs in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    BackendError, Dispatch, ErrorKind, Event, Known, NewRun, RunStatus, Store, Submitted,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::{Results as _, ScopeNo};
use celeriac_engine::{Plan, Release, RunState, Settled};
use celeriac_primitives::{Completion, NodeNo, RunId};
use dashmap::Entry;
use tokio::sync::watch;

use crate::{Memory, lock};

/// One run: its plan, its state, and a version that wakes those who wait for a change.
#[derive(Debug)]
pub(crate) struct Run {
    plan: Arc<Plan>,
    expected: u32,
    state: Mutex<RunState>,
    version: watch::Sender<u64>,
}

impl Run {
    fn status(&self) -> RunStatus {
        let state = lock(&self.state);
        RunStatus {
            outcome: state.outcome(),
            open: state.open(),
            done: state.done(),
            expected: self.expected,
            version: *self.version.borrow(),
        }
    }

    /// Counts a change, while the state is still locked.
    fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

impl Memory {
    fn run(&self, run: RunId) -> Option<Arc<Run>> {
        self.0.runs.get(&run).map(|run| run.value().clone())
    }
}

#[async_trait]
impl Store for Memory {
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError> {
        match self.0.runs.entry(run.id) {
            Entry::Occupied(known) if *known.get().plan == *run.plan => Ok(Submitted::Existing),
            Entry::Occupied(_) => Err(BackendError::new(ErrorKind::Conflict, "submit").context(run.id)),
            Entry::Vacant(free) => {
                let (state, _) = RunState::start(&run.plan);
                let state = Mutex::new(state);
                let (expected, version) = (run.plan.expected(), watch::Sender::new(1));
                free.insert(Arc::new(Run { plan: run.plan, expected, state, version }));
                self.append([Event::Submitted(run.id)]);
                Ok(Submitted::Accepted)
            }
        }
    }

    async fn plan(&self, run: RunId) -> Result<Option<Arc<Plan>>, BackendError> {
        Ok(self.run(run).map(|run| run.plan.clone()))
    }

    async fn settle(
        &self,
        batch: Vec<(RunId, Vec<Completion>)>,
    ) -> Result<Vec<Option<Settled>>, BackendError> {
        let settle = |(run, completions)| {
            let run = self.run(run)?;
            let mut state = lock(&run.state);
            let settled = state.settle(&run.plan, completions);
            run.touch();
            Some(settled)
        };
        Ok(batch.into_iter().map(settle).collect())
    }

    async fn outbox(&self, run: RunId) -> Result<Vec<Release>, BackendError> {
        Ok(self.run(run).map(|run| lock(&run.state).outbox().collect()).unwrap_or_default())
    }

    async fn owing(&self, max: usize) -> Result<Vec<RunId>, BackendError> {
        let owing = self.0.runs.iter().filter(|run| lock(&run.state).owed() > 0).map(|run| *run.key());
        Ok(owing.take(max).collect())
    }

    async fn known(&self, run: RunId, nodes: &[NodeNo], scopes: &[ScopeNo]) -> Result<Known, BackendError> {
        let mut known = Known::default();
        if let Some(run) = self.run(run) {
            let state = lock(&run.state);
            let outcome = |node: NodeNo| state.outcome_of(node).map(|outcome| (node, outcome.clone()));
            known.outcomes.extend(nodes.iter().copied().filter_map(outcome));
            for scope in scopes {
                if let Some(node) = state.closed_by(*scope) {
                    known.closed.insert(*scope, node);
                    known.outcomes.extend(outcome(node));
                }
            }
        }
        Ok(known)
    }

    async fn dispatch(&self, run: RunId, leaves: Vec<Dispatch>) -> Result<usize, BackendError> {
        let Some(run) = self.run(run) else { return Ok(0) };
        let mut state = lock(&run.state);
        // Under the run's lock: what is marked is queued before anybody else can look.
        Ok(self.enqueue(leaves.into_iter().filter(|leaf| state.dispatch(leaf.release))))
    }

    async fn status(&self, run: RunId) -> Result<Option<RunStatus>, BackendError> {
        Ok(self.run(run).map(|run| run.status()))
    }

    async fn changed(
        &self,
        run: RunId,
        since: u64,
        timeout: Duration,
    ) -> Result<Option<RunStatus>, BackendError> {
        let Some(known) = self.run(run) else { return Ok(None) };
        let mut version = known.version.subscribe();
        // Out of time or not, the status is the answer.
        let _ = tokio::time::timeout(timeout, version.wait_for(|version| *version > since)).await;
        Ok(self.run(run).map(|run| run.status()))
    }

    async fn phases(&self, run: RunId) -> Result<Option<Vec<Phase>>, BackendError> {
        Ok(self.run(run).map(|run| lock(&run.state).phases().collect()))
    }

    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError> {
        let older = |run: &RunId| before.is_none_or(|before| *run < before);
        let mut runs: Vec<RunId> = self.0.runs.iter().map(|run| *run.key()).filter(older).collect();
        runs.sort_unstable_by(|a, b| b.cmp(a));
        runs.truncate(max);
        Ok(runs)
    }

    async fn forget(&self, run: RunId) -> Result<bool, BackendError> {
        let forgotten = self.0.runs.remove(&run);
        // Whoever waits for a change looks again, and finds nothing.
        forgotten.iter().for_each(|(_, run)| run.touch());
        Ok(forgotten.is_some())
    }
}
