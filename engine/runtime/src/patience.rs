//! What to do when the backend does not answer: wait a little, then a little longer.

use std::time::Duration;

use celeriac_backends::BackendError;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Grows with every failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience(Option<Duration>);

impl Patience {
    /// Unwraps an answer, or logs the error and waits; the caller then issues the same operation again.
    pub(crate) async fn unless<T>(&mut self, answer: Result<T, BackendError>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.0 = None;
                Some(answer)
            }
            Err(error) => {
                let wait = self.0.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
                tracing::warn!(%error, source = ?error.source, wait_ms = wait.as_millis() as u64, "backend error");
                self.0 = Some(wait);
                tokio::time::sleep(wait).await;
                None
            }
        }
    }
}
