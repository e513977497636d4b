//! The runs there are, and how each stands.

use celeriac_backends::{Backend, BackendError, ErrorKind, RunStatus};
use celeriac_engine::RunOutcome;
use celeriac_primitives::{RunId, RunRef, TaskState};
use futures::future::join_all;

use crate::App;

/// How one run stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// Its state in Celery's words, as [`Handle::state`](crate::Handle::state) has it.
    pub state: TaskState,
    /// What the store says.
    pub status: RunStatus,
}

/// A run that is listed and cannot be read: what is stored of it is broken or of a later
/// version, or its shard does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the run {id} cannot be read")]
#[non_exhaustive]
pub struct UnreadableRun {
    /// Its id.
    pub id: RunId,
    /// Why.
    #[source]
    pub error: BackendError,
}

impl App {
    /// Runs by their ids, the newest first: at most `max`, and only those older than `before`,
    /// which pages on. One that cannot be read stands in its place, and hides none of the
    /// others.
    ///
    /// # Errors
    /// When the backend does not answer, or denies it.
    pub async fn runs(
        &self,
        before: Option<RunId>,
        max: usize,
    ) -> Result<Vec<Result<RunReport, UnreadableRun>>, BackendError> {
        let backend = &**self.backend();
        let ids = backend.list(before, max).await?;
        let reports = ids.iter().map(|id| report_of(backend, *id));
        let mut runs = Vec::with_capacity(ids.len());
        for (id, report) in ids.iter().zip(join_all(reports).await) {
            match report {
                Ok(Some(report)) => runs.push(Ok(report)),
                // Forgotten between the two steps: it is none any more.
                Ok(None) => {}
                Err(error) if error.kind == ErrorKind::Denied => return Err(error),
                Err(error) => runs.push(Err(UnreadableRun { id: *id, error })),
            }
        }
        Ok(runs)
    }
}

async fn report_of(backend: &dyn Backend, id: RunId) -> Result<Option<RunReport>, BackendError> {
    let Some(status) = backend.status(id).await? else { return Ok(None) };
    let state = state_of(backend, id.incarnation(status.incarnation), &status).await?;
    Ok(Some(RunReport { id, state, status }))
}

/// PENDING before a leaf has ended, STARTED, SUCCESS or FAILURE; REVOKED when the leaf that
/// ended it was revoked.
pub(crate) async fn state_of(
    backend: &dyn Backend,
    run: RunRef,
    status: &RunStatus,
) -> Result<TaskState, BackendError> {
    Ok(match status.outcome {
        RunOutcome::Succeeded => TaskState::Success,
        RunOutcome::Failed(node) => {
            let known = backend.known(run, &[node], &[]).await?;
            let outcome = known.and_then(|mut known| known.outcomes.remove(&node));
            outcome.map_or(TaskState::Failure, |outcome| outcome.state())
        }
        RunOutcome::Undecided if status.done > 0 => TaskState::Started,
        RunOutcome::Undecided => TaskState::Pending,
    })
}
