//! The one error of all backends.

use std::error::Error;

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed{}: {kind}", context.as_ref().map(|context| format!(" ({context})")).unwrap_or_default())]
pub struct BackendError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The operation, such as `submit`.
    pub operation: &'static str,
    /// What it was about, such as a run id.
    pub context: Option<String>,
    /// What lies below.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// What is wrong, and so whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The same run id with another canvas.
    #[error("a run with this id exists, and its canvas is another one")]
    Conflict,
    /// No such run.
    #[error("no such run")]
    UnknownRun,
    /// The backend cannot be reached, or is busy.
    #[error("the backend cannot be reached")]
    Unavailable,
    /// The backend refuses: the address, the user, the password or a permission is wrong.
    #[error("the backend refuses; check its address, user, password and permissions")]
    Denied,
    /// The backend has no room for another run, or for what it names. Trying again at once does not help:
    /// runs have to end first.
    #[error("the store is full")]
    Full,
    /// What was to be sent or stored is larger than the backend takes.
    #[error("it is larger than the backend takes")]
    TooLarge,
    /// What is stored is broken.
    #[error("stored data is broken")]
    Corrupt,
    /// What is stored has the format of a later version.
    #[error("it was stored by a later version; update this program")]
    Later,
}

impl BackendError {
    /// An error of an operation.
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, context: None, source: None }
    }

    /// The error with what it is about.
    #[must_use]
    pub fn context(mut self, context: impl ToString) -> Self {
        self.context = Some(context.to_string());
        self
    }

    /// The error with what lies below it.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the same operation may succeed later.
    pub fn may_retry(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}
