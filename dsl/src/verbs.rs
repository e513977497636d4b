//! What a task can say instead of a value or an error: do it again, reject it, ignore it.
//!
//! Each is an error type, so that `?` and `return Err(…)` say it.

use std::fmt;
use std::time::{Duration, SystemTime};

use celeriac_primitives::{Json, JsonError, Outcome, TaskError, When};
use serde::Serialize;

use crate::error::IntoTaskError;

/// Runs the task again: Celery's `raise self.retry(…)`.
///
/// It is not run more often than its `retry` policy allows, or, without one, three times besides the first; then the
/// leaf fails, with the error given to [`Retry::because`] or as `MaxRetriesExceededError`.
///
/// ```
/// use celeriac_dsl::Retry;
/// use std::time::Duration;
///
/// fn fetch(url: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
///     if url.is_empty() {
///         return Err(Retry::after(Duration::from_secs(10)).because("no address yet").into());
///     }
///     Ok(url.to_owned())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Retry(celeriac_primitives::Retry);

/// Refuses the leaf: Celery's `raise Reject(reason)`. It fails, and no policy runs it again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("rejected: {0}")]
pub struct Reject(String);

/// Leaves the leaf without a value of its own: Celery's `raise Ignore()`. For whatever comes after it is a success
/// with the value null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ignored")]
pub struct Ignore;

/// The type of a retry's error when no other was given.
pub(crate) const NO_REASON: &str = "Retry";

impl Retry {
    /// At once.
    pub fn now() -> Self {
        Self(celeriac_primitives::Retry::new(TaskError::new(NO_REASON, "the task asked to run again")))
    }

    /// After so long.
    pub fn after(time: Duration) -> Self {
        Self::now().starting(When::after(time))
    }

    /// Not before this moment.
    pub fn at(time: SystemTime) -> Self {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::now()
            .starting(When::At(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
    }

    fn starting(mut self, start: When) -> Self {
        self.0.start = Some(start);
        self
    }

    /// With this error as the reason: it is what the leaf fails with when there is no further attempt.
    #[must_use]
    pub fn because(mut self, error: impl IntoTaskError) -> Self {
        self.0.error = error.into_task_error();
        self
    }

    /// With these arguments in the place of all that it was called with: a tuple or list, and an object of keyword
    /// arguments, `&()` for none.
    ///
    /// # Errors
    /// When one of the two has no JSON form, or another one.
    pub fn with(mut self, args: &impl Serialize, kwargs: &impl Serialize) -> Result<Self, JsonError> {
        let none_or =
            |json: Json, none: &str| if json.as_str() == "null" { Json::parse(none) } else { Ok(json) };
        let args = none_or(Json::new(args)?, "[]")?;
        let kwargs = none_or(Json::new(kwargs)?, "{}")?;
        args.to::<Vec<serde::de::IgnoredAny>>()?;
        kwargs.to::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>()?;
        self.0.arguments = Some((args, kwargs));
        Ok(self)
    }

    /// At most so many attempts besides the first, whatever the policy says.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.0.max_retries = Some(max_retries);
        self
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to be run again: {}", self.0.error)
    }
}

impl std::error::Error for Retry {}

impl Reject {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What an error that was returned means, when it is one of these; else the error itself.
pub(crate) fn verb(
    error: Box<dyn std::error::Error + Send + Sync>,
) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
    let error = match error.downcast::<Retry>() {
        Ok(retry) => return Ok(Outcome::Retry(Box::new(retry.0))),
        Err(error) => error,
    };
    let error = match error.downcast::<Reject>() {
        Ok(reject) => return Ok(Outcome::Rejected(reject.0)),
        Err(error) => error,
    };
    error.downcast::<Ignore>().map(|_| Outcome::Ignored)
}
