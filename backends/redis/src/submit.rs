//! Submitting a run: all of it becomes visible in one step.
//!
//! A small run is one script. The parts of a large one are staged before, a slice at a time, under names that nobody
//! reads and that expire; the last step gives them their own names. A client that dies halfway leaves nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use celeriac_backends::{BackendError, ErrorKind, NewRun, Submitted};
use celeriac_engine::advance::Phase;
use celeriac_engine::{Plan, RunState};
use celeriac_primitives::NodeNo;
use redis::Pipeline;

use crate::RedisBackend;
use crate::error::refused;
use crate::plans::Wiring;
use crate::scripts::{SLICE, SUBMIT};
use crate::store::phase_byte;

/// A run whose parts are larger is staged.
const INLINE_BYTES: usize = 256 * 1024;

/// A piece of a plan is not larger.
const PIECE_BYTES: usize = 512 * 1024;

/// Staged parts are dropped when their client has not come to the end within this time.
const STAGED_SECONDS: u64 = 60 * 60;

/// A run as it is stored first.
struct Parts {
    plan: Vec<u8>,
    states: Vec<u8>,
    graph: Vec<(String, Vec<u8>)>,
    counts: Vec<(String, Vec<u8>)>,
    open: u32,
    owed: u32,
    left: u32,
}

impl Parts {
    fn new(wiring: &Wiring) -> Self {
        let plan: &Plan = &wiring.plan;
        let (state, _) = RunState::start(plan);
        let phases: Vec<Phase> = state.phases().collect();
        let is_done =
            |(i, phase): (usize, &Phase)| (*phase == Phase::Succeeded).then(|| NodeNo::from_index(i));
        let done: Vec<NodeNo> = phases.iter().enumerate().filter_map(is_done).collect();
        let left = plan.outputs().iter().filter(|node| phases[node.index()] != Phase::Succeeded).count();
        let write = |(name, nodes): (String, Vec<u32>)| {
            (name, rmp_serde::to_vec(&nodes).expect("numbers have a MessagePack form"))
        };
        let counts = wiring.counts(done.into_iter()).into_iter();
        Self {
            plan: plan.encode(),
            states: phases.into_iter().map(phase_byte).collect(),
            graph: wiring.graph().map(write).collect(),
            counts: counts.map(|(node, seen)| (node.to_string(), seen.to_string().into_bytes())).collect(),
            open: state.open(),
            owed: state.owed(),
            left: left as u32,
        }
    }

    fn is_small(&self) -> bool {
        let bytes: usize = self.graph.iter().map(|(name, nodes)| name.len() + nodes.len()).sum();
        self.plan.len() + bytes <= INLINE_BYTES && self.graph.len() + self.counts.len() <= SLICE
    }
}

impl RedisBackend {
    pub(crate) async fn submit_run(&self, new: NewRun) -> Result<Submitted, BackendError> {
        if let Some(answer) = self.compare(&new).await? {
            return answer;
        }
        let wiring = Wiring::new(new.plan.clone());
        let parts = Parts::new(&wiring);
        let incarnation: Arc<str> = unique().into();
        let keys = self.link().keys.run(new.id);
        let staged = ["plan", "graph", "counts"].map(|what| keys.key(&format!("stage:{incarnation}:{what}")));
        let inline = parts.is_small();
        if !inline {
            self.stage(&staged, &parts).await?;
        }
        let answer: String = self
            .link()
            .run("submit", &SUBMIT, |script| {
                for what in ["meta", "plan", "st", "graph", "counts", "attempts", "out", "closed"] {
                    script.key(keys.key(what));
                }
                script.key(&staged[..]).key(self.link().keys.events().stream).key(self.link().keys.owing());
                script.key(self.link().keys.runs());
                script.arg(new.id.to_string()).arg(&*incarnation).arg(new.plan.len());
                script.arg(parts.open).arg(parts.owed).arg(parts.left).arg(&parts.states);
                script.arg(parts.plan.len()).arg(parts.graph.len()).arg(parts.counts.len());
                if inline {
                    script.arg(&parts.plan);
                    for (name, value) in parts.graph.iter().chain(&parts.counts) {
                        script.arg(name).arg(value);
                    }
                } else {
                    script.arg("");
                }
                script.arg(new.plan.expected());
            })
            .await?;
        match answer.as_str() {
            "ACCEPTED" => {
                self.plans().insert(new.id, incarnation, Arc::new(wiring));
                Ok(Submitted::Accepted)
            }
            // Somebody else took the id meanwhile; or took and forgot it, and the caller may try again.
            "EXISTING" => self.compare(&new).await?.unwrap_or_else(|| Err(try_again(&new))),
            _ => Err(try_again(&new)),
        }
    }

    /// What a run that is there already means for this one; `None` when there is none.
    async fn compare(&self, new: &NewRun) -> Result<Option<Result<Submitted, BackendError>>, BackendError> {
        let known = self.wiring(new.id, "submit").await?;
        Ok(known.map(|(_, known)| {
            if *known.plan == *new.plan {
                Ok(Submitted::Existing)
            } else {
                Err(BackendError::new(ErrorKind::Conflict, "submit").context(new.id))
            }
        }))
    }

    async fn stage(&self, [plan, graph, counts]: &[String; 3], parts: &Parts) -> Result<(), BackendError> {
        for piece in parts.plan.chunks(PIECE_BYTES) {
            self.send(redis::pipe().append(plan, piece).ignore().expire(plan, STAGED_SECONDS as i64)).await?;
        }
        for (key, fields) in [(graph, &parts.graph), (counts, &parts.counts)] {
            for slice in fields.chunks(SLICE) {
                let mut pipe = redis::pipe();
                self.send(pipe.hset_multiple(key, slice).ignore().expire(key, STAGED_SECONDS as i64)).await?;
            }
        }
        Ok(())
    }

    /// Sends a piece and its expiry as one transaction: a piece without one would stay for ever.
    async fn send(&self, pipe: &mut Pipeline) -> Result<(), BackendError> {
        pipe.atomic().query_async(&mut self.link().connection()).await.map_err(refused("submit"))
    }
}

fn try_again(new: &NewRun) -> BackendError {
    BackendError::new(ErrorKind::Unavailable, "submit").context(new.id)
}

/// A name that no other submission has: 128 bits from the system's randomness.
fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
