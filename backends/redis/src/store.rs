//! Runs in Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backends::{BackendError, Dispatch, ErrorKind, Known, NewRun, RunStatus, Store, Submitted};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::ScopeNo;
use celeriac_engine::{Plan, Release, RunOutcome, Settled, Verdict};
use celeriac_primitives::{Completion, NodeNo, Outcome, RunId};
use redis::AsyncCommands;

use crate::RedisBackend;
use crate::error::{corrupt, refused};
use crate::hints::Wait;
use crate::plans::Wiring;
use crate::queue::encode;
use crate::scripts::{DISPATCH, FORGET, SETTLE, SLICE};

/// How often settling looks up the plan again when the run's id was taken by another run meanwhile.
const INCARNATIONS_MAX: usize = 5;

#[async_trait]
impl Store for RedisBackend {
    async fn submit(&self, run: NewRun) -> Result<Submitted, BackendError> {
        self.submit_run(run).await
    }

    async fn plan(&self, run: RunId) -> Result<Option<Arc<Plan>>, BackendError> {
        Ok(self.wiring(run, "plan").await?.map(|(_, wiring)| wiring.plan.clone()))
    }

    async fn settle(
        &self,
        batch: Vec<(RunId, Vec<Completion>)>,
    ) -> Result<Vec<Option<Settled>>, BackendError> {
        let settle = |(run, completions)| self.settle_run(run, completions);
        let runs: Vec<_> = batch.into_iter().map(settle).collect();
        futures::future::try_join_all(runs).await
    }

    async fn outbox(&self, run: RunId) -> Result<Vec<Release>, BackendError> {
        let keys = self.link().keys.run(run);
        let mut connection = self.link().connection();
        let (states, retried): (Vec<u8>, usize) = redis::pipe()
            .get(keys.key("st"))
            .hlen(keys.key("attempts"))
            .query_async(&mut connection)
            .await
            .map_err(refused("outbox"))?;
        let released = states.iter().enumerate().filter(|(_, state)| **state == b'R');
        let mut outbox: Vec<Release> =
            released.map(|(i, _)| Release { node: NodeNo::from_index(i), attempt: 1 }).collect();
        if retried > 0 {
            for slice in outbox.chunks_mut(SLICE) {
                let nodes: Vec<u32> = slice.iter().map(|release| release.node.number()).collect();
                let attempts: Vec<Option<u32>> =
                    fields(&mut connection, keys.key("attempts"), &nodes).await.map_err(refused("outbox"))?;
                let known = slice.iter_mut().zip(attempts);
                known.for_each(|(release, attempt)| release.attempt = attempt.unwrap_or(1));
            }
        }
        Ok(outbox)
    }

    async fn owing(&self, max: usize) -> Result<Vec<RunId>, BackendError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let last = isize::try_from(max - 1).unwrap_or(isize::MAX);
        let owing: Vec<String> = self
            .link()
            .connection()
            .zrange(self.link().keys.owing(), 0, last)
            .await
            .map_err(refused("owing"))?;
        owing.iter().map(|run| run.parse().map_err(|error| corrupt("owing", error))).collect()
    }

    async fn known(&self, run: RunId, nodes: &[NodeNo], scopes: &[ScopeNo]) -> Result<Known, BackendError> {
        let keys = self.link().keys.run(run);
        let mut connection = self.link().connection();
        let mut known = Known::default();
        let mut nodes: Vec<u32> = nodes.iter().map(|node| node.number()).collect();
        for slice in scopes.chunks(SLICE) {
            let numbers: Vec<u32> = slice.iter().map(|scope| scope.index() as u32).collect();
            let closed: Vec<Option<u32>> =
                fields(&mut connection, keys.key("closed"), &numbers).await.map_err(refused("known"))?;
            for (scope, node) in slice.iter().zip(closed) {
                if let Some(node) = node {
                    known.closed.insert(*scope, node_no("known", node)?);
                    nodes.push(node);
                }
            }
        }
        for slice in nodes.chunks(SLICE) {
            let outcomes: Vec<Option<Vec<u8>>> =
                fields(&mut connection, keys.key("out"), slice).await.map_err(refused("known"))?;
            for (node, outcome) in slice.iter().zip(outcomes) {
                if let Some(outcome) = outcome {
                    let outcome: Outcome = rmp_serde::from_slice(&outcome)
                        .map_err(|error| corrupt("known", run).source(error))?;
                    known.outcomes.insert(node_no("known", *node)?, outcome);
                }
            }
        }
        Ok(known)
    }

    async fn dispatch(&self, run: RunId, leaves: Vec<Dispatch>) -> Result<usize, BackendError> {
        let mut queued = 0;
        for slice in leaves.chunks(SLICE) {
            queued += self.dispatch_slice(run, slice).await?;
        }
        Ok(queued)
    }

    async fn status(&self, run: RunId) -> Result<Option<RunStatus>, BackendError> {
        type Meta = (Option<u64>, Option<u32>, Option<u32>, Option<u32>, Option<u32>, Option<u32>);
        let (version, open, left, failed, done, expected): Meta = self
            .link()
            .connection()
            .hmget(
                self.link().keys.run(run).key("meta"),
                &["version", "open", "left", "failed", "done", "expected"],
            )
            .await
            .map_err(refused("status"))?;
        let (Some(version), Some(open), Some(left)) = (version, open, left) else { return Ok(None) };
        let (done, expected) = (done.unwrap_or(0), expected.unwrap_or(0));
        let outcome = match failed {
            Some(node) => RunOutcome::Failed(node_no("status", node)?),
            None if left == 0 => RunOutcome::Succeeded,
            None => RunOutcome::Undecided,
        };
        Ok(Some(RunStatus { outcome, open, done, expected, version }))
    }

    async fn changed(
        &self,
        run: RunId,
        since: u64,
        timeout: Duration,
    ) -> Result<Option<RunStatus>, BackendError> {
        let listener = self.link().hints.listen(&self.link().keys.run(run).channel());
        let wait = Wait::new(vec![listener.notify().clone()], timeout);
        loop {
            let hint = wait.hint();
            let status = self.status(run).await?;
            if status.is_none_or(|status| status.version > since) || wait.is_over() {
                return Ok(status);
            }
            wait.next(hint).await;
        }
    }

    async fn phases(&self, run: RunId) -> Result<Option<Vec<Phase>>, BackendError> {
        let keys = self.link().keys.run(run);
        let (is_there, states): (bool, Vec<u8>) = redis::pipe()
            .atomic()
            .exists(keys.key("meta"))
            .get(keys.key("st"))
            .query_async(&mut self.link().connection())
            .await
            .map_err(refused("phases"))?;
        let phases = || states.iter().map(|state| phase(*state)).collect::<Option<Vec<Phase>>>();
        if !is_there {
            return Ok(None);
        }
        phases().map(Some).ok_or_else(|| corrupt("phases", run))
    }

    async fn list(&self, before: Option<RunId>, max: usize) -> Result<Vec<RunId>, BackendError> {
        let from = before.map_or_else(|| "+".to_owned(), |run| format!("({run}"));
        let runs: Vec<String> = redis::cmd("ZREVRANGEBYLEX")
            .arg(self.link().keys.runs())
            .arg(from)
            .arg("-")
            .arg("LIMIT")
            .arg(0)
            .arg(max)
            .query_async(&mut self.link().connection())
            .await
            .map_err(refused("list"))?;
        runs.iter().map(|run| run.parse().map_err(|error| corrupt("list", error))).collect()
    }

    async fn forget(&self, run: RunId) -> Result<bool, BackendError> {
        self.plans().remove(run);
        let keys = self.link().keys.run(run);
        self.link()
            .run("forget", &FORGET, |script| {
                for what in ["meta", "plan", "st", "graph", "counts", "attempts", "out", "closed"] {
                    script.key(keys.key(what));
                }
                script.key(self.link().keys.owing()).key(self.link().keys.runs());
                script.arg(run.to_string()).arg(keys.channel());
            })
            .await
    }
}

/// What the settle script answers.
enum Answer {
    Unknown,
    /// The run's id was taken by another run.
    AnotherRun,
    Settled(SettledSlice),
}

#[derive(Default)]
struct SettledSlice {
    settled: Settled,
    owed: usize,
    repair: bool,
}

impl RedisBackend {
    /// The incarnation of a run and its plan.
    pub(crate) async fn wiring(
        &self,
        run: RunId,
        operation: &'static str,
    ) -> Result<Option<(Arc<str>, Arc<Wiring>)>, BackendError> {
        let keys = self.link().keys.run(run);
        let mut connection = self.link().connection();
        let id: Option<String> = connection.hget(keys.key("meta"), "id").await.map_err(refused(operation))?;
        let Some(id) = id else { return Ok(None) };
        if let Some(known) = self.plans().find(run).filter(|known| *known.0 == *id) {
            return Ok(Some(known));
        }
        let (id, bytes): (Option<String>, Option<Vec<u8>>) = redis::pipe()
            .atomic()
            .hget(keys.key("meta"), "id")
            .get(keys.key("plan"))
            .query_async(&mut connection)
            .await
            .map_err(refused(operation))?;
        let Some(id) = id else { return Ok(None) };
        let broken = || corrupt(operation, format!("the plan of {run}"));
        let plan = Plan::decode(&bytes.ok_or_else(broken)?).map_err(|error| broken().source(error))?;
        let known = (Arc::<str>::from(id), Arc::new(Wiring::new(Arc::new(plan))));
        self.plans().insert(run, known.0.clone(), known.1.clone());
        Ok(Some(known))
    }

    async fn settle_run(
        &self,
        run: RunId,
        completions: Vec<Completion>,
    ) -> Result<Option<Settled>, BackendError> {
        let mut whole = SettledSlice::default();
        // At least one slice: also an empty batch answers whether the run is known.
        for place in 0..completions.len().div_ceil(SLICE).max(1) {
            let slice = completions.chunks(SLICE).nth(place).unwrap_or_default();
            let Some(part) = self.settle_slice(run, slice).await? else { return Ok(None) };
            whole.settled.verdicts.extend(part.settled.verdicts);
            whole.settled.released.extend(part.settled.released);
            whole.settled.decided |= part.settled.decided;
            whole.settled.ended = part.settled.ended;
            whole.repair |= part.repair;
            whole.owed = part.owed;
        }
        let mut settled = whole.settled;
        if whole.repair && whole.owed > settled.released.len() {
            settled.released = self.outbox(run).await?;
        }
        settled.released.sort_unstable();
        Ok(Some(settled))
    }

    async fn settle_slice(
        &self,
        run: RunId,
        slice: &[Completion],
    ) -> Result<Option<SettledSlice>, BackendError> {
        let mut known = self.plans().find(run);
        for _ in 0..INCARNATIONS_MAX {
            let (incarnation, wiring) = match known.take() {
                Some(known) => known,
                None => match self.wiring(run, "settle").await? {
                    Some(known) => known,
                    None => return Ok(None),
                },
            };
            match self.settle_as(run, &incarnation, &wiring, slice).await? {
                Answer::Unknown => {
                    self.plans().remove(run);
                    return Ok(None);
                }
                Answer::AnotherRun => self.plans().remove(run),
                Answer::Settled(settled) => return Ok(Some(settled)),
            }
        }
        Err(BackendError::new(ErrorKind::Unavailable, "settle").context(run))
    }

    async fn settle_as(
        &self,
        run: RunId,
        incarnation: &str,
        wiring: &Wiring,
        slice: &[Completion],
    ) -> Result<Answer, BackendError> {
        let keys = self.link().keys.run(run);
        let written: Vec<Vec<u32>> = slice.iter().map(|completion| wiring.completion(completion)).collect();
        let reply: redis::Value = self
            .link()
            .run("settle", &SETTLE, |script| {
                for what in ["meta", "st", "counts", "attempts", "out", "closed", "graph"] {
                    script.key(keys.key(what));
                }
                script.key(self.link().keys.owing());
                script.arg(run.to_string()).arg(incarnation).arg(keys.channel());
                script.arg(rmp_serde::to_vec(&written).expect("numbers have a MessagePack form"));
                for completion in slice {
                    script.arg(encode(&completion.outcome));
                }
            })
            .await?;
        match reply {
            redis::Value::Nil => Ok(Answer::Unknown),
            redis::Value::Int(_) => Ok(Answer::AnotherRun),
            reply => read(reply).map(Answer::Settled),
        }
    }

    async fn dispatch_slice(&self, run: RunId, leaves: &[Dispatch]) -> Result<usize, BackendError> {
        let keys = self.link().keys.run(run);
        let mut queues: Vec<&str> = Vec::new();
        let mut written: Vec<u32> = Vec::with_capacity(3 * leaves.len());
        for Dispatch { release, queue, .. } in leaves {
            let place = queues.iter().position(|name| **name == **queue).unwrap_or_else(|| {
                queues.push(queue);
                queues.len() - 1
            });
            written.extend([release.node.number(), release.attempt, place as u32 + 1]);
        }
        let pack = "numbers and names have a MessagePack form";
        self.link()
            .run("dispatch", &DISPATCH, |script| {
                for what in ["meta", "st", "attempts"] {
                    script.key(keys.key(what));
                }
                script.key(self.link().keys.owing()).key(self.link().keys.queues());
                for name in &queues {
                    script.key(self.link().keys.queue(name).stream);
                }
                script.arg(run.to_string());
                script.arg(rmp_serde::to_vec(&written).expect(pack));
                script.arg(rmp_serde::to_vec(&queues).expect(pack));
                for leaf in leaves {
                    let message = rmp_serde::to_vec(&*leaf.message);
                    script.arg(message.expect("a message has a MessagePack form"));
                }
            })
            .await
    }
}

/// Some fields of a hash.
async fn fields<T: redis::FromRedisValue>(
    connection: &mut impl redis::aio::ConnectionLike,
    key: String,
    fields: &[u32],
) -> redis::RedisResult<Vec<Option<T>>> {
    redis::cmd("HMGET").arg(key).arg(fields).query_async(connection).await
}

fn read(reply: redis::Value) -> Result<SettledSlice, BackendError> {
    type Reply = (String, Vec<u32>, Vec<u32>, usize, bool, bool, bool);
    let (verdicts, ranges, retried, owed, decided, ended, repair): Reply =
        redis::from_redis_value(reply).map_err(|error| corrupt("settle", error))?;
    let verdict = |letter: char| match letter {
        'A' => Ok(Verdict::Accepted),
        'Y' => Ok(Verdict::Retried),
        'D' => Ok(Verdict::Duplicate),
        'O' => Ok(Verdict::Stale),
        'X' => Ok(Verdict::Refused),
        other => Err(corrupt("settle", format!("verdict {other:?}"))),
    };
    let mut released = Vec::new();
    for range in ranges.chunks_exact(2) {
        for node in range[0]..range[0] + range[1] {
            released.push(Release { node: node_no("settle", node)?, attempt: 1 });
        }
    }
    for pair in retried.chunks_exact(2) {
        released.push(Release { node: node_no("settle", pair[0])?, attempt: pair[1] });
    }
    let verdicts = verdicts.chars().map(verdict).collect::<Result<_, _>>()?;
    Ok(SettledSlice { settled: Settled { verdicts, released, decided, ended }, owed, repair })
}

fn node_no(operation: &'static str, number: u32) -> Result<NodeNo, BackendError> {
    NodeNo::new(number).ok_or_else(|| corrupt(operation, "a node with number 0"))
}

/// A node's phase as it is stored.
pub(crate) fn phase_byte(phase: Phase) -> u8 {
    match phase {
        Phase::Waiting => b'W',
        Phase::Released => b'R',
        Phase::Dispatched => b'D',
        Phase::Succeeded => b'S',
        Phase::Failed => b'F',
    }
}

fn phase(byte: u8) -> Option<Phase> {
    let all = [Phase::Waiting, Phase::Released, Phase::Dispatched, Phase::Succeeded, Phase::Failed];
    all.into_iter().find(|phase| phase_byte(*phase) == byte)
}
