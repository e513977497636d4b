//! Runs in Redis: reading them, and letting them go.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    Advance, Advanced, BackendError, Dispatch, Grown, Known, NewRun, Origin, Progress, RunStatus, Store,
    Submitted,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::{Plan, Release, RunOutcome};
use celeriac_primitives::{NodeNo, Outcome, RunId};

use crate::RedisBackend;
use crate::error::{corrupt, refused};
use crate::hints::Wait;
use crate::keys::Keys;
use crate::meta::{Digest, Meta};
use crate::scripts::{FORGET, PROGRESS, SLICE, STATES};
use crate::settle::{node_no, scope_field};

/// So many outcomes are read along with a run's status.
const READ_ALONG: usize = 32;

/// A run whose time is over, and of which a segment goes on, is looked at again after its time, or this when it is less.
const LOOK_AGAIN_MAX_MS: u64 = 60_000;

/// What became of a run that was to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgotten {
    /// It was there and is gone.
    Gone,
    /// It was not there, or goes on.
    Nothing,
    /// Its time is over, and a segment of it goes on.
    Kept,
}

/// A sweep forgets at most so many runs; the next one goes on.
const FORGOTTEN_MAX: usize = 10_000;

#[async_trait]
impl Store for RedisBackend {
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError> {
        self.submit_run(run).await
    }

    async fn plan(&self, run: RunId) -> Result<Option<Arc<Plan>>, BackendError> {
        if let Some(plan) = self.plan_at_hand(run) {
            return Ok(Some(plan));
        }
        let keys = self.link().keys.run(run);
        let (inline, large): (Option<Vec<u8>>, Option<Vec<u8>>) = redis::pipe()
            .hget(&keys.hash, "p")
            .get(&keys.plan)
            .query_async(&mut self.link().connection())
            .await
            .map_err(refused("plan"))?;
        let Some(bytes) = inline.or(large) else {
            let is_there = self.meta(run, "plan").await?.is_some();
            return if is_there { Err(corrupt("plan", format!("{run} has no plan"))) } else { Ok(None) };
        };
        let plan = Plan::decode(&bytes).map_err(|error| corrupt("plan", run).source(error))?;
        let plan = Arc::new(plan);
        self.plans().insert(run, Digest::of(&bytes), plan.clone());
        Ok(Some(plan))
    }

    fn plan_at_hand(&self, run: RunId) -> Option<Arc<Plan>> {
        self.plans().find(run).map(|(_, plan)| plan)
    }

    async fn settle(&self, batch: &[Advance]) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        self.settle_batch(batch).await
    }

    async fn outbox(&self, run: RunId) -> Result<Vec<Release>, BackendError> {
        let Some((meta, states)) = self.states(run, "outbox").await? else { return Ok(Vec::new()) };
        let released = states.iter().enumerate().filter(|(_, state)| **state == b'R');
        let mut outbox: Vec<Release> =
            released.map(|(i, _)| Release { node: NodeNo::from_index(i), attempt: 1 }).collect();
        if meta.retried > 0 {
            for slice in outbox.chunks_mut(SLICE) {
                let names = slice.iter().map(|release| format!("a{}", release.node)).collect();
                let attempts: Vec<Option<u32>> = self.fields(run, "outbox", names).await?;
                let known = slice.iter_mut().zip(attempts);
                known.for_each(|(release, attempt)| release.attempt = attempt.unwrap_or(1));
            }
        }
        Ok(outbox)
    }

    /// Looks at a page of all runs at a time: what is owed is known by the events that wait, and this only finds what
    /// somebody broke by hand.
    async fn owing(&self, max: usize) -> Result<Vec<RunId>, BackendError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let before = *self.0.page.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = self.list(before, max).await?;
        if before.is_some() && page.len() < max {
            page.extend(self.list(None, max - page.len()).await?);
        }
        *self.0.page.lock().unwrap_or_else(PoisonError::into_inner) = page.last().copied();
        page.sort_unstable();
        page.dedup();
        let mut owing = Vec::new();
        for slice in page.chunks(SLICE) {
            let metas = slice.iter().map(|run| self.meta(*run, "owing"));
            for (run, meta) in slice.iter().zip(futures::future::join_all(metas).await) {
                match meta {
                    Ok(Some(meta)) if meta.owed > 0 => owing.push(*run),
                    Ok(Some(_)) => {}
                    Ok(None) => self.drop_from_list(*run).await?,
                    Err(error) if error.may_retry() => return Err(error),
                    Err(error) => tracing::error!(%run, %error, "a run cannot be read"),
                }
            }
        }
        Ok(owing)
    }

    async fn known(&self, run: RunId, nodes: &[NodeNo], scopes: &[ScopeNo]) -> Result<Known, BackendError> {
        let mut known = Known::default();
        let mut nodes: Vec<NodeNo> = nodes.to_vec();
        for slice in scopes.chunks(SLICE) {
            let names = slice.iter().map(|scope| scope_field(*scope)).collect();
            let closed: Vec<Option<u32>> = self.fields(run, "known", names).await?;
            for (scope, node) in slice.iter().zip(closed) {
                if let Some(node) = node {
                    let node = node_no("known", node)?;
                    known.closed.insert(*scope, node);
                    nodes.push(node);
                }
            }
        }
        let slices = nodes.chunks(SLICE).map(|slice| {
            let names = slice.iter().map(|node| format!("o{node}")).collect();
            self.fields(run, "known", names)
        });
        let outcomes = futures::future::try_join_all(slices).await?;
        for (slice, outcomes) in nodes.chunks(SLICE).zip(outcomes) {
            add_outcomes(&mut known, run, slice, outcomes)?;
        }
        Ok(known)
    }

    async fn dispatch(&self, run: RunId, leaves: &[Dispatch]) -> Result<usize, BackendError> {
        self.dispatch_leaves(run, leaves).await
    }

    async fn claim_outbox(&self, run: RunId, holder: u64, lease: Duration) -> Result<bool, BackendError> {
        self.claim(run, holder, lease.max(Duration::from_millis(1))).await
    }

    async fn free_outbox(&self, run: RunId, holder: u64) -> Result<(), BackendError> {
        self.claim(run, holder, Duration::ZERO).await.map(drop)
    }

    async fn note_progress(&self, reports: &[Progress]) -> Result<(), BackendError> {
        let mut runs: BTreeMap<RunId, Vec<&Progress>> = BTreeMap::new();
        for report in reports {
            runs.entry(report.task_id.run()).or_default().push(report);
        }
        let link = self.link();
        let notes =
            runs.iter().flat_map(|(run, reports)| reports.chunks(SLICE).map(move |slice| (*run, slice)));
        let notes = notes.map(|(run, slice)| async move {
            link.run::<()>("note_progress", &PROGRESS, |script| {
                script.key(link.keys.run(run).hash);
                script.arg(format!("{}{}", link.keys.changes(), Keys::change_channel(run)));
                script.arg(&run.uuid().as_bytes()[..]);
                for report in slice {
                    let value = rmp_serde::to_vec(report).expect("a report has a MessagePack form");
                    script.arg(format!("g{}", report.task_id.node())).arg(value);
                }
            })
            .await
        });
        futures::future::try_join_all(notes).await.map(drop)
    }

    async fn progress(&self, run: RunId, nodes: &[NodeNo]) -> Result<Vec<Progress>, BackendError> {
        let mut all = Vec::new();
        for slice in nodes.chunks(SLICE) {
            let names = slice.iter().map(|node| format!("g{node}")).collect();
            let stored: Vec<Option<Vec<u8>>> = self.fields(run, "progress", names).await?;
            for report in stored.into_iter().flatten() {
                let report = rmp_serde::from_slice(&report);
                all.push(report.map_err(|error| corrupt("progress", run).source(error))?);
            }
        }
        Ok(all)
    }

    async fn now(&self) -> Result<u64, BackendError> {
        self.now_ms().await
    }

    async fn status(&self, run: RunId) -> Result<Option<RunStatus>, BackendError> {
        Ok(self.meta(run, "status").await?.map(|meta| meta.status()))
    }

    async fn changed(
        &self,
        run: RunId,
        since: u64,
        timeout: Duration,
    ) -> Result<Option<RunStatus>, BackendError> {
        let listener = self.link().hints.listen(run);
        let wait = Wait::new(vec![listener.changed().clone()], timeout);
        loop {
            let hint = wait.hint();
            let status = self.status(run).await?;
            if status.is_none_or(|status| status.version > since) || wait.is_over() {
                return Ok(status);
            }
            wait.next(hint).await;
        }
    }

    async fn decided(
        &self,
        run: RunId,
        nodes: &[NodeNo],
        timeout: Duration,
    ) -> Result<Option<(RunStatus, Known)>, BackendError> {
        // This process has just submitted it, and nothing was heard since: there is nothing to be seen yet.
        let fresh = self.0.fresh.take(run);
        let mut is_fresh = fresh.is_some();
        let listener = fresh.unwrap_or_else(|| self.link().hints.listen(run));
        let wait = Wait::new(vec![listener.decided().clone()], timeout);
        // A few outcomes are read along with the status: mostly that is the only look.
        let (few, many) = if nodes.len() <= READ_ALONG { (nodes, &[][..]) } else { (&[][..], nodes) };
        loop {
            let hint = wait.hint();
            if std::mem::take(&mut is_fresh) && !listener.is_decided() && !wait.is_over() {
                wait.next(hint).await;
                continue;
            }
            let names = std::iter::once("m".to_owned()).chain(few.iter().map(|node| format!("o{node}")));
            let mut stored: Vec<Option<Vec<u8>>> = self.fields(run, "get", names.collect()).await?;
            let outcomes = stored.split_off(1);
            let Some(meta) = stored.pop().flatten() else { return Ok(None) };
            let status = Meta::unpack("get", &meta)?.status();
            if status.outcome == RunOutcome::Succeeded {
                let mut known = self.known(run, many, &[]).await?;
                add_outcomes(&mut known, run, few, outcomes)?;
                return Ok(Some((status, known)));
            }
            if status.outcome != RunOutcome::Undecided || wait.is_over() {
                return Ok(Some((status, Known::default())));
            }
            wait.next(hint).await;
        }
    }

    async fn phases(&self, run: RunId) -> Result<Option<Vec<Phase>>, BackendError> {
        let Some((_, states)) = self.states(run, "phases").await? else { return Ok(None) };
        let phases = states.iter().map(|state| phase(*state)).collect::<Option<Vec<Phase>>>();
        phases.map(Some).ok_or_else(|| corrupt("phases", run))
    }

    async fn grow(
        &self,
        root: RunId,
        segment: RunId,
        nodes: usize,
        nodes_max: usize,
    ) -> Result<Grown, BackendError> {
        self.note_segment(root, segment, nodes, nodes_max).await
    }

    async fn segments(&self, run: RunId) -> Result<Vec<RunId>, BackendError> {
        self.segments_of(run).await
    }

    async fn origin(&self, run: RunId) -> Result<Option<Origin>, BackendError> {
        self.origin_of(run).await
    }

    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError> {
        let from =
            before.map_or_else(|| b"+".to_vec(), |run| [&b"("[..], &run.uuid().as_bytes()[..]].concat());
        let mut cmd = redis::cmd("ZREVRANGEBYLEX");
        cmd.arg(self.link().keys.runs()).arg(from).arg("-").arg("LIMIT").arg(0).arg(max);
        let runs: Vec<Vec<u8>> = self.link().ask("list", &cmd).await?;
        runs.iter().map(|run| run_of(run).ok_or_else(|| corrupt("list", "an id that is none"))).collect()
    }

    async fn forget(&self, run: RunId) -> Result<bool, BackendError> {
        let forgotten = self.forget_run(run, "any").await?;
        self.drop_from_list(run).await?;
        Ok(forgotten == Forgotten::Gone)
    }
}

impl RedisBackend {
    pub(crate) async fn meta(
        &self,
        run: RunId,
        operation: &'static str,
    ) -> Result<Option<Meta>, BackendError> {
        let key = self.link().keys.run(run).hash;
        let bytes: Option<Vec<u8>> = self.link().ask(operation, redis::cmd("HGET").arg(key).arg("m")).await?;
        bytes.map(|bytes| Meta::unpack(operation, &bytes)).transpose()
    }

    /// A run's meta and the state of each node.
    async fn states(
        &self,
        run: RunId,
        operation: &'static str,
    ) -> Result<Option<(Meta, Vec<u8>)>, BackendError> {
        let keys = self.link().keys.run(run);
        let (meta, states): (Option<Vec<u8>>, Option<Vec<u8>>) = self
            .link()
            .run(operation, &STATES, |script| {
                script.key(&keys.hash).key(&keys.states);
            })
            .await?;
        let Some(meta) = meta else { return Ok(None) };
        Ok(Some((Meta::unpack(operation, &meta)?, states.unwrap_or_default())))
    }

    /// Some fields of a run.
    async fn fields<T: redis::FromRedisValue>(
        &self,
        run: RunId,
        operation: &'static str,
        names: Vec<String>,
    ) -> Result<Vec<Option<T>>, BackendError> {
        let key = self.link().keys.run(run).hash;
        self.link().ask(operation, redis::cmd("HMGET").arg(key).arg(names)).await
    }

    /// Notes when a run that has ended is to be forgotten.
    pub(crate) async fn note_end(&self, run: RunId, retention_ms: u64) -> Result<(), BackendError> {
        let until = self.now_ms().await?.saturating_add(retention_ms);
        let key = self.link().keys.ended();
        self.link().write("settle", "ZADD", key, (until, &run.uuid().as_bytes()[..])).await
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
            let runs: Vec<RunId> = due.iter().filter_map(|run| run_of(run)).collect();
            let gone = futures::future::try_join_all(runs.iter().map(|run| self.forget_run(*run, "ended")));
            let gone = gone.await?;
            forgotten += gone.iter().filter(|gone| **gone == Forgotten::Gone).count();
            let kept = runs.iter().zip(&gone).filter(|(_, gone)| **gone == Forgotten::Kept);
            let kept: Vec<(RunId, Vec<u8>)> =
                kept.map(|(run, _)| (*run, run.uuid().as_bytes().to_vec())).collect();
            due.retain(|run| !kept.iter().any(|(_, kept)| kept == run));
            for (run, id) in kept {
                let time_ms = self.meta(run, "sweep").await?.map_or(0, |meta| meta.retention_ms);
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

    /// Forgets a run with its segments, which go first: who dies in between leaves them to the next time.
    async fn forget_run(&self, run: RunId, which: &str) -> Result<Forgotten, BackendError> {
        match self.forget_alone(run, which).await? {
            0 => return Ok(Forgotten::Nothing),
            1 => return Ok(Forgotten::Gone),
            _ => {}
        }
        let segments = self.segments_of(run).await?;
        if which == "ended" && !self.have_ended(&segments).await? {
            return Ok(Forgotten::Kept);
        }
        for slice in segments.chunks(SLICE) {
            let gone = slice.iter().map(|segment| self.forget_alone(*segment, "all"));
            futures::future::try_join_all(gone).await?;
        }
        let was_there = self.forget_alone(run, "all").await? == 1;
        Ok(if was_there { Forgotten::Gone } else { Forgotten::Nothing })
    }

    async fn forget_alone(&self, run: RunId, which: &str) -> Result<u8, BackendError> {
        self.plans().remove(run);
        let (link, keys) = (self.link(), self.link().keys.run(run));
        link.run("forget", &FORGET, |script| {
            script.key(&keys.hash).key(&keys.states).key(&keys.plan).key(&keys.segments).arg(which);
            script.arg(format!("{}{}", link.keys.changes(), Keys::change_channel(run)));
            // As the settle script hints at a run that is decided.
            script.arg(&(run.uuid().as_u128() | 1).to_be_bytes()[..]);
        })
        .await
    }

    /// Takes a run that is not there off the lists, unless it is just being submitted.
    async fn drop_from_list(&self, run: RunId) -> Result<(), BackendError> {
        let (link, id) = (self.link(), run.uuid());
        let id = &id.as_bytes()[..];
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

    /// The time by the clock of Redis.
    async fn now_ms(&self) -> Result<u64, BackendError> {
        let times: redis::Value = self.link().ask("time", &redis::cmd("TIME")).await?;
        // On a Cluster every master answers, named by its address; any one will do.
        let time = match times {
            redis::Value::Map(pairs) => pairs.into_iter().next().map_or(redis::Value::Nil, |(_, time)| time),
            time => time,
        };
        let (seconds, micros): (u64, u64) =
            redis::from_redis_value(time).map_err(|error| corrupt("time", error))?;
        Ok(seconds * 1000 + micros / 1000)
    }
}

fn add_outcomes(
    known: &mut Known,
    run: RunId,
    nodes: &[NodeNo],
    outcomes: Vec<Option<Vec<u8>>>,
) -> Result<(), BackendError> {
    for (node, outcome) in nodes.iter().zip(outcomes) {
        if let Some(outcome) = outcome {
            let outcome: Outcome =
                rmp_serde::from_slice(&outcome).map_err(|error| corrupt("known", run).source(error))?;
            known.outcomes.insert(*node, outcome);
        }
    }
    Ok(())
}

/// A run in a list: its id in bytes.
pub(crate) fn run_of(bytes: &[u8]) -> Option<RunId> {
    RunId::from_uuid(uuid::Uuid::from_slice(bytes).ok()?).ok()
}

/// A node's phase as it is stored.
pub(crate) fn phase_byte(phase: Phase) -> u8 {
    match phase {
        Phase::Waiting => b'W',
        Phase::Released => b'R',
        Phase::Dispatched => b'D',
        Phase::Replaced => b'P',
        Phase::Succeeded => b'S',
        Phase::Failed => b'F',
    }
}

fn phase(byte: u8) -> Option<Phase> {
    use Phase::{Dispatched, Failed, Released, Replaced, Succeeded, Waiting};
    let all = [Waiting, Released, Dispatched, Replaced, Succeeded, Failed];
    all.into_iter().find(|phase| phase_byte(*phase) == byte)
}
