//! The runs there are, and how each stands.

use celeriac_backends::{Backend, BackendError, RunStatus};
use celeriac_engine::RunOutcome;
use celeriac_primitives::{RunId, RunRef, TaskState};
use futures::future::try_join_all;

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

impl App {
    /// Runs by their ids, the newest first: at most `max`, and only those older than `before`, which pages on.
    ///
    /// # Errors
    /// When the backend does not answer.
    pub async fn runs(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunReport>, BackendError> {
        let backend = &**self.backend();
        let ids = backend.list(before, max).await?;
        let reports = ids.into_iter().map(|id| async move {
            let Some(status) = backend.status(id).await? else { return Ok(None) };
            Ok(Some(RunReport {
                id,
                state: state_of(backend, id.incarnation(status.incarnation), &status).await?,
                status,
            }))
        });
        // A run that was forgotten between the two steps is none any more.
        Ok(try_join_all(reports).await?.into_iter().flatten().collect())
    }
}

/// PENDING before a leaf has ended, STARTED, SUCCESS or FAILURE; REVOKED when the leaf that ended it was revoked.
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
