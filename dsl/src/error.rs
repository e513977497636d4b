//! From a function's error to the error that is stored.

use std::any::type_name;
use std::error::Error;
use std::fmt::{self, Display, Write as _};

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
    let mut written = Written::default();
    let message = written.text(&error);
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        if causes.len() == TaskError::CAUSES_MAX || written.is_full() {
            causes.push("… (more causes)".to_owned());
            break;
        }
        causes.push(written.text(cause));
        next = cause.source();
    }
    TaskError { kind: short_name(type_name), message, causes }
}

/// How many bytes an error may say with all its causes before its worker cuts it to what the app allows: it
/// may go on for ever.
const BYTES_MAX: usize = 1 << 20;

/// What an error has said so far.
#[derive(Default)]
struct Written {
    text: String,
    /// How many bytes the texts before it have.
    before: usize,
    is_stopped: bool,
}

impl Written {
    fn is_full(&self) -> bool {
        self.before >= BYTES_MAX
    }

    /// What it says, with a mark where it was stopped. One that fails to say more has said what it has.
    fn text(&mut self, error: &(impl Display + ?Sized)) -> String {
        let _ = write!(self, "{error}");
        let mut text = std::mem::take(&mut self.text);
        self.before += text.len();
        if self.is_stopped {
            self.before = BYTES_MAX;
            text.push_str(&format!("… (cut, more than {} bytes)", text.len()));
        }
        text
    }
}

impl fmt::Write for Written {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut left = BYTES_MAX - self.before - self.text.len();
        if text.len() <= left && !self.is_stopped {
            self.text.push_str(text);
            return Ok(());
        }
        if !self.is_stopped {
            while !text.is_char_boundary(left) {
                left -= 1;
            }
            self.text.push_str(&text[..left]);
            self.is_stopped = true;
        }
        Err(fmt::Error)
    }
}

/// `ParseIntError` of `core::num::error::ParseIntError`; `io::Error` of `std::io::error::Error`, because
/// `Error` alone says nothing.
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

    /// An error that says its text, and then what is below it.
    struct Says(fn(&mut fmt::Formatter<'_>) -> fmt::Result, Option<&'static Says>);

    impl fmt::Debug for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("never asked")
        }
    }

    impl Display for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0(f)
        }
    }

    impl Error for Says {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.map(|below| below as &(dyn Error + 'static))
        }
    }

    static LOOP: Says = Says(|f| f.write_str("round"), Some(&LOOP));
    static SILENT: Says = Says(|_| Ok(()), Some(&SILENT));
    static LARGE: Says = Says(|f| f.write_str(&"ü".repeat(100_000)), Some(&LARGE));
    static ENDLESS: Says = Says(endless, Some(&ENDLESS));

    fn endless(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        loop {
            f.write_str("€ and on ")?;
        }
    }

    fn bytes(error: &TaskError) -> usize {
        error.message.len() + error.causes.iter().map(String::len).sum::<usize>()
    }

    #[test]
    fn causes_that_never_end_are_cut_with_a_mark() {
        for (name, error) in [("loop", &LOOP), ("silent", &SILENT), ("large", &LARGE), ("endless", &ENDLESS)]
        {
            let own = Says(|f| f.write_str("own"), Some(error));
            let boxed: BoxError = Box::new(Says(error.0, Some(error)));
            let retry = crate::Retry::now().because(Says(error.0, Some(error)));
            let Ok(Outcome::Retry(retry)) = verb(retry.into()) else { panic!("it is a retry") };
            for error in [own.into_task_error(), boxed.into_task_error(), retry.error] {
                assert!(error.causes.len() <= TaskError::CAUSES_MAX + 1, "{name}");
                assert!(bytes(&error) < BYTES_MAX + 200, "{name}: {}", bytes(&error));
                assert_eq!(error.causes.last().unwrap(), "… (more causes)", "{name}");
            }
        }
    }

    #[test]
    fn a_text_that_never_ends_is_cut_with_a_mark_while_it_is_written() {
        let many = |f: &mut fmt::Formatter<'_>| f.write_str(&"€".repeat(BYTES_MAX));
        let padded = |f: &mut fmt::Formatter<'_>| (0..99).try_for_each(|_| write!(f, "{:60000}", 7));
        let deaf = |f: &mut fmt::Formatter<'_>| {
            (0..500_000).for_each(|_| f.write_str("whatever").unwrap_or_default());
            Ok(())
        };
        let all: [fn(&mut fmt::Formatter<'_>) -> fmt::Result; 4] = [endless, many, padded, deaf];
        for text in all {
            let error = Says(text, None).into_task_error();
            assert!(bytes(&error) < BYTES_MAX + 100);
            assert!(error.message.ends_with(" bytes)") && error.message.contains("… (cut, more than "));
            assert_eq!(error.causes.len(), 0);
        }
    }

    #[test]
    fn an_error_that_cannot_say_what_it_is_has_said_what_it_has() {
        let error = Says(|f| f.write_str("half").and(Err(fmt::Error)), None).into_task_error();
        assert_eq!((&*error.message, error.causes.len()), ("half", 0));
    }
}
