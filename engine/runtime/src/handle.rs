//! A client's view of one run.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Backend, BackendError, ErrorKind, Known, Progress, RunStatus};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::render;
use celeriac_engine::view::{Standing, standings};
use celeriac_engine::{Plan, RunOutcome};
use celeriac_primitives::{
    Failure, Json, JsonError, NodeNo, Outcome, RunId, RunRef, TaskError, TaskId, TaskName, TaskState,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::App;
use crate::large::{complete, value, whole};
use crate::listing::state_of;
use crate::patience::{OUTAGE_MAX, outlast};

/// A run that was accepted. Cheap to clone; dropping it changes nothing for the run.
///
/// It is a handle of this run alone: when the run was forgotten, and its id is used again, it does not know
/// the other.
///
/// An embedded app goes on working as long as one of its handles is there.
pub struct Handle<T> {
    pub(crate) run: RunRef,
    pub(crate) plan: Arc<Plan>,
    pub(crate) app: App,
    value: PhantomData<fn() -> T>,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// A leaf failed; this is its own error, with the leaf's path.
    #[error(transparent)]
    Failed(#[from] Box<Failure>),
    /// The run was not decided in time. It goes on.
    #[error("the run has not ended within {0:?}; it goes on")]
    Timeout(Duration),
    /// The value is not of the handle's type.
    #[error("the run's value is not of the expected type: {0}")]
    Type(#[from] JsonError),
    /// The backend did not answer, or does not know the run (any more).
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// One node of a run, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Its number.
    pub node: NodeNo,
    /// Where it stands in the canvas.
    pub path: String,
    /// Its task; `None` for a join.
    pub task: Option<TaskName>,
    /// Its state in Celery's words.
    pub state: TaskState,
    /// How it stands, also when it can no longer run.
    pub standing: Standing,
}

/// How long one wait for a change lasts. Longer waits are made of several.
const POLL: Duration = Duration::from_secs(10);

impl<T> Handle<T> {
    pub(crate) fn new(run: RunRef, plan: Arc<Plan>, app: App) -> Self {
        Self { run, plan, app, value: PhantomData }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &**self.app.backend()
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.run.id
    }

    /// The run: its id, and which of the runs that ever had it.
    pub fn run(&self) -> RunRef {
        self.run
    }

    /// What the run runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The run's state: PENDING before a leaf has ended, STARTED, SUCCESS or FAILURE (REVOKED when the leaf
    /// that ended it was revoked).
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn state(&self) -> Result<TaskState, BackendError> {
        state_of(self.backend(), self.run, &self.status().await?).await
    }

    /// Whether the run has a value or has failed.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn ready(&self) -> Result<bool, BackendError> {
        Ok(self.status().await?.outcome != RunOutcome::Undecided)
    }

    /// Whether the run has a value.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn successful(&self) -> Result<bool, BackendError> {
        Ok(self.status().await?.outcome == RunOutcome::Succeeded)
    }

    /// Whether the run has failed.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn failed(&self) -> Result<bool, BackendError> {
        Ok(matches!(self.status().await?.outcome, RunOutcome::Failed(_)))
    }

    /// Waits until nothing of the run is left to do, callbacks, error callbacks and replacements included.
    /// Outlasts a backend that does not answer for up to 30 seconds at a time.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn ended(&self) -> Result<(), BackendError> {
        let mut status = outlast!(OUTAGE_MAX, self.status())?;
        while !status.ended() {
            status = outlast!(OUTAGE_MAX, self.changed(status.version, POLL))?;
        }
        // A segment may be decided, and so its leaf ended, while a part of it still runs and is replaced in
        // its turn.
        let mut seen: BTreeSet<RunId> = BTreeSet::new();
        loop {
            let segments = outlast!(OUTAGE_MAX, self.backend().segments(self.run))?;
            let before = seen.len();
            for segment in segments {
                if !seen.contains(&segment)
                    && self.segment_ended(segment.incarnation(self.run.incarnation)).await?
                {
                    seen.insert(segment);
                }
            }
            if seen.len() == before {
                return Ok(());
            }
        }
    }

    /// Waits for the end of a segment; `false` when it is not stored (yet).
    async fn segment_ended(&self, segment: RunRef) -> Result<bool, BackendError> {
        let mut since = 0;
        loop {
            match outlast!(OUTAGE_MAX, self.backend().changed(segment, since, POLL))? {
                Some(status) if !status.ended() => since = status.version,
                status => return Ok(status.is_some()),
            }
        }
    }

    /// The run's value as JSON, waiting for it. Outlasts a backend that does not answer until `timeout` has
    /// passed; without one, for up to 30 seconds at a time.
    ///
    /// # Errors
    /// As [`Handle::get`].
    pub async fn get_json(&self, timeout: Option<Duration>) -> Result<Json, GetError> {
        let (nodes, scopes) = self.plan.known_for(self.plan.output());
        let (outcome, mut known) = self.decided(&nodes, timeout).await?;
        if let RunOutcome::Failed(node) = outcome {
            return Err(outlast!(OUTAGE_MAX, self.failure(node))?.into());
        }
        if !scopes.is_empty() {
            known.extend(outlast!(OUTAGE_MAX, self.known(&[], &scopes))?);
        }
        let known = complete(self.backend(), self.run, known).await?;
        let value = match self.plan.output_value(self.run.id, &known) {
            None => value(self.backend(), self.run, (&self.plan, self.plan.output()), &known).await?,
            value => value,
        };
        Ok(value.ok_or_else(|| self.corrupt())?)
    }

    /// How a node ended; `None` when it has not, or is a join.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn outcome_of(&self, node: NodeNo) -> Result<Option<Outcome>, BackendError> {
        let outcome = self.known(&[node], &[]).await?.outcomes.remove(&node);
        match outcome.filter(|outcome| outcome.state() != TaskState::Retry) {
            Some(outcome) => whole(self.backend(), self.run, &outcome).await.map(Some),
            None => Ok(None),
        }
    }

    /// Why the last attempt at a leaf asked for another, as long as the leaf has not ended.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn retry_of(&self, node: NodeNo) -> Result<Option<TaskError>, BackendError> {
        let outcome = self.known(&[node], &[]).await?.outcomes.remove(&node);
        Ok(outcome.filter(|outcome| outcome.state() == TaskState::Retry).and_then(|outcome| outcome.error()))
    }

    /// What running leaves have said about how far they are (Celery's `update_state`).
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn progress(&self) -> Result<Vec<Progress>, BackendError> {
        let phases = self.phases().await?.into_iter().enumerate();
        let running = phases.filter(|(_, phase)| matches!(phase, Phase::Released | Phase::Dispatched));
        let running: Vec<NodeNo> = running.map(|(i, _)| NodeNo::from_index(i)).collect();
        self.backend().progress(self.run, &running).await
    }

    /// The first node that stands at this path of the canvas, such as `chain[1].header[3]`.
    pub fn node_at(&self, path: &str) -> Option<NodeNo> {
        let mut leaves = self.plan.nodes().filter(|(node, _)| self.plan.leaf(*node).is_some());
        leaves.find(|(node, _)| self.plan.path(*node).to_string() == path).map(|(node, _)| node)
    }

    /// All nodes with their states, in the order of the plan.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn nodes(&self) -> Result<Vec<NodeReport>, BackendError> {
        let ended = self.status().await?.ended();
        let standings = standings(&self.plan, &self.phases().await?, ended);
        let failed: Vec<NodeNo> = (0..standings.len())
            .filter(|i| standings[*i] == Standing::Failed)
            .map(NodeNo::from_index)
            .collect();
        let known = self.known(&failed, &[]).await?;
        let report = |(node, standing): (NodeNo, Standing)| NodeReport {
            node,
            path: self.plan.path(node).to_string(),
            task: self.plan.task(node).cloned(),
            state: match standing {
                Standing::Succeeded => TaskState::Success,
                Standing::Failed => known.outcomes.get(&node).map_or(TaskState::Failure, Outcome::state),
                _ => TaskState::Pending,
            },
            standing,
        };
        Ok(self.plan.nodes().map(|(node, _)| node).zip(standings).map(report).collect())
    }

    /// The tree of nodes with how each stands, drawn for a terminal; long runs of alike siblings are folded.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn tree(&self) -> Result<String, BackendError> {
        let standings: Vec<Standing> = self.nodes().await?.into_iter().map(|node| node.standing).collect();
        Ok(render::tree(&self.plan, Some(&standings), render::FOLD_ABOVE))
    }

    /// The canvases that run, or ran, in the place of leaves, those within such canvases included: handles
    /// of runs of their own, each with the leaf that it stands for.
    ///
    /// # Errors
    /// When the backend does not answer.
    pub async fn segments(&self) -> Result<Vec<(TaskId, Handle<Json>)>, BackendError> {
        let mut found = Vec::new();
        let segments = self.backend().segments(self.run).await?;
        if segments.is_empty() {
            // There are none, or no such run.
            self.status().await?;
        }
        for segment in segments {
            let segment = segment.incarnation(self.run.incarnation);
            // One that was noted and not stored yet is none.
            if let (Some(origin), Some((stored, plan))) =
                (self.backend().origin(segment).await?, self.backend().find(segment.id).await?)
                && stored == segment
            {
                found.push((origin.leaf, Handle::new(segment, plan, self.app.clone())));
            }
        }
        Ok(found)
    }

    /// Removes everything the run owns from the store.
    ///
    /// # Errors
    /// When the backend does not answer.
    pub async fn forget(self) -> Result<(), BackendError> {
        outlast!(OUTAGE_MAX, self.backend().forget(self.run)).map(|_| ())
    }

    /// How the run stands: decided or not, and how many of its leaves have ended.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn status(&self) -> Result<RunStatus, BackendError> {
        let status = self.backend().status(self.run.id).await?;
        let status = status.filter(|status| status.incarnation == self.run.incarnation);
        status.ok_or_else(|| self.unknown("status"))
    }

    /// The same, as soon as it differs from the status with the version `since`, or after `timeout`.
    ///
    /// # Errors
    /// When the backend does not answer or does not know the run.
    pub async fn changed(&self, since: u64, timeout: Duration) -> Result<RunStatus, BackendError> {
        self.backend().changed(self.run, since, timeout).await?.ok_or_else(|| self.unknown("wait"))
    }

    pub(crate) async fn phases(&self) -> Result<Vec<Phase>, BackendError> {
        self.backend().phases(self.run).await?.ok_or_else(|| self.unknown("phases"))
    }

    pub(crate) async fn known(&self, nodes: &[NodeNo], scopes: &[ScopeNo]) -> Result<Known, BackendError> {
        self.backend().known(self.run, nodes, scopes).await?.ok_or_else(|| self.unknown("known"))
    }

    /// The failure of a leaf that has failed.
    pub(crate) async fn failure(&self, node: NodeNo) -> Result<Box<Failure>, BackendError> {
        let outcome = self.outcome_of(node).await?;
        let failure = outcome.and_then(|outcome| self.plan.failure(self.run.id, node, &outcome));
        failure.map(Box::new).ok_or_else(|| self.corrupt())
    }

    /// Waits until the run is decided: how, and the outcomes of these nodes when it has succeeded.
    async fn decided(
        &self,
        nodes: &[NodeNo],
        timeout: Option<Duration>,
    ) -> Result<(RunOutcome, Known), GetError> {
        // A time that the clock cannot reach is no limit.
        let deadline = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        loop {
            let left = deadline.map(|(deadline, _)| deadline.saturating_duration_since(Instant::now()));
            let wait = left.map_or(POLL, |left| left.min(POLL));
            let decided =
                outlast!(left.unwrap_or(OUTAGE_MAX), self.backend().decided(self.run, nodes, wait))?;
            let (status, known) = decided.ok_or_else(|| self.unknown("get"))?;
            if status.outcome != RunOutcome::Undecided {
                return Ok((status.outcome, known));
            }
            if let Some((deadline, timeout)) = deadline
                && Instant::now() >= deadline
            {
                return Err(GetError::Timeout(timeout));
            }
        }
    }

    /// The store says that something has ended and has no outcome for it.
    pub(crate) fn corrupt(&self) -> BackendError {
        BackendError::new(ErrorKind::Corrupt, "get").context(self.run)
    }

    fn unknown(&self, operation: &'static str) -> BackendError {
        let context = format!("{}; if its id is known, it is that of another run now", self.run);
        BackendError::new(ErrorKind::UnknownRun, operation).context(context)
    }
}

impl<T: DeserializeOwned> Handle<T> {
    /// Waits for the run's value.
    ///
    /// # Errors
    /// The failing leaf's own error, with its path; see [`GetError`].
    pub async fn get(&self) -> Result<T, GetError> {
        Ok(self.get_json(None).await?.to()?)
    }

    /// Waits for the run's value, but no longer than this. The run goes on whatever happens here.
    ///
    /// # Errors
    /// [`GetError::Timeout`] when the time is over; else as [`Handle::get`].
    pub async fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        Ok(self.get_json(Some(timeout)).await?.to()?)
    }
}

impl GetError {
    /// The failed leaf's error, when that is why there is no value.
    pub fn task_error(&self) -> Option<&TaskError> {
        match self {
            Self::Failed(failure) => Some(&failure.error),
            _ => None,
        }
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self::new(self.run, self.plan.clone(), self.app.clone())
    }
}

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.run).finish()
    }
}
