//! The transition table, exhaustively on small plans.

use celeriac_primitives::{Canvas, Incarnation, Json, RunId, RunRef, Signature, TaskError};

use super::*;
use crate::plan::tests::dag;

fn run() -> RunRef {
    RunId::from_parts(0, 0).incarnation(Incarnation::new(1))
}

fn success(release: Release) -> Completion {
    let outcome = Outcome::Success(Json::parse("1").unwrap());
    let (task_id, incarnation) = (run().task(release.node), run().incarnation);
    Completion { task_id, attempt: release.attempt, outcome, incarnation }
}

fn failure(release: Release) -> Completion {
    Completion { outcome: Outcome::Failed(TaskError::new("ValueError", "boom")), ..success(release) }
}

/// A small generator of numbers, so that an order can be replayed from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Runs a plan in an order drawn from the seed, about a tenth of the leaves failing, each completion delivered once
/// or twice; returns the order in which leaves succeeded.
pub(crate) fn run_to_the_end(plan: &Plan, seed: u64) -> Vec<NodeNo> {
    let mut random = Random(seed);
    let (mut state, mut open) = RunState::start(plan);
    let mut order = Vec::new();
    while !open.is_empty() {
        state.check_invariants(plan);
        let release = open.swap_remove(random.below(open.len()));
        assert!(state.dispatch(release), "a release is dispatched once");
        let fails = random.below(10) == 0;
        let completion = if fails { failure(release) } else { success(release) };
        let settled = state.settle(plan, [completion.clone()]);
        assert_eq!(settled.verdicts, [Verdict::Accepted]);
        open.extend(&settled.released);
        if !fails {
            order.push(release.node);
        }
        if random.below(2) == 0 {
            let before = format!("{state:?}");
            let other = if fails { success(release) } else { failure(release) };
            let again = state.settle(plan, [other, completion]);
            assert_eq!(again.verdicts, [Verdict::Duplicate; 2]);
            assert_eq!(format!("{state:?}"), before, "a duplicate changes nothing");
            let mut owed = open.clone();
            owed.sort_unstable();
            assert_eq!(again.released, owed, "a duplicate hands out what is still owed");
        }
    }
    state.check_invariants(plan);
    assert!(state.ended());
    assert_ne!(state.outcome(), RunOutcome::Undecided);
    order
}

#[test]
fn every_dag_of_six_nodes_runs_in_order_to_its_end() {
    let pairs: Vec<(usize, usize)> = (0..6).flat_map(|to| (0..to).map(move |from| (from, to))).collect();
    for bits in 0..1u32 << pairs.len() {
        let chosen = pairs.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        let edges: Vec<(usize, usize)> = chosen.map(|(_, pair)| *pair).collect();
        let plan = dag(6, &edges);
        let order = run_to_the_end(&plan, u64::from(bits));
        for (from, to) in edges {
            let place = |node| order.iter().position(|done| done.index() == node);
            assert!(
                place(to).is_none_or(|to| place(from).is_some_and(|from| from < to)),
                "DAG {bits}: {order:?}"
            );
        }
    }
}

/// In any order, with any leaves failing, each leaf reported twice.
#[test]
fn every_run_with_policies_comes_to_its_end() {
    let inner =
        "chord([b.s(), chain(c.s(), group(d.s(), e.s()))], f.s()).set(on_failure='collect').finally(g.s())";
    for text in [
        "chord([a.s(), b.s(), c.s()], d.s()).set(on_failure='drop')",
        "a.s() | group(b.s(), chain(), c.s() | d.s()).set(on_failure='collect').link_error(e.s()) | f.si()",
        &format!(
            "group({inner}, {inner}.link_error(h.s()), chain({inner})).set(on_failure='drop').finally(i.si())"
        ),
        &format!(
            "group(group({inner}, a.s()), group(b.s()).set(on_failure='fail')).set(on_failure='collect')"
        ),
        "a.s().link_error(group(b.s(), chain(), c.s()).set(on_failure='drop').finally(d.s()))",
    ] {
        let plan = Plan::compile(&crate::text::parse(text).unwrap()).unwrap();
        for seed in 0..300 {
            run_to_the_end(&plan, seed);
        }
    }
}

#[test]
fn two_headers_that_finish_together_release_the_body_once() {
    let plan = dag(3, &[(0, 2), (1, 2)]);
    let (mut state, first) = RunState::start(&plan);
    first.iter().for_each(|release| assert!(state.dispatch(*release)));
    let settled = state.settle(&plan, [success(first[0]), success(first[1]), success(first[0])]);
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Accepted, Verdict::Duplicate]);
    assert_eq!(settled.released, [Release { node: NodeNo::from_index(2), attempt: 1 }]);
}

#[test]
fn a_retry_raises_the_attempt_and_fences_the_old_one() {
    let plan = dag(1, &[]);
    let (mut state, first) = RunState::start(&plan);
    assert!(state.dispatch(first[0]));
    let again = Outcome::retry(TaskError::new("IOError", "again"));
    let settled = state.settle(&plan, [Completion { outcome: again, ..success(first[0]) }]);
    let second = Release { attempt: 2, ..first[0] };
    assert_eq!((settled.verdicts, settled.released), (vec![Verdict::Retried], vec![second]));
    assert!(!state.dispatch(first[0]));
    assert_eq!(state.settle(&plan, [success(first[0])]).verdicts, [Verdict::Stale]);
    let third = Release { attempt: 3, ..second };
    assert_eq!(state.settle(&plan, [success(third)]).verdicts, [Verdict::Refused]);
    let settled = state.settle(&plan, [success(second)]);
    assert_eq!((settled.verdicts, settled.decided, settled.ended), (vec![Verdict::Accepted], true, true));
    state.check_invariants(&plan);
}

#[test]
fn a_leaf_that_was_replaced_ends_with_the_report_on_its_next_attempt_alone() {
    let plan = dag(2, &[(0, 1)]);
    let (mut state, first) = RunState::start(&plan);
    let replace = Completion { outcome: Outcome::Replace(Json::null()), ..success(first[0]) };
    let settled = state.settle(&plan, [replace.clone()]);
    assert_eq!((settled.verdicts, settled.released), (vec![Verdict::Replaced], vec![]));
    assert_eq!((state.phase(first[0].node), state.owed(), state.open()), (Some(Phase::Replaced), 0, 1));
    let next = Release { attempt: 2, ..first[0] };
    let retry = Completion { outcome: Outcome::retry(TaskError::new("E", "again")), ..success(next) };
    let late = [replace, success(first[0]), failure(first[0]), retry];
    let [stale, refused] = [Verdict::Stale, Verdict::Refused];
    assert_eq!(state.settle(&plan, late).verdicts, [Verdict::ReplacedBefore, stale, stale, refused]);
    state.check_invariants(&plan);
    let settled = state.settle(&plan, [success(next), success(next)]);
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Duplicate]);
    assert_eq!(settled.released.len(), 1);
    state.check_invariants(&plan);
}

#[test]
fn completions_of_nodes_that_were_never_released_are_refused() {
    let plan = dag(2, &[(0, 1)]);
    let (mut state, _) = RunState::start(&plan);
    let body = Release { node: NodeNo::from_index(1), attempt: 1 };
    let nowhere = Release { node: NodeNo::from_index(9), attempt: 1 };
    assert_eq!(state.settle(&plan, [success(body), success(nowhere)]).verdicts, [Verdict::Refused; 2]);
    state.check_invariants(&plan);
}

#[test]
fn a_failure_decides_the_run_at_once_and_siblings_go_on() {
    let plan = dag(3, &[(0, 2)]);
    let (mut state, first) = RunState::start(&plan);
    let settled = state.settle(&plan, [failure(first[0])]);
    assert!(settled.decided && !settled.ended);
    assert_eq!(state.outcome(), RunOutcome::Failed(first[0].node));
    let settled = state.settle(&plan, [failure(first[1])]);
    assert!(!settled.decided && settled.ended);
    assert_eq!(state.outcome(), RunOutcome::Failed(first[0].node));
}

#[test]
fn a_failing_callback_changes_nothing_else() {
    let mut canvas = Canvas::from(Signature::new("a").unwrap());
    canvas.link(Signature::new("cb").unwrap().into());
    let plan = Plan::compile(&canvas).unwrap();
    let (mut state, first) = RunState::start(&plan);
    let settled = state.settle(&plan, [success(first[0])]);
    assert!(settled.decided && !settled.ended);
    let settled = state.settle(&plan, [failure(settled.released[0])]);
    assert!(settled.ended);
    assert_eq!(state.outcome(), RunOutcome::Succeeded);
    state.check_invariants(&plan);
}

#[test]
fn forty_two_failures_in_a_header_call_its_errback_once_with_the_first() {
    let header = (0..50).map(|_| Signature::new("a").unwrap().into());
    let mut canvas = Canvas::chord(header, Signature::new("body").unwrap());
    canvas.link_error(Signature::new("e").unwrap().into());
    let plan = Plan::compile(&canvas).unwrap();
    let (mut state, first) = RunState::start(&plan);
    let settled = state.settle(&plan, first[8..].iter().map(|release| failure(*release)));
    assert_eq!(settled.released.len(), 1);
    let message = plan.message(run(), settled.released[0], &state).unwrap();
    let failures: Vec<celeriac_primitives::Failure> = message.args.to().unwrap();
    assert_eq!((message.task.as_str(), failures[0].node.as_str()), ("e", "header[8]"));
}
