//! What a worker reports, and what is kept of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Addition, Apart, Asked, Entry, Incarnation, Item, Json, Members, RunRef, Stored, TaskId, TaskName,
    TaskState, When,
};

/// A report on one delivery: this attempt at this leaf ended thus.
///
/// Every way in which a leaf can end goes through a completion, whoever reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The leaf.
    pub task_id: TaskId,
    /// The attempt that ended.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Which of the runs that ever had the id in `task_id`.
    #[serde(default)]
    pub incarnation: Incarnation,
}

impl Completion {
    /// The run this is a report to.
    pub fn run(&self) -> RunRef {
        self.task_id.run().incarnation(self.incarnation)
    }
}

/// How an attempt ended. All but [`Outcome::Retry`], [`Outcome::Replace`], [`Outcome::Add`] and
/// [`Outcome::Asked`] end the leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The task returned this value.
    Success(Json),
    /// The task asked to be ignored; for its successors this is a success with the value null.
    Ignored,
    /// The task returned an error, or panicked.
    Failed(TaskError),
    /// The leaf runs again.
    Retry(Box<Retry>),
    /// The task or its worker refused the message, for this reason.
    Rejected(String),
    /// Somebody revoked it.
    Revoked(String),
    /// It was not started in time.
    Expired,
    /// It ran longer than its limit, in milliseconds.
    TimedOut {
        /// The limit.
        limit_ms: u64,
    },
    /// Its worker went away this many times.
    WorkerLost {
        /// How often the leaf was delivered.
        deliveries: u32,
    },
    /// No task of this name.
    UnknownTask,
    /// The message could not be read.
    Undecodable(String),
    /// The task returned a canvas, in Celery's JSON, which runs in its place: how that ends is how the leaf
    /// ends.
    Replace(Json),
    /// The canvas that ran in the leaf's place failed, or one that it had added, at this leaf of its own.
    ReplacementFailed(Box<Failure>),
    /// The task returned, and added canvases to the list that its value goes into: when they have ended, the
    /// leaf has.
    Add(Box<Addition>),
    /// A success of which the list that takes the value gets more than the value: what the task had added.
    Members(Box<Members>),
    /// A success whose value is kept apart, because it is large.
    Apart(Box<Apart>),
    /// The same as [`Outcome::Replace`] or [`Outcome::Add`], kept apart because it is large.
    Asked(Box<Asked>),
}

/// How a leaf runs again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Why.
    pub error: TaskError,
    /// When; at once when it is not said.
    pub start: Option<When>,
    /// Other arguments than before, positional (a JSON list) and by name (a JSON object).
    pub arguments: Option<(Json, Json)>,
    /// After which moment the leaf does not start any more, in milliseconds since 1970, when that was
    /// decided.
    pub expires_ms: Option<u64>,
    /// How many attempts besides the first the task allows, when it says so itself. For its worker alone.
    pub max_retries: Option<u32>,
    /// The other arguments when they are large: the items of the list, and the object.
    #[serde(default)]
    pub stored: Option<Box<(Stored, Stored)>>,
}

/// An error of a task, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// The error's type, such as `ValueError` or `std::io::Error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    pub message: String,
    /// What the errors below it say, the nearest first.
    #[serde(default)]
    pub causes: Vec<String>,
}

/// A leaf that failed: what `get()` raises and what an error callback is called with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The leaf's id.
    pub task_id: TaskId,
    /// Where it stands in the canvas, such as `chain[1].header[3]`.
    pub node: String,
    /// Its task.
    pub task: TaskName,
    /// FAILURE or REVOKED.
    pub state: TaskState,
    /// What went wrong.
    pub error: TaskError,
}

impl Outcome {
    /// The state of a leaf whose attempt ended thus.
    pub fn state(&self) -> TaskState {
        match self {
            Self::Success(_) | Self::Ignored | Self::Members(_) | Self::Apart(_) => TaskState::Success,
            Self::Retry(_) => TaskState::Retry,
            Self::Replace(_) | Self::Add(_) | Self::Asked(_) => TaskState::Started,
            Self::ReplacementFailed(failure) => failure.state,
            Self::Revoked(_) | Self::Expired => TaskState::Revoked,
            Self::Failed(_)
            | Self::Rejected(_)
            | Self::TimedOut { .. }
            | Self::WorkerLost { .. }
            | Self::UnknownTask
            | Self::Undecodable(_) => TaskState::Failure,
        }
    }

    /// The leaf runs again at once, because of this.
    pub fn retry(error: TaskError) -> Self {
        Self::Retry(Box::new(Retry::new(error)))
    }

    /// The value that successors get; `None` when there is none, and when it is kept apart.
    pub fn value(&self) -> Option<Json> {
        match self {
            Self::Success(value) => Some(value.clone()),
            Self::Ignored => Some(Json::null()),
            Self::Members(members) => Some(members.value.clone()),
            _ => None,
        }
    }

    /// The text of the value; `None` when there is none, and when it is kept apart.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Success(value) => Some(value.as_str()),
            Self::Ignored => Some("null"),
            Self::Members(members) => Some(members.value.as_str()),
            _ => None,
        }
    }

    /// Writes what a list gets of it: the value, and what was added beside it. `None` when there is no value.
    pub fn write_items(&self, out: &mut String) -> Option<()> {
        out.push_str(self.text()?);
        self.write_added(out);
        Some(())
    }

    /// The same for a list that collects failures.
    pub fn write_entries(&self, out: &mut String) -> Option<()> {
        out.push_str(Entry::OK);
        out.push_str(self.text()?);
        out.push('}');
        self.write_added(out);
        Some(())
    }

    fn write_added(&self, out: &mut String) {
        for item in self.added() {
            out.push(',');
            item.write(out);
        }
    }

    /// What the task added to the list that the value goes into.
    pub fn added(&self) -> &[Item] {
        match self {
            Self::Members(members) => &members.added,
            _ => &[],
        }
    }

    /// What went wrong, in the words of Celery's exceptions; `None` when nothing did.
    pub fn error(&self) -> Option<TaskError> {
        let (kind, message) = match self {
            Self::Success(_)
            | Self::Ignored
            | Self::Members(_)
            | Self::Apart(_)
            | Self::Replace(_)
            | Self::Add(_)
            | Self::Asked(_) => return None,
            Self::ReplacementFailed(failure) => return Some(failure.error.clone()),
            Self::Failed(error) => return Some(error.clone()),
            Self::Retry(retry) => return Some(retry.error.clone()),
            Self::Rejected(reason) => ("Reject", reason.clone()),
            Self::Revoked(reason) => ("TaskRevokedError", reason.clone()),
            Self::Expired => ("TaskRevokedError", "expired".to_owned()),
            Self::TimedOut { limit_ms } => ("TimeLimitExceeded", format!("ran longer than {limit_ms} ms")),
            Self::WorkerLost { deliveries } => {
                ("WorkerLostError", format!("its worker went away, {deliveries} deliveries in all"))
            }
            Self::UnknownTask => ("NotRegistered", "no worker knows a task of this name".to_owned()),
            Self::Undecodable(reason) => ("DecodeError", reason.clone()),
        };
        Some(TaskError::new(kind, message))
    }
}

impl Retry {
    /// Runs again at once, with the same arguments.
    pub fn new(error: TaskError) -> Self {
        Self { error, start: None, arguments: None, expires_ms: None, max_retries: None, stored: None }
    }
}

impl TaskError {
    /// An error of this type that says this.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), causes: Vec::new() }
    }

    /// How many causes an error may have; what is below them is cut.
    pub const CAUSES_MAX: usize = 100;

    /// Cuts what it says to so many bytes in all and to [`TaskError::CAUSES_MAX`] causes, with a mark where
    /// something is missing.
    pub fn cut(&mut self, bytes_max: usize) {
        let count = self.causes.len();
        let all = self.kind.len() + self.message.len() + self.causes.iter().map(String::len).sum::<usize>();
        // The last may be the mark of an earlier cut.
        if all <= bytes_max && count <= Self::CAUSES_MAX + 1 {
            return;
        }
        Self::cut_text(&mut self.kind, 255);
        let mut left = bytes_max;
        let mut kept = 0;
        for text in std::iter::once(&mut self.message).chain(&mut self.causes).take(1 + Self::CAUSES_MAX) {
            Self::cut_text(text, left);
            left = left.saturating_sub(text.len());
            kept += 1;
            if left == 0 {
                break;
            }
        }
        self.causes.truncate(kept - 1);
        if kept - 1 < count {
            self.causes.push(format!("… ({} causes more)", count + 1 - kept));
        }
        self.causes.shrink_to_fit();
    }

    /// Cuts a text to so many bytes, with a mark that says how long it was.
    pub fn cut_text(text: &mut String, bytes_max: usize) {
        if text.len() > bytes_max {
            // A text of its own: the room that the long one takes is free again.
            *text = Self::cut_of(text, bytes_max);
        }
    }

    /// A copy of a text, cut to so many bytes in the same way.
    pub fn cut_of(text: &str, bytes_max: usize) -> String {
        let bytes = text.len();
        if bytes <= bytes_max {
            return text.to_owned();
        }
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}… (cut, {bytes} bytes)", &text[..end])
    }
}

impl fmt::Display for TaskError {
    /// `ValueError: boom: disk full`, with the causes after the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for TaskError {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) failed: {}", self.node, self.task, self.error)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_to_its_causes_as_well_as_to_its_bytes() {
        for (count, bytes) in [(0, 3), (99, 0), (100, 0), (101, 0)] {
            let causes = vec!["x".repeat(bytes); count];
            let mut error = TaskError { causes, ..TaskError::new("E", "boom") };
            let before = error.clone();
            error.cut(1000);
            assert_eq!(error, before, "{count} causes");
        }
        for bytes in [0, 1] {
            let causes = vec!["x".repeat(bytes); 100_000];
            let mut error = TaskError { causes, ..TaskError::new("E", "boom") };
            error.cut(1_000_000);
            assert_eq!(error.causes.len(), TaskError::CAUSES_MAX + 1);
            assert_eq!(error.causes.last().unwrap(), "… (99900 causes more)");
            assert!(error.causes.capacity() < 1000, "what was cut takes no room");
        }
    }

    #[test]
    fn a_text_that_was_cut_takes_no_more_room_than_what_is_left_of_it() {
        let mut text = "ü".repeat(1 << 20);
        TaskError::cut_text(&mut text, 101);
        assert_eq!(text, format!("{}… (cut, 2097152 bytes)", "ü".repeat(50)));
        assert!(text.capacity() < 1000, "{}", text.capacity());
    }
}
