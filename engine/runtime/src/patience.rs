//! What to do when the backend does not answer: wait a little, then a little longer, and do the same
//! again.

use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// A loop that waits for work tries this often while its backend does not answer.
const MOMENT: Duration = Duration::from_millis(250);

/// How long a client that gave no time itself waits for a backend that does not answer.
pub(crate) const OUTAGE_MAX: Duration = Duration::from_secs(30);

/// Issues an operation until it succeeds, fails for good, or `stop` is cancelled: `insist!(stop,
/// backend.plan(run))`. Every operation of a backend may be repeated, also one of which nobody knows
/// whether it happened.
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

/// The same, also as long as the backend refuses: for what would be lost when it were given up, by who was
/// permitted to do so before. Nobody else waits for it.
macro_rules! endure {
    ($stop:expr, $operation:expr) => {{
        let mut patience = $crate::patience::Patience::default();
        loop {
            match $operation.await {
                Err(error) if patience.endures(&$stop, &error).await => {}
                answer => break answer,
            }
        }
    }};
}
pub(crate) use endure;

/// The same for a client, which has nobody to stop it: until the backend has not answered for so long.
macro_rules! outlast {
    ($outage_max:expr, $operation:expr) => {{
        let until = $crate::patience::far($outage_max);
        let mut patience = $crate::patience::Patience::default();
        loop {
            match $operation.await {
                Err(error) if patience.outlasts(until, &error).await => {}
                answer => break answer,
            }
        }
    }};
}
pub(crate) use outlast;

/// The end of a time that begins now, as far as the clock reaches.
pub(crate) fn far(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + OUTAGE_MAX)
}

/// Grows with every failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience(Option<Duration>);

impl Patience {
    /// Waits, when trying again may help; `false` when it cannot, or `stop` was cancelled.
    pub(crate) async fn tries_again(&mut self, stop: &CancellationToken, error: &BackendError) -> bool {
        if !error.may_retry() {
            return false;
        }
        let wait = self.next(error);
        stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }

    /// The same, also for a permission that was taken away.
    pub(crate) async fn endures(&mut self, stop: &CancellationToken, error: &BackendError) -> bool {
        if !error.may_retry() && error.kind != ErrorKind::Denied {
            return false;
        }
        let wait = self.next(error);
        stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }

    /// Waits, when trying again may help; `false` when it cannot, or its time is over.
    pub(crate) async fn outlasts(&mut self, until: Instant, error: &BackendError) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        if !error.may_retry() || left.is_zero() {
            return false;
        }
        let wait = self.next(error);
        tokio::time::sleep(wait.min(left)).await;
        true
    }

    fn next(&mut self, error: &BackendError) -> Duration {
        let wait = self.0.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        self.0 = Some(wait);
        tracing::warn!(%error, source = ?error.source, wait_ms = wait.as_millis() as u64, "backend error");
        wait
    }
}

/// Waits after an error, so that a loop around it does not run hot: a moment when trying again may help,
/// else longer.
pub(crate) async fn pause(error: &BackendError) {
    tracing::error!(%error, source = ?error.source, "backend error");
    tokio::time::sleep(if error.may_retry() { MOMENT } else { LONGEST }).await;
}
