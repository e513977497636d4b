//! How the nodes of a run stand, for people.
//!
//! What can no longer run is not stored; it is derived here, from the plan and the phases, when somebody looks.

use celeriac_primitives::NodeNo;

use crate::advance::Phase;
use crate::plan::Plan;

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Waits for predecessors, or, an error callback, for a failure.
    Waiting,
    /// Released: in the outbox, in a queue, or with a worker.
    Open,
    /// A canvas runs in its place.
    Replaced,
    /// Ended with a value.
    Succeeded,
    /// Ended without one.
    Failed,
    /// Will never run, because this node failed.
    Blocked(NodeNo),
    /// Was not needed: an error callback of something that did not fail, in a run that has ended.
    NotNeeded,
}

/// How each node of a run stands, in the order of the plan.
///
/// # Panics
/// When there are fewer phases than nodes.
pub fn standings(plan: &Plan, phases: &[Phase], ended: bool) -> Vec<Standing> {
    let mut standings: Vec<Standing> = Vec::with_capacity(plan.len());
    for (number, node) in plan.nodes() {
        // Predecessors have smaller numbers: how they stand is known.
        let standing = match phases[number.index()] {
            Phase::Succeeded => Standing::Succeeded,
            Phase::Failed => Standing::Failed,
            Phase::Released | Phase::Dispatched => Standing::Open,
            Phase::Replaced => Standing::Replaced,
            Phase::Waiting => {
                let blocked = plan.predecessors(number).filter_map(|(from, edge)| {
                    let standing = match standings[from.index()] {
                        Standing::Failed => Standing::Blocked(from),
                        standing @ (Standing::Blocked(_) | Standing::NotNeeded) => standing,
                        _ => return None,
                    };
                    // A part that failed by itself has ended, and that is all that was waited for.
                    let has_ended =
                        |scope| matches!(standing, Standing::Blocked(by) if plan.fails_in(by, scope));
                    (!edge.part().is_some_and(has_ended)).then_some(standing)
                });
                match blocked.min_by_key(|standing| !matches!(standing, Standing::Blocked(_))) {
                    Some(standing) => standing,
                    None if ended && node.gate().is_some() => Standing::NotNeeded,
                    None => Standing::Waiting,
                }
            }
        };
        standings.push(standing);
    }
    standings
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::{Canvas, Completion, Incarnation, Json, Outcome, RunId, Signature, TaskError};

    use super::*;
    use crate::RunState;

    #[test]
    fn what_needs_a_failed_node_is_blocked_by_it() {
        let sig = |name| Canvas::from(Signature::new(name).unwrap());
        let mut canvas = Canvas::chord([sig("ok"), sig("bad")], sig("body")).then(sig("next"));
        canvas.link_error(sig("errback"));
        let plan = Plan::compile(&canvas).unwrap();
        let (mut state, first) = RunState::start(&plan);
        let task = |i: usize| RunId::from_parts(0, 0).task(first[i].node);
        let ok = Outcome::Success(Json::null());
        let bad = Outcome::Failed(TaskError::new("E", "boom"));
        let mut settle = |task_id, outcome| {
            state.settle(
                &plan,
                [Completion { task_id, attempt: 1, outcome, incarnation: Incarnation::default() }],
            );
            standings(&plan, &state.phases().collect::<Vec<_>>(), state.ended())
        };
        let [waits, open] = [Standing::Waiting, Standing::Open];
        assert_eq!(settle(task(0), ok.clone()), [Standing::Succeeded, open, waits, waits, waits]);
        let blocked = Standing::Blocked(first[1].node);
        assert_eq!(settle(task(1), bad), [Standing::Succeeded, Standing::Failed, blocked, blocked, open]);
    }

    #[test]
    fn who_waits_for_the_end_of_a_member_is_not_blocked_by_its_failure() {
        let check = |text: &str, fails: usize, expect: &[Standing]| {
            let plan = Plan::compile(&crate::text::parse(text).unwrap()).unwrap();
            let (mut state, first) = RunState::start(&plan);
            let task_id = RunId::from_parts(0, 0).task(first[fails].node);
            let outcome = Outcome::Failed(TaskError::new("E", "boom"));
            state.settle(
                &plan,
                [Completion { task_id, attempt: 1, outcome, incarnation: Incarnation::default() }],
            );
            assert_eq!(
                standings(&plan, &state.phases().collect::<Vec<_>>(), state.ended()),
                expect,
                "{text}"
            );
        };
        let [failed, waits, open] = [Standing::Failed, Standing::Waiting, Standing::Open];
        let blocked = Standing::Blocked(NodeNo::from_index(0));
        let members = "group(a.s() | b.s(), c.s()).set(on_failure='drop')";
        check(&format!("{members} | d.s()"), 0, &[failed, blocked, open, waits, waits]);
        // What comes before them is another matter.
        check(&format!("x.s() | {members}"), 0, &[failed, blocked, blocked, blocked, blocked]);
    }

    #[test]
    fn an_error_callback_without_an_error_was_not_needed() {
        let mut canvas = Canvas::from(Signature::new("a").unwrap());
        canvas.link_error(Signature::new("errback").unwrap().into());
        let plan = Plan::compile(&canvas).unwrap();
        assert_eq!(standings(&plan, &[Phase::Succeeded, Phase::Waiting], true)[1], Standing::NotNeeded);
        assert_eq!(standings(&plan, &[Phase::Dispatched, Phase::Waiting], false)[1], Standing::Waiting);
    }
}
