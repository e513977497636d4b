//! How the program ends.

use std::process::ExitCode;

use celeriac_backends::{BackendError, ErrorKind};
use celeriac_runtime::{GetError, SubmitError};

/// The exit codes, as they stand in the documentation and in `--help`.
macro_rules! table {
    () => {
        "\
| code | meaning |
|------|---------|
| 0    | done; of `worker`, `coordinator` and `up`: stopped in order; of `health`: green |
| 1    | an internal error, or the backend does not answer; of `health`: red |
| 2    | usage: a wrong option, a text or JSON that is no canvas, an unknown task, a canvas that does not compile |
| 3    | a file or stream cannot be read or written |
| 4    | the run failed |
| 5    | not found: there is no such run |
| 6    | timeout, or not decided yet |
| 7    | conflict: the id or the key is taken by another canvas, or the run has not ended |
| 8    | of `worker`, `coordinator` and `up`: a part has failed again and again; start the process anew |
| 130  | interrupted with Ctrl-C; of `worker`, `coordinator` and `up`: at the second signal |
| 143  | the same with SIGTERM |"
    };
}
pub(crate) use table;

/// How the program ends, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Exit {
    /// Done; of `run` and `result`, the value is on stdout.
    Ok = 0,
    /// An internal error, or the backend does not answer; of `health`: red.
    Internal = 1,
    /// A wrong option, a text or JSON that is no canvas, an unknown task, a canvas that does not compile.
    Usage = 2,
    /// A file or stream cannot be read or written.
    Io = 3,
    /// The run failed.
    Failed = 4,
    /// There is no such run.
    NotFound = 5,
    /// The time was over first, or a result is not decided and nobody waits for it.
    Timeout = 6,
    /// The id or the key is taken by another canvas, or the run has not ended.
    Conflict = 7,
    /// A part of a process has failed again and again: whoever started the process should start it anew.
    Broken = 8,
    /// Ctrl-C; when a process was stopping already, a second signal.
    Interrupted = 130,
    /// SIGTERM, likewise.
    Terminated = 143,
}

/// Why a command does not go on.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string() }
    }

    pub(crate) fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(below) = source {
            let text = below.to_string();
            // What lies below is often quoted above already.
            if !message.contains(&text) {
                message.push_str(&format!(": {text}"));
            }
            source = below.source();
        }
        let exit = match error.kind {
            ErrorKind::UnknownRun => Exit::NotFound,
            ErrorKind::Conflict => Exit::Conflict,
            _ => Exit::Internal,
        };
        Self::new(exit, message)
    }
}

impl From<SubmitError> for Stop {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Backend(error) => error.into(),
            // What was written does not fit.
            error => Self::usage(error),
        }
    }
}

impl From<GetError> for Stop {
    fn from(error: GetError) -> Self {
        match error {
            GetError::Backend(error) => error.into(),
            GetError::Failed(failure) => Self::new(Exit::Failed, failure),
            GetError::Timeout(_) => Self::new(Exit::Timeout, error),
            _ => Self::new(Exit::Internal, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code() {
        let codes = [
            Exit::Ok,
            Exit::Internal,
            Exit::Usage,
            Exit::Io,
            Exit::Failed,
            Exit::NotFound,
            Exit::Timeout,
            Exit::Conflict,
            Exit::Broken,
            Exit::Interrupted,
            Exit::Terminated,
        ];
        let rows: Vec<&str> = table!().lines().skip(2).collect();
        assert_eq!(rows.len(), codes.len());
        for (row, exit) in rows.iter().zip(codes) {
            assert!(row.starts_with(&format!("| {:<4} | ", exit.code())), "{row}");
        }
    }

    #[test]
    fn the_guide_has_the_same_table() {
        assert!(include_str!("../../docs/operations.md").contains(table!()));
    }

    #[test]
    fn an_error_of_the_backend_is_told_with_what_lies_below() {
        let error = BackendError::new(ErrorKind::Unavailable, "submit").source("connection refused");
        let Stop { exit, message } = error.into();
        assert_eq!(exit, Exit::Internal);
        assert_eq!(message, "submit failed: the backend cannot be reached: connection refused");
    }
}
