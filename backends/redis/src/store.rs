//! Runs in Redis: what is read of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{
    Advance, Advanced, BackendError, Dispatch, ErrorKind, Grown, Known, NewRun, Origin, Progress, RunStatus,
    Store, Submitted,
};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::{PlanError, ScopeNo};
use celeriac_engine::{Plan, Release, RunOutcome};
use celeriac_primitives::{NodeNo, RunId, RunRef, Stored, TaskId};

use crate::RedisBackend;
use crate::by_itself::by_itself;
use crate::clocks;
use crate::envelope::{self, Unreadable};
use crate::error::{corrupt, later};
use crate::gone::Forgotten;
use crate::hints::{POLL, Wait};
use crate::keys::{Keys, read_run, write_run};
use crate::meta::{Digest, Meta};
use crate::news;
use crate::plans::Need;
use crate::scripts::{PLAN, PROGRESS, READ_SLICE, SLICE, STATES, slices};
use crate::settle::{node_no, scope_field};
use crate::texts::PIECE_BYTES;

/// So many outcomes are read along with a run's status.
const READ_ALONG: usize = 32;

/// A plan that has more bytes is read on a thread of its own.
const READ_HERE: usize = 64 * 1024;

/// So many runs are looked at each time whether they owe anything.
const PAGE_MAX: usize = 100;

#[async_trait]
impl Store for RedisBackend {
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError> {
        self.submit_run(run).await
    }

    async fn find(&self, id: RunId) -> Result<Option<(RunRef, Arc<Plan>)>, BackendError> {
        // Which run has the id now only the store knows; its plan may be at hand.
        if self.plans().has_any(id) {
            let Some(meta) = self.meta(id, "plan").await? else { return Ok(None) };
            let run = id.incarnation(meta.incarnation);
            if let Some(plan) = self.plans().look(run) {
                return Ok(Some((run, plan)));
            }
        }
        self.stored_plan(id, Need::Perhaps).await
    }

    async fn plan(&self, run: RunRef) -> Result<Option<Arc<Plan>>, BackendError> {
        if let Some(plan) = self.plan_at_hand(run) {
            return Ok(Some(plan));
        }
        // One reads it, and the others wait for him.
        let backend = self.clone();
        by_itself(async move {
            let loading = backend.plans().load(run.id).await;
            if let Some(plan) = backend.plan_at_hand(run) {
                return Ok(Some(plan));
            }
            let stored = backend.stored_plan(run.id, Need::Work).await?;
            drop(loading);
            Ok(stored.and_then(|(stored, plan)| (stored == run).then_some(plan)))
        })
        .await
    }

    fn plan_at_hand(&self, run: RunRef) -> Option<Arc<Plan>> {
        self.plans().find(run)
    }

    async fn settle(&self, batch: &[Advance]) -> Result<Vec<Result<Advanced, BackendError>>, BackendError> {
        self.settle_batch(batch).await
    }

    async fn outbox(&self, run: RunRef) -> Result<Vec<Release>, BackendError> {
        let Some((meta, states)) = self.states(run, "outbox").await? else { return Ok(Vec::new()) };
        let released = states.iter().enumerate().filter(|(_, state)| **state == b'R');
        let mut outbox: Vec<Release> =
            released.map(|(i, _)| Release { node: NodeNo::from_index(i), attempt: 1 }).collect();
        if meta.retried > 0 {
            for slice in outbox.chunks_mut(SLICE) {
                let names = slice.iter().map(|release| format!("a{}", release.node)).collect();
                let Some((_, attempts)) = self.fields::<u32>(run, "outbox", names).await? else {
                    return Ok(Vec::new());
                };
                let known = slice.iter_mut().zip(attempts);
                known.for_each(|(release, attempt)| release.attempt = attempt.unwrap_or(1));
            }
        }
        Ok(outbox)
    }

    /// Looks at a page of all runs at a time: what is owed is known by the events that wait, and this only
    /// finds what somebody broke by hand.
    async fn owing(&self, max: usize) -> Result<Vec<RunRef>, BackendError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        // So that runs which are only kept cost nearly nothing.
        let max = max.min(PAGE_MAX);
        let before = *self.0.page.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = self.listed(before, max).await?;
        if before.is_some() && page.len() < max {
            page.extend(self.listed(None, max - page.len()).await?);
        }
        *self.0.page.lock().unwrap_or_else(PoisonError::into_inner) = page.last().map(|run| run.id);
        page.sort_unstable();
        page.dedup();
        let (link, mut owing, mut there) = (self.link(), Vec::new(), Vec::with_capacity(page.len()));
        for slice in page.chunks(SLICE) {
            let metas = slice.iter().map(|run| self.meta_of(*run, "owing"));
            for (run, meta) in slice.iter().zip(futures::future::join_all(metas).await) {
                match meta {
                    Ok(Some(meta)) if meta.owed > 0 => owing.push(*run),
                    Ok(Some(meta)) => there.push((*run, meta)),
                    Ok(None) => {
                        // Perhaps somebody died who was about to forget it.
                        self.forget_run(*run, "marked").await?;
                        self.drop_from_list(*run).await?;
                    }
                    // Its shard is away; those of the others are not.
                    Err(error) if error.may_retry() && link.is_cluster() => {}
                    Err(error) if error.may_retry() => return Err(error),
                    Err(error) => link
                        .broken
                        .note(&link.keys.run(run.id).hash(), format!("{run} cannot be read: {error}")),
                }
            }
        }
        self.note_ends(&there).await?;
        owing.extend(self.find_lost(&there).await?);
        Ok(owing)
    }

    async fn known(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        scopes: &[ScopeNo],
    ) -> Result<Option<Known>, BackendError> {
        let mut known = Known::default();
        let mut nodes: Vec<NodeNo> = nodes.to_vec();
        for slice in scopes.chunks(SLICE) {
            let names = slice.iter().map(|scope| scope_field(*scope)).collect();
            let Some((_, closed)) = self.fields::<u32>(run, "known", names).await? else { return Ok(None) };
            for (scope, node) in slice.iter().zip(closed) {
                if let Some(node) = node {
                    let node = node_no("known", node)?;
                    known.closed.insert(*scope, node);
                    nodes.push(node);
                }
            }
        }
        let slices: Vec<&[NodeNo]> =
            if nodes.is_empty() { vec![&[]] } else { nodes.chunks(READ_SLICE).collect() };
        let outcomes = slices.iter().map(|slice| {
            let names = slice.iter().map(|node| format!("o{node}")).collect();
            self.fields(run, "known", names)
        });
        for (slice, outcomes) in slices.iter().zip(futures::future::try_join_all(outcomes).await?) {
            let Some((_, outcomes)) = outcomes else { return Ok(None) };
            add_outcomes(&mut known, run, slice, outcomes)?;
        }
        Ok(Some(known))
    }

    async fn dispatch(&self, run: RunRef, leaves: &[Dispatch]) -> Result<usize, BackendError> {
        self.dispatch_leaves(run, leaves).await
    }

    async fn claim_outbox(&self, run: RunRef, holder: u64, lease: Duration) -> Result<bool, BackendError> {
        self.claim(run, holder, lease.max(Duration::from_millis(1))).await
    }

    async fn free_outbox(&self, run: RunRef, holder: u64) -> Result<(), BackendError> {
        self.claim(run, holder, Duration::ZERO).await.map(drop)
    }

    async fn note_progress(&self, reports: &[Progress]) -> Result<(), BackendError> {
        let mut runs: BTreeMap<RunRef, Vec<&Progress>> = BTreeMap::new();
        for report in reports {
            runs.entry(report.task_id.run().incarnation(report.incarnation)).or_default().push(report);
        }
        let link = self.link();
        let notes = runs.iter().flat_map(|(run, reports)| {
            slices(reports, |report| report.weight()).into_iter().map(move |slice| (*run, slice))
        });
        let notes = notes.map(|(run, slice)| async move {
            link.run::<()>("note_progress", &PROGRESS, |script| {
                script.key(link.keys.run(run.id).hash());
                script.arg(format!("{}{}", link.keys.changes(), Keys::change_channel(run.id)));
                script.arg(&write_run(run)[..]);
                for report in slice {
                    let value = rmp_serde::to_vec(report).expect("a report has a MessagePack form");
                    script.arg(format!("g{}", report.task_id.node())).arg(value);
                }
            })
            .await
        });
        futures::future::try_join_all(notes).await.map(drop)
    }

    async fn progress(&self, run: RunRef, nodes: &[NodeNo]) -> Result<Vec<Progress>, BackendError> {
        let mut all = Vec::new();
        for slice in nodes.chunks(READ_SLICE) {
            let names = slice.iter().map(|node| format!("g{node}")).collect();
            let Some((_, stored)) = self.fields::<Vec<u8>>(run, "progress", names).await? else {
                return Ok(Vec::new());
            };
            // What a later version has noted is left out: nothing rests on it.
            for report in stored.into_iter().flatten().filter(|report| !envelope::is_later(report)) {
                let report = rmp_serde::from_slice(&report);
                all.push(report.map_err(|error| corrupt("progress", run).source(error))?);
            }
        }
        Ok(all)
    }

    async fn now(&self) -> Result<u64, BackendError> {
        self.now_ms().await
    }

    async fn strain(&self) -> Result<Option<String>, BackendError> {
        let link = self.link();
        link.room.look(link).await;
        let told =
            [link.room.strain(), link.broken.strain(), link.shards_away(), link.unserved.strain(&link.keys)];
        let told: Vec<String> = told.into_iter().flatten().collect();
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }

    async fn status(&self, id: RunId) -> Result<Option<RunStatus>, BackendError> {
        let status = self.meta(id, "status").await?.map(|meta| meta.status());
        if let Some(status) = &status {
            self.has_seen(id.incarnation(status.incarnation), Some(status));
        }
        Ok(status)
    }

    async fn changed(
        &self,
        run: RunRef,
        since: u64,
        timeout: Duration,
    ) -> Result<Option<RunStatus>, BackendError> {
        let listener = self.link().hints.listen_to_changes(run.id);
        let wait = Wait::new(vec![listener.changed().clone()], timeout);
        loop {
            let hint = wait.hint();
            let status = self.meta_of(run, "wait").await?.map(|meta| meta.status());
            if status.is_none_or(|status| status.version > since) || wait.is_over() {
                self.has_seen(run, status.as_ref());
                return Ok(status);
            }
            wait.next(hint, POLL).await;
        }
    }

    async fn decided(
        &self,
        run: RunRef,
        nodes: &[NodeNo],
        timeout: Duration,
    ) -> Result<Option<(RunStatus, Known)>, BackendError> {
        // This process has just submitted it, and nothing was heard since: there is nothing to be seen yet.
        let fresh = self.0.fresh.take(run);
        let (mut is_fresh, mut has_listened) = (fresh.is_some(), fresh.is_some());
        let listener = fresh.unwrap_or_else(|| self.link().hints.listen(run.id));
        let wait = Wait::new(vec![listener.decided().clone()], timeout);
        // A few outcomes are read along with the status: mostly that is the only look.
        let (few, many) = if nodes.len() <= READ_ALONG { (nodes, &[][..]) } else { (&[][..], nodes) };
        loop {
            let hint = wait.hint();
            let news = if has_listened { news::read(run, nodes, &listener.news()) } else { None };
            if let Some((status, known)) = news {
                self.has_seen(run, Some(&status));
                return Ok(Some((status, known)));
            }
            has_listened = true;
            if std::mem::take(&mut is_fresh) && !listener.is_decided() && !wait.is_over() {
                wait.next(hint, POLL).await;
                continue;
            }
            let names = few.iter().map(|node| format!("o{node}")).collect();
            let Some((meta, outcomes)) = self.fields(run, "get", names).await? else {
                self.has_seen(run, None);
                return Ok(None);
            };
            let status = meta.status();
            self.has_seen(run, Some(&status));
            if status.outcome == RunOutcome::Succeeded {
                let many =
                    if many.is_empty() { Some(Known::default()) } else { self.known(run, many, &[]).await? };
                let Some(mut known) = many else { return Ok(None) };
                add_outcomes(&mut known, run, few, outcomes)?;
                return Ok(Some((status, known)));
            }
            if status.outcome != RunOutcome::Undecided || wait.is_over() {
                return Ok(Some((status, Known::default())));
            }
            wait.next(hint, POLL).await;
        }
    }

    async fn phases(&self, run: RunRef) -> Result<Option<Vec<Phase>>, BackendError> {
        let Some((_, states)) = self.states(run, "phases").await? else { return Ok(None) };
        let phases = states.iter().map(|state| phase(*state)).collect::<Option<Vec<Phase>>>();
        phases.map(Some).ok_or_else(|| corrupt("phases", run))
    }

    async fn grow(
        &self,
        root: RunRef,
        segment: RunId,
        nodes: usize,
        nodes_max: usize,
    ) -> Result<Grown, BackendError> {
        self.note_segment(root, segment, nodes, nodes_max).await
    }

    async fn segments(&self, run: RunRef) -> Result<Vec<RunId>, BackendError> {
        self.segments_of(run).await
    }

    async fn origin(&self, run: RunRef) -> Result<Option<Origin>, BackendError> {
        self.origin_of(run).await
    }

    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError> {
        let mut ids: Vec<RunId> = self.listed(before, max).await?.into_iter().map(|run| run.id).collect();
        // A run that is being forgotten while its id is used again.
        ids.dedup();
        Ok(ids)
    }

    fn inline_bytes_max(&self) -> usize {
        self.0.inline_bytes_max
    }

    async fn keep(&self, value: &Stored, text: &str) -> Result<bool, BackendError> {
        self.keep_text(value, text).await
    }

    async fn fetch(&self, value: &Stored, out: &mut Vec<u8>) -> Result<bool, BackendError> {
        self.fetch_text(value, out).await
    }

    async fn discard(&self, leaf: TaskId, value: &Stored) -> Result<(), BackendError> {
        self.discard_text(leaf, value).await
    }

    async fn forget(&self, run: RunRef) -> Result<bool, BackendError> {
        let forgotten = self.forget_run(run, "any").await?;
        self.drop_from_list(run).await?;
        Ok(forgotten == Forgotten::Gone)
    }
}

impl RedisBackend {
    /// Who has submitted a run and waits for it hears of its end here.
    fn has_seen(&self, run: RunRef, status: Option<&RunStatus>) {
        if status.is_none_or(RunStatus::ended) {
            self.plans().has_ended(run);
        }
    }

    /// The meta of the run that has this id now.
    pub(crate) async fn meta(
        &self,
        id: RunId,
        operation: &'static str,
    ) -> Result<Option<Meta>, BackendError> {
        let key = self.link().keys.run(id).hash();
        let bytes: Option<Vec<u8>> = self.link().ask(operation, redis::cmd("HGET").arg(key).arg("m")).await?;
        bytes.map(|bytes| Meta::unpack(operation, &bytes)).transpose()
    }

    /// The meta of a run.
    pub(crate) async fn meta_of(
        &self,
        run: RunRef,
        operation: &'static str,
    ) -> Result<Option<Meta>, BackendError> {
        Ok(self.meta(run.id, operation).await?.filter(|meta| meta.incarnation == run.incarnation))
    }

    /// The run that is stored under this id, and its plan.
    async fn stored_plan(&self, id: RunId, need: Need) -> Result<Option<(RunRef, Arc<Plan>)>, BackendError> {
        let Some((run, meta, stored)) = self.plan_as_stored(id).await? else { return Ok(None) };
        let bytes = match stored {
            Ok(bytes) => bytes,
            Err(large) => self.large_plan(run, large, meta.digest).await?,
        };
        Ok(Some((run, self.read_plan(run, meta, bytes, need).await?)))
    }

    /// Whether a run's plan is at hand, or can be fetched in one step; also when there is no such run.
    pub(crate) async fn has_plan(&self, run: RunRef) -> Result<bool, BackendError> {
        if self.plan_at_hand(run).is_some() {
            return Ok(true);
        }
        match self.plan_as_stored(run.id).await? {
            Some((_, _, Err(_))) => Ok(false),
            Some((stored, meta, Ok(bytes))) => {
                self.read_plan(stored, meta, bytes, Need::Work).await.map(|_| true)
            }
            None => Ok(true),
        }
    }

    /// The plan's bytes, or how many they are when they are kept by themselves.
    async fn plan_as_stored(
        &self,
        id: RunId,
    ) -> Result<Option<(RunRef, Meta, Result<Vec<u8>, usize>)>, BackendError> {
        let keys = self.link().keys.run(id);
        // As a rule it is small, and then a command is enough.
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(keys.hash()).arg("m").arg("p");
        let stored: (Option<Vec<u8>>, Option<Vec<u8>>) = self.link().ask("plan", &cmd).await?;
        let (meta, inline, large): (Option<Vec<u8>>, _, usize) = match stored {
            (Some(_), None) => {
                let script = self.link().run("plan", &PLAN, |script| {
                    script.key(keys.hash()).key(keys.plan());
                });
                script.await?
            }
            (meta, inline) => (meta, inline, 0),
        };
        let Some(meta) = meta else { return Ok(None) };
        let meta = Meta::unpack("plan", &meta)?;
        let run = id.incarnation(meta.incarnation);
        match inline {
            Some(bytes) => Ok(Some((run, meta, Ok(bytes)))),
            None if large == 0 => Err(corrupt("plan", format!("{run} has no plan"))),
            None => Ok(Some((run, meta, Err(large)))),
        }
    }

    async fn read_plan(
        &self,
        run: RunRef,
        meta: Meta,
        bytes: Vec<u8>,
        need: Need,
    ) -> Result<Arc<Plan>, BackendError> {
        let plan = decode(bytes).await.map_err(|error| match error.is_later() {
            true => later("plan", run).source(error),
            false => corrupt("plan", run).source(error),
        })?;
        self.plans().insert(run, plan.clone(), if meta.open == 0 { Need::Nothing } else { need });
        Ok(plan)
    }

    /// A plan that is read in pieces.
    async fn large_plan(&self, run: RunRef, bytes: usize, digest: Digest) -> Result<Vec<u8>, BackendError> {
        let key = self.link().keys.run(run.id).plan();
        let mut plan = Vec::with_capacity(bytes);
        while plan.len() < bytes {
            let (from, to) = (plan.len(), plan.len() + PIECE_BYTES - 1);
            let (link, mut cmd) = (self.link().clone(), redis::cmd("GETRANGE"));
            cmd.arg(&key).arg(from).arg(to);
            let piece = async move { link.ask::<Vec<u8>>("plan", &cmd).await };
            let piece = self.0.turns.take(piece).await?;
            if piece.is_empty() {
                break;
            }
            plan.extend(piece);
        }
        if Digest::of(&plan) == digest {
            return Ok(plan);
        }
        // Forgotten meanwhile, and perhaps another run has the id; or it is not what was stored.
        match self.meta_of(run, "plan").await? {
            Some(meta) if meta.digest == digest => {
                Err(corrupt("plan", format!("{run}: {key} is not as it was stored")))
            }
            _ => {
                Err(BackendError::new(ErrorKind::Unavailable, "plan").context("it changed while it was read"))
            }
        }
    }

    /// The list of runs, as [`Store::list`] has it.
    async fn listed(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunRef>, BackendError> {
        let mut from =
            before.map_or_else(|| b"+".to_vec(), |run| [&b"("[..], &run.uuid().as_bytes()[..]].concat());
        let (mut runs, mut seen): (Vec<RunRef>, Option<Vec<u8>>) = (Vec::new(), None);
        loop {
            let wanted = max - runs.len();
            let (link, mut cmd) = (self.link(), redis::cmd("ZREVRANGEBYLEX"));
            cmd.arg(link.keys.runs()).arg(&from).arg("-").arg("LIMIT").arg(0).arg(wanted);
            let page: Vec<Vec<u8>> = link.ask("list", &cmd).await?;
            runs.extend(page.iter().filter_map(|run| read_run(run)));
            let strange: Vec<&Vec<u8>> = page.iter().filter(|run| read_run(run).is_none()).collect();
            if !strange.is_empty() {
                // What somebody else has put there hides what is behind it. Who may only read passes it over.
                let taken_off = redis::cmd("ZREM").arg(link.keys.runs()).arg(strange).take();
                let _: Result<(), _> = link.ask("list", &taken_off).await;
            }
            match page.last() {
                // With other scores than ours nothing is in order, and a page may come again for ever.
                Some(last)
                    if page.len() == wanted
                        && runs.len() < max
                        && seen.as_ref().is_none_or(|seen| last < seen) =>
                {
                    from = [&b"("[..], last].concat();
                    seen = Some(last.clone());
                }
                _ => return Ok(runs),
            }
        }
    }

    /// A run's meta and the state of each node.
    pub(crate) async fn states(
        &self,
        run: RunRef,
        operation: &'static str,
    ) -> Result<Option<(Meta, Vec<u8>)>, BackendError> {
        let keys = self.link().keys.run(run.id);
        let (meta, states): (Option<Vec<u8>>, Option<Vec<u8>>) = self
            .link()
            .run(operation, &STATES, |script| {
                script.key(keys.hash()).key(keys.states());
            })
            .await?;
        let Some(meta) = meta_of(run, operation, meta)? else { return Ok(None) };
        let states = states.unwrap_or_default();
        if states.len() != meta.nodes as usize {
            return Err(corrupt(operation, "the node states of the run are not whole"));
        }
        Ok(Some((meta, states)))
    }

    /// The meta and some fields of a run.
    pub(crate) async fn fields<T: redis::FromRedisValue>(
        &self,
        run: RunRef,
        operation: &'static str,
        names: Vec<String>,
    ) -> Result<Option<(Meta, Vec<Option<T>>)>, BackendError> {
        let key = self.link().keys.run(run.id).hash();
        let mut cmd = redis::cmd("HMGET");
        let mut stored: Vec<redis::Value> =
            self.link().ask(operation, cmd.arg(key).arg("m").arg(names)).await?;
        let fields = redis::Value::Array(stored.split_off(1.min(stored.len())));
        let meta = stored.pop().unwrap_or(redis::Value::Nil);
        let meta = redis::from_redis_value(meta).map_err(|error| corrupt(operation, error))?;
        let Some(meta) = meta_of(run, operation, meta)? else { return Ok(None) };
        let fields = redis::from_redis_value(fields).map_err(|error| corrupt(operation, error))?;
        Ok(Some((meta, fields)))
    }

    /// The time by the clock of Redis: on a Cluster of the master that has the lists of runs and queues.
    pub(crate) async fn now_ms(&self) -> Result<u64, BackendError> {
        let link = self.link();
        clocks::now_ms(link, "time", &link.keys.submission_stream()).await
    }
}

/// Reads a plan; a large one off the threads on which others wait for their turn.
async fn decode(bytes: Vec<u8>) -> Result<Arc<Plan>, PlanError> {
    if bytes.len() <= READ_HERE {
        return Plan::decode(&bytes).map(Arc::new);
    }
    let read = tokio::task::spawn_blocking(move || Plan::decode(&bytes).map(Arc::new)).await;
    read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn add_outcomes(
    known: &mut Known,
    run: RunRef,
    nodes: &[NodeNo],
    outcomes: Vec<Option<Vec<u8>>>,
) -> Result<(), BackendError> {
    for (node, outcome) in nodes.iter().zip(outcomes) {
        if let Some(outcome) = outcome {
            let outcome = envelope::read_outcome(&outcome).map_err(|unreadable| match unreadable {
                Unreadable::Later => later("known", format!("the outcome of node {node} of {run}")),
                Unreadable::Broken(why) => {
                    corrupt("known", format!("the outcome of node {node} of {run}: {why}"))
                }
            })?;
            known.outcomes.insert(*node, outcome);
        }
    }
    Ok(())
}

/// The meta of a run in what was read; `None` when another run has its id, or none.
pub(crate) fn meta_of(
    run: RunRef,
    operation: &'static str,
    bytes: Option<Vec<u8>>,
) -> Result<Option<Meta>, BackendError> {
    let meta = bytes.map(|bytes| Meta::unpack(operation, &bytes)).transpose()?;
    Ok(meta.filter(|meta| meta.incarnation == run.incarnation))
}

/// An id in bytes.
pub(crate) fn id_of(bytes: &[u8]) -> Option<RunId> {
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
