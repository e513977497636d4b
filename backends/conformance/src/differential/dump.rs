//! All that a backend says of a run, in a form that is the same on every backend.

use std::collections::BTreeMap;

use celeriac_backends::{Backend, BackendError, Known, RunStatus};
use celeriac_engine::advance::Phase;
use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_engine::{Plan, Release, RunOutcome, RunState};
use celeriac_primitives::{NodeNo, Outcome, RunRef};

/// A run as a backend shows it.
#[derive(Debug, PartialEq)]
pub(super) struct Dump {
    status: Standing,
    phases: Vec<Phase>,
    outbox: Vec<Release>,
    ended: Ended,
}

/// A status without its version: versions only tell that something has changed, and one step may count as several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    outcome: RunOutcome,
    open: u32,
    done: u32,
    expected: u32,
}

/// What is known, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ended {
    outcomes: BTreeMap<NodeNo, Outcome>,
    closed: BTreeMap<ScopeNo, NodeNo>,
}

impl Dump {
    /// What a backend says of a run, asked for these nodes and all scopes of the plan, and the version of its status;
    /// `None` when it does not know the run.
    pub(super) async fn take(
        backend: &dyn Backend,
        (run, plan): (RunRef, &Plan),
        nodes: &[NodeNo],
    ) -> Result<Option<(Dump, u64)>, BackendError> {
        let scopes: Vec<ScopeNo> = plan.scopes().map(|(scope, _)| scope).collect();
        // At once: a backend behind a wire then answers in one round trip.
        let (status, phases, outbox, known) = futures::try_join!(
            backend.status(run.id),
            backend.phases(run),
            backend.outbox(run),
            backend.known(run, nodes, &scopes),
        )?;
        let status = status.filter(|status| status.incarnation == run.incarnation);
        let (Some(status), Some(phases), Some(known)) = (status, phases, known) else { return Ok(None) };
        let version = status.version;
        Ok(Some((Dump { status: standing(status), phases, outbox, ended: Ended::new(known) }, version)))
    }

    /// What the engine says.
    pub(super) fn of(plan: &Plan, state: &RunState, nodes: &[NodeNo]) -> Dump {
        let mut known = Known::default();
        let mut add = |node: NodeNo| {
            known.outcomes.extend(state.outcome_of(node).map(|outcome| (node, outcome.clone())));
        };
        nodes.iter().copied().for_each(&mut add);
        let closed = |(scope, _)| state.closed_by(scope).map(|node| (scope, node));
        let closed: Vec<_> = plan.scopes().filter_map(closed).collect();
        closed.iter().for_each(|(_, node)| add(*node));
        known.closed.extend(closed);
        Dump {
            status: Standing {
                outcome: state.outcome(),
                open: state.open(),
                done: state.done(),
                expected: plan.expected(),
            },
            phases: state.phases().collect(),
            outbox: state.outbox().collect(),
            ended: Ended::new(known),
        }
    }
}

impl Ended {
    pub(super) fn new(known: Known) -> Self {
        Self { outcomes: known.outcomes.into_iter().collect(), closed: known.closed.into_iter().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.closed.is_empty()
    }
}

pub(super) fn standing(status: RunStatus) -> Standing {
    let RunStatus { outcome, open, done, expected, .. } = status;
    Standing { outcome, open, done, expected }
}
