//! What time it is where: on a Cluster each master has a clock of its own, and any of them may be set.
//!
//! A moment that one master has named says nothing to another. So who has to be done at a master by a
//! moment asks that master first what time it is, or knows from lately.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::BackendError;
use tokio::time::Instant;

use crate::connection::Link;
use crate::scripts::CLOCK;

/// A clock is asked this often: two that run as they should do not come apart meanwhile.
const ASKED_EVERY: Duration = Duration::from_secs(60);

/// So many are known at a time.
const KNOWN_MAX: usize = 10_000;

/// The clocks of queues, as they were lately.
#[derive(Debug, Default)]
pub(crate) struct Clocks(Mutex<HashMap<Arc<str>, (Instant, u64)>>);

impl Clocks {
    /// What time it is for a queue, in ms, by its clock when that was asked and by ours since then.
    pub(crate) async fn of_queue(&self, link: &Link, queue: &Arc<str>) -> Result<u64, BackendError> {
        let known = self.known().get(queue).copied();
        if let Some((asked, then_ms)) = known
            && asked.elapsed() < ASKED_EVERY
        {
            return Ok(then_ms + asked.elapsed().as_millis() as u64);
        }
        // The answer is older than this moment, never younger.
        let now_ms = now_ms(link, "dispatch", &link.keys.gone(queue)).await?;
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(queue.clone(), (Instant::now(), now_ms));
        Ok(now_ms)
    }

    /// That the clock of a queue may have been set: it is asked again.
    pub(crate) fn forget(&self, queue: &str) {
        self.known().remove(queue);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, (Instant, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What time it is for a key, in ms.
pub(crate) async fn now_ms(link: &Link, operation: &'static str, key: &str) -> Result<u64, BackendError> {
    if !link.is_cluster() {
        let (seconds, micros): (u64, u64) = link.ask(operation, &redis::cmd("TIME")).await?;
        return Ok(seconds * 1000 + micros / 1000);
    }
    link.run(operation, &CLOCK, |script| {
        script.key(key);
    })
    .await
}
