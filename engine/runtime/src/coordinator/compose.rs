//! Putting the leaves together that a step releases: small ones whole, others with what they take by
//! reference.

use std::sync::{Arc, LazyLock};

use celeriac_backends::{DEFAULT_QUEUE, Dispatch, Lane};
use celeriac_engine::plan::{Composer, NotWritten, Results, ScopeNo, retry_of};
use celeriac_engine::{Plan, Release};
use celeriac_primitives::{Completion, LeafOptions, NodeNo, Outcome, RunRef, TaskMessage, TaskState, When};
use foldhash::{HashMap, HashMapExt as _};

/// How many leaves are composed in advance for one run, so that the step that releases them can queue them.
const PREPARED_MAX: usize = 100;

/// A leaf that takes the results of more leaves, or so many bytes of them, gets its input by reference. How
/// long results are is known when they are read, and what is read for nothing has passed a link.
const TAKEN_MAX: usize = 64;
pub(super) const ARGS_MAX: usize = 64 * 1024;

/// The leaves that wait for one of these completions and for nothing else, composed.
pub(super) fn prepared(plan: &Plan, run: RunRef, completions: &[Completion], most: usize) -> Vec<Dispatch> {
    let mut outcomes: HashMap<NodeNo, Option<&Outcome>> = HashMap::with_capacity(completions.len());
    for Completion { task_id, outcome, .. } in completions {
        // Of several reports on one leaf only the store knows which counts.
        outcomes.entry(task_id.node()).and_modify(|known| *known = None).or_insert(Some(outcome));
    }
    let known = AtHand(outcomes);
    let mut releases = Vec::new();
    for Completion { task_id, outcome, .. } in completions {
        let node = task_id.node();
        if outcome.state() != TaskState::Success || plan.leaf(node).is_none() || known.outcome(node).is_none()
        {
            continue;
        }
        for (successor, _) in plan.successors(node) {
            if plan.waits()[successor.index()] == 1 && plan.leaf(successor).is_some() {
                releases.push(Release { node: successor, attempt: 1 });
            }
            if releases.len() > PREPARED_MAX {
                return Vec::new();
            }
        }
    }
    let mut leaves = compose(plan, run, &releases, &known, most).leaves;
    let is_long = |options: &Arc<LeafOptions>| options.weight() > ARGS_MAX;
    let is_small = |message: &TaskMessage| {
        message.args.as_str().len() <= most && !message.options.as_ref().is_some_and(is_long)
    };
    leaves.retain(|leaf| is_small(&leaf.message) && !leaf.is_timed());
    leaves
}

/// The outcomes of the completions at hand; `None` where there are several of one leaf.
struct AtHand<'c>(HashMap<NodeNo, Option<&'c Outcome>>);

impl Results for AtHand<'_> {
    fn outcome(&self, node: NodeNo) -> Option<&Outcome> {
        self.0.get(&node).copied().flatten()
    }

    fn closed_by(&self, _: ScopeNo) -> Option<NodeNo> {
        None
    }
}

pub(crate) fn leaf(
    plan: &Plan,
    release: Release,
    mut message: TaskMessage,
    known: &impl Results,
) -> Dispatch {
    static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| DEFAULT_QUEUE.into());
    let queue = plan.queue(release.node).unwrap_or(&DEFAULT).clone();
    let start = match retry_of(release, known) {
        Some(retry) => {
            // What once was a moment stays one.
            if let (Some(expires_ms), Some(options)) = (retry.expires_ms, &message.options) {
                let expires = Some(When::At(expires_ms));
                message.options = Some(Arc::new(LeafOptions { expires, ..LeafOptions::clone(options) }));
            }
            retry.start
        }
        None => message.options.as_ref().and_then(|options| options.start),
    };
    let start = start.filter(|start| *start != When::After(0));
    let lane = Lane::new(priority(&message), false);
    Dispatch { release, queue, message: Arc::new(message), start, lane }
}

pub(super) fn priority(message: &TaskMessage) -> u8 {
    message.options.as_ref().and_then(|options| options.priority).unwrap_or(0)
}

/// Whether a leaf takes very many results. What a failure is composed of is little.
pub(super) fn takes_much(plan: &Plan, node: NodeNo) -> bool {
    plan.takes_more_than(node, TAKEN_MAX) && plan.node(node).is_some_and(|node| node.gate().is_none())
}

/// What became of leaves that were to be put together.
pub(crate) struct Composed {
    /// Ready to be queued.
    pub(crate) leaves: Vec<Dispatch>,
    /// Better fetched by their workers.
    pub(crate) long: Vec<Release>,
    /// Failures of those for which a result is missing.
    pub(crate) broken: Vec<Completion>,
}

/// Puts released leaves together that take no more than so many bytes.
pub(crate) fn compose(
    plan: &Plan,
    run: RunRef,
    released: &[Release],
    known: &impl Results,
    bytes_max: usize,
) -> Composed {
    let mut composer: Composer<'_> = plan.composer_up_to(bytes_max);
    let leaves = Vec::with_capacity(released.len());
    let mut composed = Composed { leaves, long: Vec::new(), broken: Vec::new() };
    for release in released {
        match composer.message(run, *release, known) {
            Ok(message) => composed.leaves.push(leaf(plan, *release, message, known)),
            Err(NotWritten::Long) => composed.long.push(*release),
            Err(NotWritten::Missing) => composed.broken.push(missing(run, *release)),
        }
    }
    composed
}

/// How a leaf ends for which something is missing.
pub(super) fn missing(run: RunRef, release: Release) -> Completion {
    let reason = "the result of a predecessor is missing from the store".to_owned();
    failed_at_once(run, release, Outcome::Undecodable(reason))
}

/// How a leaf ends that no worker gets.
pub(super) fn failed_at_once(run: RunRef, release: Release, outcome: Outcome) -> Completion {
    let (task_id, incarnation) = (run.task(release.node), run.incarnation);
    Completion { task_id, attempt: release.attempt, outcome, incarnation }
}
