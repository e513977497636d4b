//! Plans as the scripts take them.
//!
//! The store in Redis knows no plans, only whom a node counts down. What a leaf counts down travels with its
//! completion, or is stored with a very small run; what a join counts down was written at submit, since many
//! nodes lead there.

use celeriac_engine::Plan;
use celeriac_engine::plan::ScopeNo;
use celeriac_primitives::{Completion, NodeNo, TaskState};

const SUCCESS: u32 = 0;
const FAILURE: u32 = 1;
const RETRY: u32 = 2;
const NO_LEAF: u32 = 3;
const REPLACE: u32 = 4;

/// Writes a completion as the settle script takes it: node, attempt, kind, whether it is an output, how many
/// numbers follow, and who waits, when the plan is known.
pub(crate) fn write(numbers: &mut Vec<u32>, plan: Option<&Plan>, completion: &Completion) {
    let node = completion.task_id.node();
    let kind = match completion.outcome.state() {
        TaskState::Success => SUCCESS,
        TaskState::Retry => RETRY,
        TaskState::Started => REPLACE,
        _ => FAILURE,
    };
    numbers.extend([node.number(), completion.attempt]);
    match plan {
        Some(plan) if plan.leaf(node).is_none() => numbers.extend([NO_LEAF, 0, 0]),
        Some(plan) if kind == SUCCESS || kind == FAILURE => {
            numbers.extend([kind, u32::from(plan.is_output(node))]);
            counted(numbers, |numbers| {
                if kind == SUCCESS { successors(numbers, plan, node) } else { scopes(numbers, plan, node) }
            });
        }
        _ => numbers.extend([kind, 0, 0]),
    }
}

/// What every leaf of a very small plan counts down: whether it is an output, how many numbers follow, who
/// waits for its success, and then the scopes that its failure may close. `None` for joins.
pub(crate) fn whole(plan: &Plan) -> Vec<Option<Vec<u32>>> {
    let leaf = |node: NodeNo| {
        plan.leaf(node)?;
        let mut numbers = vec![u32::from(plan.is_output(node))];
        counted(&mut numbers, |numbers| successors(numbers, plan, node));
        scopes(&mut numbers, plan, node);
        Some(numbers)
    };
    plan.nodes().map(|(node, _)| leaf(node)).collect()
}

/// What joins count down, with the names of their fields.
pub(crate) fn joins(plan: &Plan) -> impl Iterator<Item = (String, Vec<u32>)> {
    let joins = plan.nodes().map(|(node, _)| node).filter(|node| plan.leaf(*node).is_none());
    joins.map(|node| {
        let mut numbers = vec![u32::from(plan.is_output(node))];
        successors(&mut numbers, plan, node);
        (format!("j{node}"), numbers)
    })
}

/// The nodes that count one predecessor less when the run starts, because joins without predecessors have
/// succeeded, and how many less.
pub(crate) fn counts(plan: &Plan, succeeded: impl Iterator<Item = NodeNo>) -> Vec<(NodeNo, u32)> {
    let mut nodes: Vec<NodeNo> =
        succeeded.flat_map(|node| plan.successors(node).map(|(node, _)| node)).collect();
    nodes.sort_unstable();
    let groups = nodes.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32));
    groups.filter(|(node, seen)| *seen < plan.waits()[node.index()]).collect()
}

fn successors(numbers: &mut Vec<u32>, plan: &Plan, node: NodeNo) {
    waiting(numbers, plan, plan.successors(node).map(|(node, _)| node).collect());
}

/// The scopes that a node's failure may close, its innermost first: number, how many numbers follow, who
/// waits for it.
fn scopes(numbers: &mut Vec<u32>, plan: &Plan, node: NodeNo) {
    let mut next = plan.node(node).map(|node| node.scope);
    while let Some(number) = next {
        let scope = plan.scope(number);
        next = scope.kind.goes_on().then_some(scope.parent);
        numbers.push(number_of(number));
        counted(numbers, |numbers| waiting(numbers, plan, plan.gated(number).to_vec()));
    }
}

fn number_of(scope: ScopeNo) -> u32 {
    scope.index() as u32
}

/// Writes how many numbers follow, and these.
fn counted(numbers: &mut Vec<u32>, write: impl FnOnce(&mut Vec<u32>)) {
    let place = numbers.len();
    numbers.push(0);
    write(numbers);
    numbers[place] = (numbers.len() - place - 1) as u32;
}

/// Nodes as scripts take them: first, how many, counter, is join; neighbours of one kind are written
/// together.
fn waiting(numbers: &mut Vec<u32>, plan: &Plan, mut nodes: Vec<NodeNo>) {
    nodes.sort_unstable();
    let kind = |node: NodeNo| (plan.waits()[node.index()], u32::from(plan.leaf(node).is_none()));
    let neighbours =
        |a: &NodeNo, b: &NodeNo| b.index() == a.index() + 1 && kind(*a) == kind(*b) && kind(*a).1 == 0;
    for same in nodes.chunk_by(neighbours) {
        let (waits, is_join) = kind(same[0]);
        numbers.extend([same[0].number(), same.len() as u32, waits, is_join]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_primitives::{Canvas, Incarnation, Outcome, RunId, Signature};

    fn sigs(count: usize) -> Vec<Canvas> {
        (0..count).map(|_| Signature::new("a").unwrap().into()).collect()
    }

    #[track_caller]
    fn check(canvas: impl Into<Canvas>, index: usize, outcome: Outcome, expect: &[u32]) {
        let plan = Plan::compile(&canvas.into()).unwrap();
        let task_id = RunId::from_parts(1, 2).task(NodeNo::from_index(index));
        let completion = Completion { task_id, attempt: 1, outcome, incarnation: Incarnation::default() };
        let mut numbers = vec![];
        write(&mut numbers, Some(&plan), &completion);
        assert_eq!(numbers, expect);
        numbers.clear();
        write(&mut numbers, None, &completion);
        assert_eq!((numbers.len(), &numbers[3..]), (5, &[0, 0][..]), "nobody waits, who has no plan");
    }

    #[test]
    fn neighbours_that_are_released_together_are_written_together() {
        let canvas = sigs(1).remove(0).then(Canvas::group(sigs(1000)));
        check(canvas, 0, Outcome::Ignored, &[1, 1, SUCCESS, 0, 4, 2, 1000, 1, 0]);
    }

    #[test]
    fn a_header_task_carries_its_body_alone() {
        let canvas = Canvas::chord(sigs(3), sigs(1).remove(0));
        check(canvas, 1, Outcome::Ignored, &[2, 1, SUCCESS, 0, 4, 4, 1, 3, 0]);
    }

    #[test]
    fn a_failure_carries_its_scopes_and_who_waits_for_them() {
        let mut canvas = sigs(1).remove(0);
        canvas.link_error(sigs(1).remove(0));
        check(canvas, 0, Outcome::Expired, &[1, 1, FAILURE, 1, 8, 1, 4, 2, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_leaf_is_marked() {
        check(sigs(1).remove(0), 7, Outcome::Ignored, &[8, 1, NO_LEAF, 0, 0]);
    }

    #[test]
    fn a_very_small_plan_is_written_whole() {
        let mut canvas = sigs(1).remove(0);
        canvas.link_error(sigs(1).remove(0));
        let plan = Plan::compile(&canvas.then(sigs(1).remove(0))).unwrap();
        let leaves = whole(&plan);
        assert!(leaves.iter().all(Option::is_some), "{leaves:?}");
        for (index, leaf) in leaves.into_iter().flatten().enumerate() {
            let node = NodeNo::from_index(index);
            let task_id = RunId::from_parts(1, 2).task(node);
            for (outcome, part) in [
                (Outcome::Ignored, &leaf[2..2 + leaf[1] as usize]),
                (Outcome::Expired, &leaf[2 + leaf[1] as usize..]),
            ] {
                let completion =
                    Completion { task_id, attempt: 1, outcome, incarnation: Incarnation::default() };
                let mut numbers = vec![];
                write(&mut numbers, Some(&plan), &completion);
                assert_eq!((leaf[0], part), (numbers[3], &numbers[5..]));
            }
        }
    }
}
