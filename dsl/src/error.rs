//! From a function's error to the error that is stored.

use std::any::type_name;
use std::error::Error;

use celeriac_primitives::{Outcome, TaskError};

use crate::verbs::verb;

type BoxError = Box<dyn Error + Send + Sync>;

/// An error that a task can return.
///
/// Any [`std::error::Error`] that is `Send + Sync`, a [`TaskError`], a `String` or `&str`, a
/// `Box<dyn Error + Send + Sync>`, and the report types of the usual crates.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a task's error",
    label = "not an error",
    note = "return an error that implements `std::error::Error + Send + Sync`, a `TaskError`, a `String`, or a \
            `Box<dyn Error + Send + Sync>`"
)]
pub trait IntoTaskError {
    /// The error as data: its type's name, what it says, and what the errors below it say.
    fn into_task_error(self) -> TaskError;

    /// How a leaf ends whose task returned it: as failed, or as a [`Retry`](crate::Retry),
    /// [`Reject`](crate::Reject) or [`Ignore`](crate::Ignore) says.
    fn into_outcome(self) -> Outcome;
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> IntoTaskError for E {
    fn into_task_error(self) -> TaskError {
        task_error(self.into(), type_name::<E>())
    }

    fn into_outcome(self) -> Outcome {
        verb(self.into()).unwrap_or_else(|error| Outcome::Failed(task_error(error, type_name::<E>())))
    }
}

fn task_error(error: BoxError, type_name: &str) -> TaskError {
    let error = match error.downcast::<TaskError>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    TaskError {
        kind: short_name(type_name),
        message: error.to_string(),
        causes: causes.map(ToString::to_string).collect(),
    }
}

/// `ParseIntError` of `core::num::error::ParseIntError`; `io::Error` of `std::io::error::Error`, because `Error` alone
/// says nothing.
fn short_name(full: &str) -> String {
    let path = full.split('<').next().unwrap_or(full);
    let mut words = path.rsplit("::");
    match words.next() {
        Some("Error") => match words.find(|word| *word != "error") {
            Some(module) => format!("{module}::Error"),
            None => "Error".to_owned(),
        },
        // Strings and boxes are no error types: theirs is not known.
        Some("Box" | "String" | "&str") | None => "Error".to_owned(),
        Some(word) => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot charge")]
    struct ChargeError(#[source] std::io::Error);

    #[track_caller]
    fn check(error: impl IntoTaskError, expect: &str) {
        assert_eq!(error.into_task_error().to_string(), expect);
    }

    #[test]
    fn every_usual_error_keeps_its_type_and_its_causes() {
        check("x".parse::<i64>().unwrap_err(), "ParseIntError: invalid digit found in string");
        check(std::io::Error::other("disk full"), "io::Error: disk full");
        check(
            serde_json::from_str::<u8>("").unwrap_err(),
            "serde_json::Error: EOF while parsing a value at line 1 column 0",
        );
        check(ChargeError(std::io::Error::other("timeout")), "ChargeError: cannot charge: timeout");
        check("boom", "Error: boom");
        check(String::from("boom"), "Error: boom");
        check(BoxError::from("boom"), "Error: boom");
    }

    #[test]
    fn a_task_error_stays_what_it_is() {
        let error = TaskError::new("ValueError", "boom");
        assert_eq!(error.clone().into_task_error(), error);
        assert_eq!(BoxError::from(error.clone()).into_task_error(), error);
    }
}
