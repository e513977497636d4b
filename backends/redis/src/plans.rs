//! Plans as the scripts take them, and a cache of plans.
//!
//! The store in Redis knows no plans, only whom a node counts down. What a leaf counts down travels with its
//! completion; what a join or a closed scope counts down was written at submit, since many nodes lead there.

use std::sync::Arc;

use celeriac_engine::Plan;
use celeriac_engine::plan::ScopeKind;
use celeriac_primitives::{Completion, NodeNo, RunId, TaskState};
use dashmap::DashMap;

/// Plans are dropped from the cache, all at once, when it holds this many.
const PLANS_MAX: usize = 1024;

/// The plans of some runs, each with the incarnation of its run: an id may be forgotten and taken again.
#[derive(Debug, Default)]
pub(crate) struct Plans(DashMap<RunId, (Arc<str>, Arc<Wiring>)>);

/// A plan, and what is asked of it often.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) plan: Arc<Plan>,
    is_output: Vec<bool>,
}

impl Plans {
    pub(crate) fn find(&self, run: RunId) -> Option<(Arc<str>, Arc<Wiring>)> {
        self.0.get(&run).map(|entry| entry.value().clone())
    }

    pub(crate) fn insert(&self, run: RunId, incarnation: Arc<str>, wiring: Arc<Wiring>) {
        if self.0.len() >= PLANS_MAX {
            self.0.clear();
        }
        self.0.insert(run, (incarnation, wiring));
    }

    pub(crate) fn remove(&self, run: RunId) {
        self.0.remove(&run);
    }
}

impl Wiring {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let mut is_output = vec![false; plan.len()];
        plan.outputs().iter().for_each(|node| is_output[node.index()] = true);
        Self { plan, is_output }
    }

    /// A completion as the settle script takes it.
    pub(crate) fn completion(&self, completion: &Completion) -> Vec<u32> {
        let node = completion.task_id.node();
        if self.plan.leaf(node).is_none() {
            return vec![node.number(), completion.attempt, 3];
        }
        let kind = match completion.outcome.state() {
            TaskState::Success => 0,
            TaskState::Retry => 2,
            _ => 1,
        };
        let scope = self.plan.node(node).map_or(0, |node| node.scope.index());
        let is_output = u32::from(self.is_output[node.index()]);
        let mut written = vec![node.number(), completion.attempt, kind, is_output, scope as u32];
        if kind == 0 {
            written.extend(self.counted(self.plan.successors(node).map(|(node, _)| node)));
        }
        written
    }

    /// What a join or a closed scope counts down, with the name of its field.
    pub(crate) fn graph(&self) -> impl Iterator<Item = (String, Vec<u32>)> {
        let joins = self.plan.nodes().map(|(node, _)| node).filter(|node| self.plan.leaf(*node).is_none());
        let joins = joins.map(|node| {
            let mut written = vec![u32::from(self.is_output[node.index()])];
            written.extend(self.counted(self.plan.successors(node).map(|(node, _)| node)));
            (format!("j{node}"), written)
        });
        let scopes = self.plan.scopes().map(|(number, scope)| {
            let goes_on = u32::from(scope.kind == ScopeKind::Errback);
            let mut written = vec![goes_on, scope.parent.index() as u32];
            written.extend(self.counted(self.plan.gated(number).iter().copied()));
            (format!("s{}", number.index()), written)
        });
        joins.chain(scopes)
    }

    /// The nodes of these that count one predecessor less when the run starts, because joins without predecessors
    /// have succeeded, and how many less.
    pub(crate) fn counts(&self, succeeded: impl Iterator<Item = NodeNo>) -> Vec<(NodeNo, u32)> {
        let mut nodes: Vec<NodeNo> =
            succeeded.flat_map(|node| self.plan.successors(node).map(|(node, _)| node)).collect();
        nodes.sort_unstable();
        let groups = nodes.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32));
        groups.filter(|(node, seen)| *seen < self.plan.waits()[node.index()]).collect()
    }

    /// Nodes as scripts take them: first, how many, counter, is join; neighbours of one kind are written together.
    fn counted(&self, nodes: impl Iterator<Item = NodeNo>) -> Vec<u32> {
        let mut nodes: Vec<NodeNo> = nodes.collect();
        nodes.sort_unstable();
        let kind =
            |node: NodeNo| (self.plan.waits()[node.index()], u32::from(self.plan.leaf(node).is_none()));
        let neighbours =
            |a: &NodeNo, b: &NodeNo| b.index() == a.index() + 1 && kind(*a) == kind(*b) && kind(*a).1 == 0;
        let write = |same: &[NodeNo]| {
            let (waits, is_join) = kind(same[0]);
            [same[0].number(), same.len() as u32, waits, is_join]
        };
        nodes.chunk_by(neighbours).flat_map(write).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_primitives::{Canvas, Outcome, Signature};

    fn sigs(count: usize) -> Vec<Canvas> {
        (0..count).map(|_| Signature::new("a").unwrap().into()).collect()
    }

    #[track_caller]
    fn check(canvas: impl Into<Canvas>, index: usize, expect: &[u32]) {
        let wiring = Wiring::new(Arc::new(Plan::compile(&canvas.into()).unwrap()));
        let task_id = RunId::from_parts(1, 2).task(NodeNo::from_index(index));
        let done = Completion { task_id, attempt: 1, outcome: Outcome::Ignored };
        assert_eq!(wiring.completion(&done), expect);
    }

    #[test]
    fn neighbours_that_are_released_together_are_written_together() {
        check(sigs(1).remove(0).then(Canvas::group(sigs(1000))), 0, &[1, 1, 0, 0, 0, 2, 1000, 1, 0]);
    }

    #[test]
    fn a_header_task_carries_its_body_alone() {
        check(Canvas::chord(sigs(3), sigs(1).remove(0)), 1, &[2, 1, 0, 0, 0, 4, 1, 3, 0]);
    }

    #[test]
    fn what_is_no_leaf_is_marked() {
        check(sigs(1).remove(0), 7, &[8, 1, 3]);
    }
}
