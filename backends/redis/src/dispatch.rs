//! From the outbox to the queues.
//!
//! On one Redis that is one step. On a Cluster it is three: look which leaves are still in the outbox,
//! queue them, and note that they are queued. Whoever dies in between leaves them in the outbox, and the
//! event that released them, or the repair, brings another coordinator here: such leaves are queued twice,
//! a slice at most, since who dispatches more than that claims the outbox first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{BackendError, Dispatch, ErrorKind, Lane};
use celeriac_engine::Release;
use celeriac_primitives::{RunRef, When};
use redis::FromRedisValue;

use crate::RedisBackend;
use crate::gone::QUEUED_WITHIN_MS;
use crate::invocation::Script;
use crate::keys::write_incarnation;
use crate::queue::write_message;
use crate::scripts::{CLAIM, DISPATCH, ENQUEUE, slices};
use crate::settle::place_of;

/// Times in scripts are floating point numbers, which are exact up to here; it is far off.
const LATEST_MS: u64 = 1 << 52;

/// When a leaf is to be queued, as 0 (at once), 1 (from now) or 2 (since 1970) and ms; and when it
/// expires, in ms.
fn timers(leaf: &Dispatch) -> [u64; 3] {
    let (kind, ms) = match leaf.start {
        None => (0, 0),
        Some(When::After(ms)) => (1, ms),
        Some(When::At(ms)) => (2, ms),
    };
    [kind, ms, leaf.expires_ms().unwrap_or(0)].map(|ms| ms.min(LATEST_MS))
}

impl RedisBackend {
    pub(crate) async fn dispatch_leaves(
        &self,
        run: RunRef,
        leaves: &[Dispatch],
    ) -> Result<usize, BackendError> {
        let mut queued = 0;
        for slice in slices(leaves, |leaf| leaf.message.weight()) {
            let places = slice.iter().map(|leaf| (&leaf.queue, leaf.lane));
            let noted = match self.queues().note(self.link(), "dispatch", places.clone(), false).await {
                // Where the names are is away: the run goes on, and they are noted by the next sweep.
                Err(error) if self.link().is_cluster() && error.may_retry() => {
                    self.queues().owe(places.clone());
                    None
                }
                noted => noted?,
            };
            let now: usize = if self.link().is_cluster() {
                // By the clock of each queue, and before it is looked: else it might be too late.
                let clocks = self.clocks_of(slice).await;
                let mut found: Vec<u64> = self.call(run, "look", slice).await?;
                if found.pop().is_none() {
                    return Ok(queued);
                }
                let mut found: Vec<Dispatch> =
                    found.into_iter().map(|place| slice[place as usize - 1].clone()).collect();
                let broken = self.enqueue(&mut found, &clocks).await;
                // Its own timers it need not be told of.
                let timed = found.iter().filter(|leaf| leaf.is_timed());
                self.timers().look_at(timed.map(|leaf| (leaf.queue.clone(), leaf.lane)));
                let marked = self.call(run, "mark", &found).await?;
                broken?;
                marked
            } else {
                self.call(run, "queue", slice).await?
            };
            queued += now;
            self.queues().note_again(self.link(), "dispatch", places, noted).await?;
        }
        Ok(queued)
    }

    /// Claims the outbox of a run, or, with no time, frees it. One server queues and notes in one step:
    /// there nobody can be in the way.
    pub(crate) async fn claim(
        &self,
        run: RunRef,
        holder: u64,
        lease: Duration,
    ) -> Result<bool, BackendError> {
        if !self.link().is_cluster() {
            return Ok(true);
        }
        let ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).min(LATEST_MS / 2);
        let claimed: u8 = self
            .link()
            .run("dispatch", &CLAIM, |script| {
                script.key(self.link().keys.run(run.id).hash()).arg(holder).arg(ms);
                script.arg(&write_incarnation(run.incarnation)[..]);
            })
            .await?;
        Ok(claimed == 1)
    }

    /// How many leaves were in the outbox; to look, their places, from 1, and the time in ms after them.
    async fn call<T: FromRedisValue>(
        &self,
        run: RunRef,
        mode: &str,
        leaves: &[Dispatch],
    ) -> Result<T, BackendError> {
        let script: &Script = &DISPATCH;
        let (link, keys) = (self.link(), self.link().keys.run(run.id));
        let mut queues: Vec<(&Arc<str>, Lane)> = Vec::new();
        let mut written: Vec<u64> = Vec::with_capacity(6 * leaves.len());
        for leaf in leaves {
            let Release { node, attempt } = leaf.release;
            let place = place_of(&mut queues, (&leaf.queue, leaf.lane));
            written.extend([node.number().into(), attempt.into(), place as u64 + 1]);
            written.extend(timers(leaf));
        }
        link.run("dispatch", script, |script| {
            script.key(keys.hash()).key(keys.states());
            if mode == "queue" {
                for (queue, lane) in &queues {
                    script.key(link.keys.stream(queue, *lane));
                    script.key(&link.keys.timers(queue, *lane)[..]);
                }
                script.key(link.keys.timer_index());
            }
            script.arg(mode).arg(&write_incarnation(run.incarnation)[..]);
            script.arg(rmp_serde::to_vec(&written).expect("numbers have a MessagePack form"));
            if mode == "queue" {
                for leaf in leaves {
                    script.arg(write_message(&leaf.message));
                }
            }
        })
        .await
    }

    /// What time it is for each of the queues, or why that is not known.
    async fn clocks_of(&self, leaves: &[Dispatch]) -> BTreeMap<Arc<str>, Result<u64, BackendError>> {
        let queues: BTreeSet<&Arc<str>> = leaves.iter().map(|leaf| &leaf.queue).collect();
        let asked = queues
            .into_iter()
            .map(|queue| async move { (queue.clone(), self.clocks().of_queue(self.link(), queue).await) });
        futures::future::join_all(asked).await.into_iter().collect()
    }

    /// Adds leaves to their queues, each of which is in a slot of its own. Leaves those out whose queue
    /// cannot be written; one that is broken or away holds up no other.
    async fn enqueue(
        &self,
        leaves: &mut Vec<Dispatch>,
        clocks: &BTreeMap<Arc<str>, Result<u64, BackendError>>,
    ) -> Result<(), BackendError> {
        let mut places: Vec<(Arc<str>, Lane)> =
            leaves.iter().map(|leaf| (leaf.queue.clone(), leaf.lane)).collect();
        places.sort_unstable();
        places.dedup();
        let mut failed = Ok(());
        for (queue, lane) in &places {
            let (place, stream) = ((queue, *lane), self.link().keys.stream(queue, *lane));
            let added = match clocks.get(queue) {
                Some(Ok(now_ms)) => {
                    let added = self.link().run::<()>("dispatch", &ENQUEUE, |script| {
                        script.key(&stream).key(&self.link().keys.timers(queue, *lane)[..]);
                        script.key(self.link().keys.gone(queue));
                        script.arg(self.link().keys.submission_stream()).arg(now_ms + QUEUED_WITHIN_MS);
                        for leaf in leaves.iter().filter(|leaf| (&leaf.queue, leaf.lane) == place) {
                            script.arg(write_message(&leaf.message)).arg(&timers(leaf)[..]);
                        }
                    });
                    added.await
                }
                Some(Err(error)) => Err(BackendError::new(error.kind, "dispatch").context(error)),
                None => Err(BackendError::new(ErrorKind::Unavailable, "dispatch")),
            };
            if let Err(error) = added {
                // It may have been set.
                self.clocks().forget(queue);
                leaves.retain(|leaf| (&leaf.queue, leaf.lane) != place);
                let what = error.context.clone().unwrap_or_default();
                failed = Err(error.context(format!("the queue {queue:?}: {what}")));
            }
        }
        failed
    }
}
