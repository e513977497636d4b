//! Letting runs go, on demand or when their time after the end is over.
//!
//! A run that has ended is removed in one step. One that goes on, or that has segments, is marked first: from
//! then on nothing reads, settles, dispatches or grows it. Then its queues are told, its timers there
//! removed, and at last all that it and its segments own. Whoever takes a leaf looks whether its queue was
//! told something (`take.lua`), and drops what belongs to a run that is gone; a sweep takes back what queues
//! were told when they hold nothing older.
//!
//! ```text
//! mark run ─► mark segments ─► tell queues, remove timers ─► remove segments ─► remove run ─► off the lists
//! ```
//!
//! Who dies in between leaves a marked run, whose id is not free, to the next one who forgets it, or to the
//! sweep.
//!
//! On a Cluster leaves are queued in another step than they are looked up in. What is queued long after that
//! is refused ([`QUEUED_WITHIN_MS`]), and queues remember for longer.

use std::collections::BTreeSet;
use std::sync::Arc;

use celeriac_backends::{BackendError, DEFAULT_QUEUE, ErrorKind, Lane};
use celeriac_primitives::{Incarnation, RunRef};

use crate::RedisBackend;
use crate::error::First;
use crate::keys::{Keys, may_name_queue, read_run, write_incarnation, write_run};
use crate::news;
use crate::scripts::{BURY, FORGET, LIFT, SLICE, UNSET};

/// On a Cluster leaves are queued so long after they were looked up, or not at all; queues remember runs
/// that had not ended for twice as long.
pub(crate) const QUEUED_WITHIN_MS: u64 = 30 * 1000;

/// Separates the names of queues, which have no control characters.
const BETWEEN: char = '\u{1}';

/// So many timers are looked through in one step.
const TIMERS_AT_ONCE: usize = 100;

/// A run whose time is over, and of which a segment goes on, is looked at again after its time, or this when
/// it is less.
const LOOK_AGAIN_MAX_MS: u64 = 60_000;

/// A sweep forgets at most so many runs; the next one goes on.
const FORGOTTEN_MAX: usize = 10_000;

/// What became of a run that was to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// It was there and is gone.
    Gone,
    /// It was not there, or goes on.
    Nothing,
    /// Its time is over, and a segment of it goes on.
    Kept,
}

/// What one step did.
enum Step {
    Nothing,
    Gone,
    /// It has ended, and has segments: nothing was done.
    Grown,
    /// It is marked: its queues, and whether leaves of it may still be on their way there.
    Marked(BTreeSet<Arc<str>>, bool),
}

/// The queues of a plan as a field of its run; `None` when there is but the default one.
pub(crate) fn write_queues(queues: &[Arc<str>]) -> Option<String> {
    (!queues.is_empty()).then(|| queues.join(&BETWEEN.to_string()))
}

fn read_queues(field: Option<String>) -> BTreeSet<Arc<str>> {
    let named = field.unwrap_or_default();
    let named = named.split(BETWEEN).filter(|name| !name.is_empty()).map(Arc::from);
    // Also leaves that name no queue.
    named.chain([DEFAULT_QUEUE.into()]).collect()
}

impl RedisBackend {
    /// Forgets a run with its segments; which is `any`, `ended` (only then), or `marked` (only what somebody
    /// began to forget).
    pub(crate) async fn forget_run(&self, run: RunRef, which: &str) -> Result<Forgotten, BackendError> {
        let mut step = self.forget_step(run, which).await?;
        if matches!(step, Step::Grown) {
            let segments = self.segments_of(run).await?;
            let segments: Vec<RunRef> =
                segments.into_iter().map(|id| id.incarnation(run.incarnation)).collect();
            if !self.have_ended(&segments).await? {
                return Ok(Forgotten::Kept);
            }
            step = self.forget_step(run, "any").await?;
        }
        let (mut queues, mut is_open) = match step {
            Step::Gone => return Ok(Forgotten::Gone),
            Step::Nothing | Step::Grown => return Ok(Forgotten::Nothing),
            Step::Marked(queues, is_open) => (queues, is_open),
        };
        let segments = self.segments_marked(run).await?;
        let segments: Vec<RunRef> = segments.into_iter().map(|id| id.incarnation(run.incarnation)).collect();
        for slice in segments.chunks(SLICE) {
            let marked = slice.iter().map(|segment| self.forget_step(*segment, "any"));
            for step in futures::future::try_join_all(marked).await? {
                if let Step::Marked(more, is_more_open) = step {
                    is_open |= is_more_open;
                    queues.extend(more);
                }
            }
        }
        let on_their_way = is_open && self.link().is_cluster();
        let for_ms = if on_their_way { 2 * QUEUED_WITHIN_MS } else { 0 };
        self.bury(run.incarnation, &queues, for_ms).await?;
        for slice in segments.chunks(SLICE) {
            let gone = slice.iter().map(|segment| self.forget_step(*segment, "rest"));
            futures::future::try_join_all(gone).await?;
        }
        self.forget_step(run, "rest").await?;
        Ok(Forgotten::Gone)
    }

    async fn forget_step(&self, run: RunRef, which: &str) -> Result<Step, BackendError> {
        self.plans().remove(run);
        let (link, keys) = (self.link(), self.link().keys.run(run.id));
        loop {
            let (code, queues): (u8, Option<String>) = link
                .run("forget", &FORGET, |script| {
                    script.key(keys.hash()).key(keys.states()).key(keys.plan()).key(keys.segments());
                    script.key(keys.literals()).key(keys.texts()).arg(which);
                    script.arg(format!("{}{}", link.keys.changes(), Keys::decision_channel(run.id)));
                    script.arg(&news::nothing(run.id)[..]);
                    script.arg(&write_incarnation(run.incarnation)[..]);
                    script.arg(keys.text()).arg(SLICE).arg(u8::from(link.is_cluster()));
                })
                .await
                .map(|Answer(code, queues)| (code, queues))?;
            match code {
                0 => return Ok(Step::Nothing),
                1 => return Ok(Step::Gone),
                2 => return Ok(Step::Grown),
                4 | 5 => return Ok(Step::Marked(read_queues(queues), code == 4)),
                _ => {}
            }
        }
    }

    /// Tells queues that a run is gone, and removes its timers there.
    async fn bury(
        &self,
        incarnation: Incarnation,
        queues: &BTreeSet<Arc<str>>,
        for_ms: u64,
    ) -> Result<(), BackendError> {
        let link = self.link();
        let bury = queues.iter().map(|queue| async move {
            // Before, so that nothing is postponed any more; after, since what a timer has queued meanwhile
            // is younger.
            let lanes = self.queues().lanes_there(link, "forget", queue).await?;
            self.tell(incarnation, queue, &lanes, for_ms).await?;
            let lanes = self.queues().lanes_there(link, "forget", queue).await?;
            for lane in &lanes {
                for key in link.keys.timers(queue, *lane) {
                    self.unset_timers(incarnation, &key).await?;
                }
            }
            self.tell(incarnation, queue, &lanes, for_ms).await
        });
        futures::future::try_join_all(bury).await?;
        let names: Vec<&str> = queues.iter().map(|queue| &**queue).collect();
        link.write::<()>("forget", "SADD", link.keys.gone_index(), names).await
    }

    async fn tell(
        &self,
        incarnation: Incarnation,
        queue: &str,
        lanes: &[Lane],
        for_ms: u64,
    ) -> Result<(), BackendError> {
        let link = self.link();
        link.run("forget", &BURY, |script| {
            script.key(link.keys.gone(queue));
            for lane in lanes {
                script.key(link.keys.stream(queue, *lane));
            }
            script.arg(&write_incarnation(incarnation)[..]).arg(for_ms);
        })
        .await
    }

    async fn unset_timers(&self, incarnation: Incarnation, key: &str) -> Result<(), BackendError> {
        let mut cursor = "0".to_owned();
        loop {
            cursor = self
                .link()
                .run("forget", &UNSET, |script| {
                    script.key(key).arg(&write_incarnation(incarnation)[..]).arg(&cursor).arg(TIMERS_AT_ONCE);
                })
                .await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Takes back what queues were told of runs of which they hold nothing any more.
    pub(crate) async fn lift(&self) -> Result<(), BackendError> {
        let link = self.link();
        let told: Vec<Vec<u8>> =
            link.ask("sweep", redis::cmd("SMEMBERS").arg(link.keys.gone_index())).await?;
        let mut first = First::default();
        for queue in told {
            match self.lift_one(&queue).await {
                // It holds up no other queue.
                Err(error) if error.kind == ErrorKind::Corrupt => {
                    let gone = link.keys.gone(&String::from_utf8_lossy(&queue));
                    link.broken.note(&gone, format!("a key of its queue: {error}"));
                }
                lifted => first.of(lifted),
            }
        }
        first.into_result()
    }

    async fn lift_one(&self, queue: &[u8]) -> Result<(), BackendError> {
        let link = self.link();
        let Some(queue) = std::str::from_utf8(queue).ok().filter(|queue| may_name_queue(queue)) else {
            // Nothing of this program's.
            return link.ask("sweep", redis::cmd("SREM").arg(link.keys.gone_index()).arg(queue)).await;
        };
        // First off the list, and on it again when something is left: else what is told meanwhile would
        // get lost.
        link.ask::<()>("sweep", redis::cmd("SREM").arg(link.keys.gone_index()).arg(queue)).await?;
        let lanes = self.queues().lanes_there(link, "sweep", queue).await?;
        let is_left: u8 = link
            .run("sweep", &LIFT, |script| {
                script.key(link.keys.gone(queue));
                for lane in &lanes {
                    script.key(link.keys.stream(queue, *lane));
                }
            })
            .await?;
        if is_left == 1 {
            link.write::<()>("sweep", "SADD", link.keys.gone_index(), queue).await?;
        }
        Ok(())
    }

    /// Notes when a run that has ended is to be forgotten.
    pub(crate) async fn note_end(&self, run: RunRef, retention_ms: u64) -> Result<(), BackendError> {
        let until = self.now_ms().await?.saturating_add(retention_ms);
        let key = self.link().keys.ended();
        self.link().write::<()>("settle", "ZADD", key, (until, &write_run(run)[..])).await?;
        // It may have been forgotten meanwhile: who does so takes it off the list after that.
        match self.meta_of(run, "settle").await? {
            Some(_) => Ok(()),
            None => self.drop_from_list(run).await,
        }
    }

    /// Forgets the runs whose time after their end is over; returns how many.
    pub(crate) async fn forget_ended(&self) -> Result<usize, BackendError> {
        let link = self.link();
        let mut forgotten = 0;
        while forgotten < FORGOTTEN_MAX {
            let now = self.now_ms().await?;
            let mut cmd = redis::cmd("ZRANGEBYSCORE");
            cmd.arg(link.keys.ended()).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(SLICE);
            let mut due: Vec<Vec<u8>> = link.ask("sweep", &cmd).await?;
            let is_last = due.len() < SLICE;
            let runs: Vec<RunRef> = due.iter().filter_map(|run| read_run(run)).collect();
            let gone = futures::future::join_all(runs.iter().map(|run| self.forget_run(*run, "ended")));
            // One that is broken is looked at again like one that is kept, and holds up no other.
            let gone = runs.iter().zip(gone.await).map(|(run, gone)| match gone {
                Err(error) if !error.may_retry() => {
                    link.broken
                        .note(&link.keys.run(run.id).hash(), format!("{run} cannot be forgotten: {error}"));
                    Ok(Forgotten::Kept)
                }
                gone => gone,
            });
            let gone: Vec<Forgotten> = gone.collect::<Result<_, _>>()?;
            forgotten += gone.iter().filter(|gone| **gone == Forgotten::Gone).count();
            let kept = runs.iter().zip(&gone).filter(|(_, gone)| **gone == Forgotten::Kept);
            let kept: Vec<(RunRef, Vec<u8>)> =
                kept.map(|(run, _)| (*run, write_run(*run).to_vec())).collect();
            due.retain(|run| !kept.iter().any(|(_, kept)| kept == run));
            for (run, id) in kept {
                let meta = match self.meta_of(run, "sweep").await {
                    Err(error) if error.may_retry() => return Err(error),
                    meta => meta.ok().flatten(),
                };
                let time_ms = meta.map_or(LOOK_AGAIN_MAX_MS, |meta| meta.retention_ms);
                let again = now + time_ms.clamp(1, LOOK_AGAIN_MAX_MS);
                link.write::<()>("sweep", "ZADD", link.keys.ended(), (again, id)).await?;
            }
            // Only now: who dies before this leaves them to the next sweep.
            if !due.is_empty() {
                link.ask::<()>("sweep", redis::cmd("ZREM").arg(link.keys.runs()).arg(&due)).await?;
                link.ask::<()>("sweep", redis::cmd("ZREM").arg(link.keys.ended()).arg(&due)).await?;
            }
            if is_last {
                break;
            }
        }
        Ok(forgotten)
    }

    /// Takes a run that is not there off the lists, unless it is just being submitted.
    pub(crate) async fn drop_from_list(&self, run: RunRef) -> Result<(), BackendError> {
        let (link, id) = (self.link(), &write_run(run)[..]);
        if link.is_cluster() {
            let mut cmd = redis::cmd("ZSCORE");
            let intent: Option<f64> = link.ask("forget", cmd.arg(link.keys.intents()).arg(id)).await?;
            if intent.is_some() {
                return Ok(());
            }
        }
        link.ask::<()>("forget", redis::cmd("ZREM").arg(link.keys.runs()).arg(id)).await?;
        link.ask("forget", redis::cmd("ZREM").arg(link.keys.ended()).arg(id)).await
    }
}

/// A code, and perhaps names.
struct Answer(u8, Option<String>);

impl redis::FromRedisValue for Answer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let mut parts: Vec<redis::Value> = redis::from_redis_value(value)?;
        let queues = if parts.len() > 1 { redis::from_redis_value(parts.remove(1))? } else { None };
        let code = parts.pop().unwrap_or(redis::Value::Nil);
        Ok(Self(redis::from_redis_value(code)?, queues))
    }
}
