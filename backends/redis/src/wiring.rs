//! Plans as the scripts take them.
//!
//! The store in Redis knows no plans, only whom a node counts down. What a leaf counts down travels with its
//! completion, or is stored with a very small run; what a join counts down was written at submit, since many nodes
//! lead there.

use celeriac_engine::Plan;
use celeriac_engine::plan::ScopeNo;
use celeriac_primitives::{Completion, NodeNo, TaskState};
use serde::Serialize;

/// A completion as the settle script takes it: node, attempt, kind, and when the plan is known whether it is an output
/// and who waits.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Written {
    Bare(u32, u32, u8),
    Success(u32, u32, u8, u8, Vec<u32>),
    Failure(u32, u32, u8, u8, Vec<ScopePart>),
}

/// A scope on the way of a failure: number, whether the failure goes on, who waits for it.
pub(crate) type ScopePart = (u32, u8, Vec<u32>);

/// A leaf: whether it is an output, who waits for its success, and the scopes that its failure may close.
pub(crate) type LeafPart = (u8, Vec<u32>, Vec<ScopePart>);

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const RETRY: u8 = 2;
const NO_LEAF: u8 = 3;
const REPLACE: u8 = 4;

/// A completion without what a plan says.
pub(crate) fn bare(completion: &Completion) -> Written {
    let kind = match completion.outcome.state() {
        TaskState::Success => SUCCESS,
        TaskState::Retry => RETRY,
        TaskState::Started => REPLACE,
        _ => FAILURE,
    };
    Written::Bare(completion.task_id.node().number(), completion.attempt, kind)
}

/// A completion with what the plan says of it.
pub(crate) fn wired(plan: &Plan, completion: &Completion) -> Written {
    let (number, node) = (completion.task_id.node().number(), completion.task_id.node());
    if plan.leaf(node).is_none() {
        return Written::Bare(number, completion.attempt, NO_LEAF);
    }
    let is_output = u8::from(plan.is_output(node));
    match completion.outcome.state() {
        TaskState::Success => {
            Written::Success(number, completion.attempt, SUCCESS, is_output, successors(plan, node))
        }
        TaskState::Retry => Written::Bare(number, completion.attempt, RETRY),
        TaskState::Started => Written::Bare(number, completion.attempt, REPLACE),
        _ => Written::Failure(number, completion.attempt, FAILURE, is_output, scopes(plan, node)),
    }
}

/// What every leaf of a very small plan counts down: `None` for joins.
pub(crate) fn whole(plan: &Plan) -> Vec<Option<LeafPart>> {
    let leaf = |node: NodeNo| {
        plan.leaf(node)?;
        Some((u8::from(plan.is_output(node)), successors(plan, node), scopes(plan, node)))
    };
    plan.nodes().map(|(node, _)| leaf(node)).collect()
}

/// What joins count down, with the names of their fields.
pub(crate) fn joins(plan: &Plan) -> impl Iterator<Item = (String, Vec<u32>)> {
    let joins = plan.nodes().map(|(node, _)| node).filter(|node| plan.leaf(*node).is_none());
    joins.map(|node| {
        let mut written = vec![u32::from(plan.is_output(node))];
        written.extend(successors(plan, node));
        (format!("j{node}"), written)
    })
}

/// The nodes that count one predecessor less when the run starts, because joins without predecessors have succeeded,
/// and how many less.
pub(crate) fn counts(plan: &Plan, succeeded: impl Iterator<Item = NodeNo>) -> Vec<(NodeNo, u32)> {
    let mut nodes: Vec<NodeNo> =
        succeeded.flat_map(|node| plan.successors(node).map(|(node, _)| node)).collect();
    nodes.sort_unstable();
    let groups = nodes.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32));
    groups.filter(|(node, seen)| *seen < plan.waits()[node.index()]).collect()
}

fn successors(plan: &Plan, node: NodeNo) -> Vec<u32> {
    counted(plan, plan.successors(node).map(|(node, _)| node).collect())
}

/// The scopes that a node's failure may close, its innermost first.
fn scopes(plan: &Plan, node: NodeNo) -> Vec<ScopePart> {
    let (mut parts, mut next) = (Vec::new(), plan.node(node).map(|node| node.scope));
    while let Some(number) = next {
        let scope = plan.scope(number);
        let goes_on = scope.kind.goes_on();
        next = goes_on.then_some(scope.parent);
        parts.push((number_of(number), u8::from(goes_on), counted(plan, plan.gated(number).to_vec())));
    }
    parts
}

fn number_of(scope: ScopeNo) -> u32 {
    scope.index() as u32
}

/// Nodes as scripts take them: first, how many, counter, is join; neighbours of one kind are written together.
fn counted(plan: &Plan, mut nodes: Vec<NodeNo>) -> Vec<u32> {
    nodes.sort_unstable();
    let kind = |node: NodeNo| (plan.waits()[node.index()], u32::from(plan.leaf(node).is_none()));
    let neighbours =
        |a: &NodeNo, b: &NodeNo| b.index() == a.index() + 1 && kind(*a) == kind(*b) && kind(*a).1 == 0;
    let write = |same: &[NodeNo]| {
        let (waits, is_join) = kind(same[0]);
        [same[0].number(), same.len() as u32, waits, is_join]
    };
    nodes.chunk_by(neighbours).flat_map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_primitives::{Canvas, Incarnation, Outcome, RunId, Signature};

    fn sigs(count: usize) -> Vec<Canvas> {
        (0..count).map(|_| Signature::new("a").unwrap().into()).collect()
    }

    #[track_caller]
    fn check(canvas: impl Into<Canvas>, index: usize, outcome: Outcome, expect: Written) {
        let plan = Plan::compile(&canvas.into()).unwrap();
        let task_id = RunId::from_parts(1, 2).task(NodeNo::from_index(index));
        assert_eq!(
            wired(&plan, &Completion { task_id, attempt: 1, outcome, incarnation: Incarnation::default() }),
            expect
        );
    }

    #[test]
    fn neighbours_that_are_released_together_are_written_together() {
        let canvas = sigs(1).remove(0).then(Canvas::group(sigs(1000)));
        check(canvas, 0, Outcome::Ignored, Written::Success(1, 1, SUCCESS, 0, vec![2, 1000, 1, 0]));
    }

    #[test]
    fn a_header_task_carries_its_body_alone() {
        let canvas = Canvas::chord(sigs(3), sigs(1).remove(0));
        check(canvas, 1, Outcome::Ignored, Written::Success(2, 1, SUCCESS, 0, vec![4, 1, 3, 0]));
    }

    #[test]
    fn a_failure_carries_its_scopes_and_who_waits_for_them() {
        let mut canvas = sigs(1).remove(0);
        canvas.link_error(sigs(1).remove(0));
        let scopes = vec![(1, 1, vec![2, 1, 1, 0]), (0, 0, vec![])];
        check(canvas, 0, Outcome::Expired, Written::Failure(1, 1, FAILURE, 1, scopes));
    }

    #[test]
    fn what_is_no_leaf_is_marked() {
        check(sigs(1).remove(0), 7, Outcome::Ignored, Written::Bare(8, 1, NO_LEAF));
    }
}
