//! What to do when the backend does not answer: wait a little, then a little longer, and do the same again.

use std::time::Duration;

use celeriac_backends::BackendError;
use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// Issues an operation until it succeeds, fails for good, or `stop` is cancelled: `insist!(stop, backend.plan(run))`.
/// Every operation of a backend may be repeated, also one of which nobody knows whether it happened.
///
/// A macro because the operation is a new future each time that borrows from its surroundings.
macro_rules! insist {
    ($stop:expr, $operation:expr) => {{
        let mut patience = $crate::patience::Patience::default();
        loop {
            match $operation.await {
                Err(error) if patience.tries_again(&$stop, &error).await => {}
                answer => break answer,
            }
        }
    }};
}
pub(crate) use insist;

/// Grows with every failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience(Option<Duration>);

impl Patience {
    /// Waits, when trying again may help; `false` when it cannot, or `stop` was cancelled.
    pub(crate) async fn tries_again(&mut self, stop: &CancellationToken, error: &BackendError) -> bool {
        if !error.may_retry() {
            return false;
        }
        let wait = self.0.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        self.0 = Some(wait);
        tracing::warn!(%error, source = ?error.source, wait_ms = wait.as_millis() as u64, "backend error");
        stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }
}

/// Waits after an error that trying again may not mend, so that a loop around it does not run hot.
pub(crate) async fn pause(error: &BackendError) {
    tracing::error!(%error, source = ?error.source, "backend error");
    tokio::time::sleep(LONGEST).await;
}
