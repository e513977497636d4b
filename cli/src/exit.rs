//! How the program ends.

use std::process::ExitCode;

use celeriac_backends::BackendError;

/// The exit codes, as they stand in the documentation and in `--help`.
macro_rules! table {
    () => {
        "\
| code | meaning |
|------|---------|
| 0    | done |
| 1    | an internal error, or the backend does not answer |
| 2    | usage: a wrong option, a text or JSON that is no canvas, an unknown task, a canvas that does not compile |
| 3    | a file or stream cannot be read or written |
| 4    | the run failed |
| 5    | not found (reserved) |
| 6    | timeout |
| 130  | interrupted with Ctrl-C |"
    };
}
pub(crate) use table;

/// How the program ends, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Exit {
    /// Done; of `run`, the result is on stdout.
    Ok = 0,
    /// An internal error, or the backend does not answer.
    Internal = 1,
    /// A wrong option, a text or JSON that is no canvas, an unknown task, a canvas that does not compile.
    Usage = 2,
    /// A file or stream cannot be read or written.
    Io = 3,
    /// The run failed.
    Failed = 4,
    /// Reserved: what was asked for is not there.
    NotFound = 5,
    /// The time was over first.
    Timeout = 6,
    /// Ctrl-C.
    Interrupted = 130,
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
            message.push_str(&format!(": {below}"));
            source = below.source();
        }
        Self::new(Exit::Internal, message)
    }
}

#[cfg(test)]
mod tests {
    use celeriac_backends::ErrorKind;

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
            Exit::Interrupted,
        ];
        let rows: Vec<&str> = table!().lines().skip(2).collect();
        assert_eq!(rows.len(), codes.len());
        for (row, exit) in rows.iter().zip(codes) {
            assert!(row.starts_with(&format!("| {:<4} | ", exit.code())), "{row}");
        }
    }

    #[test]
    fn an_error_of_the_backend_is_told_with_what_lies_below() {
        let error = BackendError::new(ErrorKind::Unavailable, "submit").source("connection refused");
        let Stop { exit, message } = error.into();
        assert_eq!(exit, Exit::Internal);
        assert_eq!(message, "submit failed: the backend cannot be reached: connection refused");
    }
}
