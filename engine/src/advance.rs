//! Advancing a run: completions in, released nodes out.
//!
//! [`RunState::settle`] is the one transition. What a completion does depends on the phase of its node:
//!
//! | phase of the node      | success                        | failure                | retry                   | replace        |
//! |------------------------|--------------------------------|------------------------|-------------------------|----------------|
//! | waiting                | refused                        | refused                | refused                 | refused        |
//! | released, older attempt| stale                          | stale                  | stale                   | stale          |
//! | released, this attempt | → succeeded, successors count  | → failed, scopes close | released, next attempt  | → replaced     |
//! | dispatched, older      | stale                          | stale                  | stale                   | stale          |
//! | dispatched, this one   | → succeeded, successors count  | → failed, scopes close | released, next attempt  | → replaced     |
//! | replaced, older        | stale                          | stale                  | stale                   | stale          |
//! | replaced, this one     | stale                          | stale                  | stale                   | replaced before|
//! | replaced, the next     | → succeeded, successors count  | → failed, scopes close | refused                 | refused        |
//! | succeeded, failed      | duplicate                      | duplicate              | duplicate               | duplicate      |
//!
//! A leaf that was replaced by a canvas, or that waits for canvases which it added (*replace* stands for
//! both), hears of no worker any more: how they ended comes as a report on the next attempt, which no
//! worker has.
//!
//! Refused, stale and duplicate completions change nothing. *Successors count*: the counter of every
//! successor falls by one per edge; at zero a leaf is released and a join succeeds in the same step.
//! *Scopes close*: from the node's innermost scope upwards, each scope not closed yet is closed with the
//! node, and the counters of the nodes that wait for it fall by one: of those gated by it, and of the joins
//! that wait for the end of the part in it, which count that part's success or its failure, whichever
//! comes. A detached scope ends the walk, and so does one that absorbs. Closing the root is the run's
//! failure; the success of the last output is its success.
//!
//! Invariants, which [`RunState::check_invariants`] repeats:
//!
//! - `waits(n)` = the number of edges into `n` from nodes that have not succeeded, but for those from parts whose scope
//!   is closed, plus one for a gate still open
//! - the node that ends a part has not succeeded, or the part's scope is not closed
//! - `n` is waiting ⇔ `waits(n) > 0`; a join is waiting or succeeded, nothing else
//! - `open` = the number of leaves that are released, dispatched or replaced
//! - `outputs_left` = the number of outputs that have not succeeded
//! - a scope that is closed and whose failure goes on has a closed parent
//! - `open = 0` ⇒ the run is decided: it has succeeded or failed

use celeriac_primitives::{Completion, NodeNo, Outcome, TaskState};

use crate::plan::{NodeKind, Plan, Results, ScopeKind, ScopeNo};

/// The state of one run: which nodes have ended and how, and what still counts down.
#[derive(Clone, Debug)]
pub struct RunState {
    nodes: Vec<NodeState>,
    outcomes: Vec<Option<Outcome>>,
    closed: Vec<Option<NodeNo>>,
    open: u32,
    owed: u32,
    done: u32,
    outputs_left: u32,
}

#[derive(Clone, Copy, Debug)]
struct NodeState {
    phase: Phase,
    attempt: u32,
    waits: u32,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waits for predecessors, or for a scope to be closed.
    Waiting,
    /// Released, and not yet in a queue: the run's outbox.
    Released,
    /// In a queue, or with a worker.
    Dispatched,
    /// A canvas runs in its place.
    Replaced,
    /// Ended with a value.
    Succeeded,
    /// Ended without one.
    Failed,
}

/// A leaf that is to be dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The leaf.
    pub node: NodeNo,
    /// Which attempt this will be: 1, 2, 3, …
    pub attempt: u32,
}

/// What became of one completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended its node.
    Accepted,
    /// Its node is released again, for another attempt.
    Retried,
    /// A canvas is to run in the place of its node.
    Replaced,
    /// The same, and it was so before: whoever was to start the canvas may have gone away.
    ReplacedBefore,
    /// Its node had already ended.
    Duplicate,
    /// A later attempt is under way.
    Stale,
    /// Its node was never released, is a join, or does not exist.
    Refused,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Neither all outputs nor a failure yet.
    Undecided,
    /// All outputs have succeeded.
    Succeeded,
    /// This leaf's failure reached the run.
    Failed(NodeNo),
}

/// What a settle step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What became of each completion, in order.
    pub verdicts: Vec<Verdict>,
    /// The leaves to dispatch, by number. After a duplicate or stale completion also those that were
    /// released before and not dispatched: a redelivered completion repairs a crash between release and
    /// dispatch.
    pub released: Vec<Release>,
    /// Whether this step decided the run: its outcome can be read now.
    pub decided: bool,
    /// Whether nothing of the run is left to do.
    pub ended: bool,
}

impl Settled {
    /// Whether a completion was a duplicate or late: then what is owed is handed out again.
    pub fn repairs(&self) -> bool {
        self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Duplicate | Verdict::Stale))
    }

    /// Whether a completion changed the run.
    pub fn changes(&self) -> bool {
        self.verdicts
            .iter()
            .any(|verdict| matches!(verdict, Verdict::Accepted | Verdict::Retried | Verdict::Replaced))
    }
}

impl RunState {
    /// The state in which a run of this plan starts, and the leaves to dispatch first.
    pub fn start(plan: &Plan) -> (RunState, Vec<Release>) {
        let waits = plan.waits();
        let node = |waits: &u32| NodeState { phase: Phase::Waiting, attempt: 1, waits: *waits };
        let mut state = RunState {
            nodes: waits.iter().map(node).collect(),
            outcomes: vec![None; waits.len()],
            closed: vec![None; plan.scopes().len()],
            open: 0,
            owed: 0,
            done: 0,
            outputs_left: plan.outputs().len() as u32,
        };
        let mut step = Step::default();
        for node in plan.starts() {
            state.ready(plan, node, &mut step);
        }
        state.work_off(plan, &mut step);
        step.released.sort_unstable();
        (state, step.released)
    }

    /// Applies completions, in order. They must belong to this run; whose node or attempt does not fit is
    /// refused.
    pub fn settle(&mut self, plan: &Plan, completions: impl IntoIterator<Item = Completion>) -> Settled {
        let undecided = self.outcome() == RunOutcome::Undecided;
        let mut step = Step::default();
        let mut verdicts = Vec::new();
        for completion in completions {
            verdicts.push(self.apply(plan, completion, &mut step));
        }
        let decided = undecided && self.outcome() != RunOutcome::Undecided;
        let mut settled = Settled { verdicts, released: step.released, decided, ended: self.ended() };
        if settled.repairs() && self.owed as usize > settled.released.len() {
            settled.released = self.outbox().collect();
        }
        settled.released.sort_unstable();
        settled
    }

    /// Notes that a released leaf is in its queue. `false` when it is not in the outbox (any more): then it
    /// must not be queued.
    pub fn dispatch(&mut self, release: Release) -> bool {
        match self.nodes.get_mut(release.node.index()) {
            Some(node) if node.phase == Phase::Released && node.attempt == release.attempt => {
                node.phase = Phase::Dispatched;
                self.owed -= 1;
                true
            }
            _ => false,
        }
    }

    /// The leaves that are released and not dispatched, by number.
    pub fn outbox(&self) -> impl Iterator<Item = Release> {
        let released = self.nodes.iter().enumerate().filter(|(_, node)| node.phase == Phase::Released);
        released.map(|(i, node)| Release { node: NodeNo::from_index(i), attempt: node.attempt })
    }

    /// How far a node is; `None` when the plan has no such number.
    pub fn phase(&self, node: NodeNo) -> Option<Phase> {
        self.nodes.get(node.index()).map(|node| node.phase)
    }

    /// The current attempt at a leaf: 1 before the first has started.
    pub fn attempt(&self, node: NodeNo) -> Option<u32> {
        self.nodes.get(node.index()).map(|node| node.attempt)
    }

    /// How the run stands.
    pub fn outcome(&self) -> RunOutcome {
        match self.closed[ScopeNo::ROOT.index()] {
            Some(node) => RunOutcome::Failed(node),
            None if self.outputs_left == 0 => RunOutcome::Succeeded,
            None => RunOutcome::Undecided,
        }
    }

    /// How far each node is, in the order of the plan.
    pub fn phases(&self) -> impl ExactSizeIterator<Item = Phase> {
        self.nodes.iter().map(|node| node.phase)
    }

    /// How a node ended, once it has; until then, how its last attempt did.
    pub fn outcome_of(&self, node: NodeNo) -> Option<&Outcome> {
        self.outcomes.get(node.index())?.as_ref()
    }

    /// How many leaves are released and not dispatched.
    pub fn owed(&self) -> u32 {
        self.owed
    }

    /// How many leaves are released and have not ended.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// How many leaves have ended.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// Whether nothing is left to do, callbacks included.
    pub fn ended(&self) -> bool {
        self.open == 0
    }

    fn apply(&mut self, plan: &Plan, completion: Completion, step: &mut Step) -> Verdict {
        let node = completion.task_id.node();
        let is_leaf = plan.leaf(node).is_some();
        let Some(state) = self.nodes.get_mut(node.index()).filter(|_| is_leaf) else {
            return Verdict::Refused;
        };
        let result = completion.outcome.state();
        let is_last = !matches!(result, TaskState::Retry | TaskState::Started);
        match state.phase {
            Phase::Waiting => return Verdict::Refused,
            Phase::Succeeded | Phase::Failed => return Verdict::Duplicate,
            Phase::Replaced if completion.attempt <= state.attempt => {
                let again = completion.attempt == state.attempt && result == TaskState::Started;
                return if again { Verdict::ReplacedBefore } else { Verdict::Stale };
            }
            Phase::Replaced if completion.attempt == state.attempt + 1 && is_last => {}
            Phase::Replaced => return Verdict::Refused,
            Phase::Released | Phase::Dispatched if completion.attempt < state.attempt => {
                return Verdict::Stale;
            }
            Phase::Released | Phase::Dispatched if completion.attempt > state.attempt => {
                return Verdict::Refused;
            }
            // Released: the leaf was queued, and whoever did so went away before noting it.
            Phase::Released => self.owed -= 1,
            Phase::Dispatched => {}
        }
        if result == TaskState::Started {
            state.phase = Phase::Replaced;
            return Verdict::Replaced;
        }
        if result == TaskState::Retry {
            state.phase = Phase::Released;
            state.attempt += 1;
            self.owed += 1;
            // Of several attempts in one step the last is owed.
            step.released.retain(|release| release.node != node || release.attempt == 1);
            step.released.push(Release { node, attempt: state.attempt });
            // What the next attempt is composed from, and why it is made.
            self.outcomes[node.index()] = Some(completion.outcome);
            return Verdict::Retried;
        }
        self.outcomes[node.index()] = Some(completion.outcome);
        self.open -= 1;
        self.done += 1;
        if result == TaskState::Success {
            step.succeeded.push(node);
        } else {
            state.phase = Phase::Failed;
            self.close_scopes(plan, node, step);
        }
        self.work_off(plan, step);
        Verdict::Accepted
    }

    /// Lets successes count, one after the other: joins add to them on the way.
    fn work_off(&mut self, plan: &Plan, step: &mut Step) {
        while let Some(node) = step.succeeded.pop() {
            self.nodes[node.index()].phase = Phase::Succeeded;
            if plan.is_output(node) {
                self.outputs_left -= 1;
            }
            for (successor, _) in plan.successors(node) {
                self.count(plan, successor, step);
            }
        }
    }

    /// One predecessor less.
    fn count(&mut self, plan: &Plan, node: NodeNo, step: &mut Step) {
        let state = &mut self.nodes[node.index()];
        state.waits -= 1;
        if state.waits == 0 {
            self.ready(plan, node, step);
        }
    }

    /// A counter is at zero: a leaf goes to the outbox, a join succeeds.
    fn ready(&mut self, plan: &Plan, node: NodeNo, step: &mut Step) {
        if plan.leaf(node).is_none() {
            step.succeeded.push(node);
            return;
        }
        let state = &mut self.nodes[node.index()];
        state.phase = Phase::Released;
        self.open += 1;
        self.owed += 1;
        step.released.push(Release { node, attempt: state.attempt });
    }

    /// The failure walks up. A closed scope ends the walk: who closed it has closed all above it that it
    /// could reach.
    fn close_scopes(&mut self, plan: &Plan, node: NodeNo, step: &mut Step) {
        let mut scope = plan.node(node).expect("the node was looked up before").scope;
        while self.closed[scope.index()].is_none() {
            self.closed[scope.index()] = Some(node);
            for gated in plan.gated(scope) {
                self.count(plan, *gated, step);
            }
            match plan.scope(scope).kind {
                ScopeKind::Errback | ScopeKind::Finally => scope = plan.scope(scope).parent,
                ScopeKind::Root | ScopeKind::Detached | ScopeKind::Absorb => return,
            }
        }
    }

    /// Whether the state is one that runs of this plan can be in.
    ///
    /// # Panics
    /// When an invariant of the module's list does not hold, naming it. Costs time in proportion to the
    /// plan.
    pub fn check_invariants(&self, plan: &Plan) {
        let succeeded = |node: NodeNo| self.nodes[node.index()].phase == Phase::Succeeded;
        let (mut open, mut owed) = (0, 0);
        for (number, node) in plan.nodes() {
            let state = self.nodes[number.index()];
            let is_closed = |scope: ScopeNo| self.closed[scope.index()].is_some();
            let mut edges = 0;
            for (from, edge) in plan.predecessors(number) {
                let failed = edge.part().is_some_and(is_closed);
                assert!(!(failed && succeeded(from)), "{from} has succeeded in a part that failed");
                edges += u32::from(!failed && !succeeded(from));
            }
            let gate = node.gate().is_some_and(|scope| !is_closed(scope));
            assert_eq!(state.waits, edges + u32::from(gate), "counter of {number}");
            assert_eq!(state.phase == Phase::Waiting, state.waits > 0, "{number} waits for something");
            if node.kind == NodeKind::Join {
                assert!(matches!(state.phase, Phase::Waiting | Phase::Succeeded), "{number} is a join");
            }
            open += u32::from(matches!(state.phase, Phase::Released | Phase::Dispatched | Phase::Replaced));
            owed += u32::from(state.phase == Phase::Released);
        }
        assert_eq!(self.open, open, "open leaves");
        assert_eq!(self.owed, owed, "leaves in the outbox");
        let left = plan.outputs().iter().filter(|node| !succeeded(**node)).count() as u32;
        assert_eq!(self.outputs_left, left, "outputs left");
        for (number, scope) in plan.scopes().filter(|(number, _)| self.closed[number.index()].is_some()) {
            let parent_closed = self.closed[scope.parent.index()].is_some();
            assert!(!scope.kind.goes_on() || parent_closed, "parent of {number:?}");
        }
        assert!(self.open > 0 || self.outcome() != RunOutcome::Undecided, "a run that ended is decided");
    }
}

impl Results for RunState {
    fn outcome(&self, node: NodeNo) -> Option<&Outcome> {
        self.outcome_of(node)
    }

    fn closed_by(&self, scope: ScopeNo) -> Option<NodeNo> {
        *self.closed.get(scope.index())?
    }
}

/// What a step has found out so far.
#[derive(Default)]
struct Step {
    succeeded: Vec<NodeNo>,
    released: Vec<Release>,
}

#[cfg(test)]
pub(crate) mod tests;
