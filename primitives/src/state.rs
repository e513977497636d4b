//! The states of a task, in Celery's words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a task is doing.
///
/// Celery's states (`celery/states.py`), with one difference: in Celery PENDING also stands for "never heard of it";
/// here an unknown id is an error, and PENDING means that the task waits for its predecessors or for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskState {
    /// Waits for predecessors, or in a queue.
    Pending,
    /// A worker holds it.
    Received,
    /// A worker runs it.
    Started,
    /// It failed and will run again.
    Retry,
    /// It returned a value.
    Success,
    /// It failed.
    Failure,
    /// It was revoked or expired before it ran.
    Revoked,
}

impl TaskState {
    /// Whether nothing more happens to the task: SUCCESS, FAILURE or REVOKED (Celery's READY_STATES).
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    /// Celery's spelling, in capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Received => "RECEIVED",
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
