//! Slots of a Cluster that move while everything is killed: those of the queue, of `{events}`, and of
//! runs.

use std::time::{Duration, Instant};

use celeriac_conformance::random::Rng;
use celeriac_testkit::{Cluster, Server};
use redis::RedisResult;

/// Between two moves.
const REST: Duration = Duration::from_millis(1500);

/// After an error another attempt is made so soon: nodes that were just started do not know yet who
/// has what.
const AGAIN: Duration = Duration::from_millis(250);

/// One slot after the other.
#[derive(Debug)]
pub(crate) struct Mover {
    rng: Rng,
    now: Option<Move>,
    next: Instant,
    /// How many have moved.
    pub(crate) moved: usize,
}

/// A slot between two nodes, by their places.
#[derive(Clone, Copy, Debug)]
struct Move {
    slot: u16,
    from: usize,
    to: usize,
    is_half_way: bool,
}

impl Mover {
    pub(crate) fn new(seed: u64) -> Self {
        let next = Instant::now() + REST;
        Self { rng: Rng::new(seed ^ 0x510_7510), now: None, next, moved: 0 }
    }

    /// The nodes between which a slot is.
    pub(crate) fn nodes(&self) -> Option<[usize; 2]> {
        self.now.map(|Move { from, to, .. }| [from, to])
    }

    /// No more rests: what is half way is to arrive.
    pub(crate) fn hurry(&mut self) {
        self.next = Instant::now();
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, cluster: &Cluster, may_begin: bool) {
        if Instant::now() < self.next {
            return;
        }
        let step = match self.now {
            None if !may_begin => return,
            None => self.begin(cluster),
            Some(Move { is_half_way: false, .. }) => self.go_half_way(cluster),
            Some(to_finish) => self.finish(cluster, to_finish),
        };
        self.next = Instant::now() + step.unwrap_or(AGAIN);
    }

    fn begin(&mut self, cluster: &Cluster) -> RedisResult<Duration> {
        let masters = cluster.masters();
        let node = masters[self.rng.below(masters.len() as u32) as usize];
        let key = match self.rng.below(3) {
            0 => "celeriac:{q:celery}:stream".to_owned(),
            1 => "celeriac:{events}:stream".to_owned(),
            _ => {
                let runs = node.keys("celeriac:{*-*}:run");
                let run = runs.get(self.rng.below(runs.len() as u32) as usize);
                run.cloned().unwrap_or_else(|| "celeriac:{events}:stream".to_owned())
            }
        };
        let from = cluster.node_of(&key);
        let others: Vec<&&Server> = masters.iter().filter(|node| node.port() != from.port()).collect();
        let to = others[self.rng.below(others.len() as u32) as usize];
        let place = |node: &Server| {
            let place = cluster.nodes().iter().position(|known| known.port() == node.port());
            place.expect("it is one of the nodes")
        };
        let slot = cluster.slot_of(&key);
        self.now = Some(Move { slot, from: place(from), to: place(to), is_half_way: false });
        self.go_half_way(cluster)
    }

    /// Every other key: what needs several has to wait, and what needs one is sent on.
    fn go_half_way(&mut self, cluster: &Cluster) -> RedisResult<Duration> {
        let Some(half) = &mut self.now else { return Ok(REST) };
        let moving = cluster.begin_to_move(half.slot, &cluster.nodes()[half.to])?;
        let some: Vec<String> = moving.keys()?.into_iter().step_by(2).collect();
        moving.migrate(&some)?;
        half.is_half_way = true;
        Ok(Duration::from_millis(u64::from(50 + self.rng.below(600))))
    }

    fn finish(&mut self, cluster: &Cluster, Move { slot, to, .. }: Move) -> RedisResult<Duration> {
        cluster.begin_to_move(slot, &cluster.nodes()[to])?.finish()?;
        self.now = None;
        self.moved += 1;
        Ok(REST)
    }
}
