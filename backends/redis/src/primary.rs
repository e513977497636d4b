//! Whether commands still reach the primary.
//!
//! Who writes is told when the server has become a replica. Who only reads is not: it sees
//! what that server has heard, which may be nothing any more. So a process that has
//! written nothing for a moment tries a step that does nothing, and that a replica refuses
//! ([`crate::wire`] does the rest). A primary that was cut off refuses nobody; that
//! another one has taken its place the sentinels say, when there are any.
//!
//! What this process has written is remembered as long as the connection is the same.
//! Behind a new one may be a server that has not heard of the last of it.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::scripts::PRIMARY;
use crate::{RedisBackend, Shared};

/// So often it is looked whether something was written.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Follows the primary until the backend is dropped.
pub(crate) async fn follow(shared: Weak<Shared>, mut connected: watch::Receiver<Instant>) {
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                RedisBackend(shared).look_for_primary().await;
            }
            changed = connected.changed() => {
                let (Some(shared), Ok(())) = (shared.upgrade(), changed) else { return };
                shared.queues.forget_noted();
            }
        }
    }
}

impl RedisBackend {
    async fn look_for_primary(self) {
        let link = self.link().clone();
        // Nobody waits for this.
        drop(self);
        if !link.wrote.swap(false, Ordering::Relaxed) {
            // What is wrong is seen where all replies are.
            let _ = link.run::<()>("connect", &PRIMARY, |_| {}).await;
        }
        link.ask_sentinels().await;
    }
}
