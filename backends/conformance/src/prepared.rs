//! Leaves composed in advance from completions at hand, as a coordinator does it.

use std::collections::HashMap;

use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_engine::{Plan, Release};
use celeriac_primitives::{Completion, NodeNo, Outcome, TaskState};

/// The leaves that wait for one of these completions and for nothing else.
pub(crate) fn prepared(plan: &Plan, completions: &[Completion]) -> Vec<Release> {
    let results = AtHand::new(completions);
    let mut releases = Vec::new();
    for Completion { task_id, outcome, .. } in completions {
        let node = task_id.node();
        let is_success = outcome.state() == TaskState::Success && plan.leaf(node).is_some();
        if !is_success || results.outcome(node).is_none() {
            continue;
        }
        let waits_for_it = |node: &NodeNo| plan.waits()[node.index()] == 1 && plan.leaf(*node).is_some();
        let successors = plan.successors(node).map(|(node, _)| node).filter(waits_for_it);
        releases.extend(successors.map(|node| Release { node, attempt: 1 }));
    }
    releases
}

/// The outcomes of some completions; of several of one leaf none, since only the store knows which counts.
pub(crate) struct AtHand<'c>(HashMap<NodeNo, Option<&'c Outcome>>);

impl<'c> AtHand<'c> {
    pub(crate) fn new(completions: &'c [Completion]) -> Self {
        let mut outcomes: HashMap<NodeNo, Option<&Outcome>> = HashMap::new();
        for Completion { task_id, outcome, .. } in completions {
            outcomes.entry(task_id.node()).and_modify(|known| *known = None).or_insert(Some(outcome));
        }
        Self(outcomes)
    }
}

impl Results for AtHand<'_> {
    fn outcome(&self, node: NodeNo) -> Option<&Outcome> {
        self.0.get(&node).copied().flatten()
    }

    fn closed_by(&self, _: ScopeNo) -> Option<NodeNo> {
        None
    }
}
