//! Members whose failure is tolerated, and what runs in either case.

use celeriac_engine::{RunOutcome, Verdict};
use celeriac_primitives::{Canvas, Entry, NodeNo, OnFailure};
use futures::future::join_all;

use crate::Subject;
use crate::bench::{Bench, boom, json, sig, sigs, ways_to_fail};

fn chord(names: &[&str], policy: OnFailure) -> Canvas {
    let mut chord = Canvas::chord(sigs(names), sig("body"));
    *chord.options_mut() = chord.options().clone().with_on_failure(policy);
    chord
}

/// The places of a plan's leaves that have this task.
fn places(bench: &Bench<'_>, task: &str) -> Vec<usize> {
    let is_task = |node: &NodeNo| bench.plan.task(*node).is_some_and(|name| name.as_str() == task);
    bench.plan.nodes().map(|(node, _)| node).filter(is_task).map(NodeNo::index).collect()
}

pub async fn whatever_ends_a_member_counts_for_its_list(subject: &dyn Subject) {
    for (number, way) in ways_to_fail().into_iter().enumerate() {
        for policy in [OnFailure::Drop, OnFailure::Collect] {
            let number = 2 * number as u64 + u64::from(policy == OnFailure::Drop);
            let bench = Bench::submit_as(subject, number, chord(&["a", "b"], policy)).await;
            bench.dispatch_outbox().await;
            let settled = bench.settle([bench.completion(0, way.clone())]).await;
            assert!(!settled.decided && settled.released.is_empty(), "{way:?}");
            let settled = bench.settle([bench.success(1, 7)]).await;
            let body = bench.release(places(&bench, "body")[0]);
            assert_eq!((settled.released.as_slice(), settled.decided), (&[body][..], false), "{way:?}");
            let message = bench.messages(&settled.released).await.remove(0);
            if policy == OnFailure::Drop {
                assert_eq!(message.args.as_str(), "[[7]]", "{way:?}");
            } else {
                let entries: Vec<Vec<Entry<i64>>> = message.args.to().expect("entries");
                let failure = entries[0][0].error().expect("the first has failed");
                assert_eq!((failure.node.as_str(), failure.state), ("header[0]", way.state()));
                assert_eq!((Some(&failure.error), entries[0][1].ok()), (way.error().as_ref(), Some(&7)));
            }
            let settled = bench.settle([bench.success(body.node.index(), 9)]).await;
            assert!(settled.decided && settled.ended);
            assert_eq!(bench.outcome().await, RunOutcome::Succeeded);
        }
    }
}

pub async fn a_member_that_fails_counts_once(subject: &dyn Subject) {
    let member = Canvas::chord(sigs(&["a", "b"]), Canvas::group(sigs(&["c", "d"])));
    let mut group = Canvas::group([member, sig("e")]);
    *group.options_mut() = group.options().clone().with_on_failure(OnFailure::Collect);
    let bench = Bench::submit(subject, group.then(sig("next"))).await;
    bench.dispatch_outbox().await;
    let [a, b, e] = ["a", "b", "e"].map(|name| places(&bench, name)[0]);
    let settled = bench.settle([bench.completion(a, boom()), bench.completion(a, boom())]).await;
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Duplicate]);
    // Another leaf of the same member fails, too.
    assert_eq!(bench.settle([bench.completion(b, boom())]).await.released, []);
    let released = bench.settle([bench.success(e, 1)]).await.released;
    assert_eq!(released, [bench.release(places(&bench, "next")[0])]);
    let message = bench.messages(&released).await.remove(0);
    let entries: Vec<Vec<Entry<i64>>> = message.args.to().expect("entries");
    assert_eq!(
        entries[0][0].error().map(|failure| failure.node.as_str()),
        Some("chain[0].group[0].header[0]")
    );
}

pub async fn members_that_end_at_the_same_time_release_the_body_once(subject: &dyn Subject) {
    for number in 0..50 {
        let bench = Bench::submit_as(subject, number, chord(&["a", "b", "c", "d"], OnFailure::Drop)).await;
        bench.dispatch_outbox().await;
        let ends = |place: usize| match place % 2 {
            0 => bench.success(place, 1),
            _ => bench.completion(place, boom()),
        };
        let settled = join_all((0..4).map(|place| bench.settle([ends(place)]))).await;
        let released: Vec<_> = settled.into_iter().flat_map(|settled| settled.released).collect();
        assert_eq!(released, [bench.release(places(&bench, "body")[0])]);
    }
}

pub async fn a_run_that_ends_in_a_list_that_tolerates_yields_it(subject: &dyn Subject) {
    let mut group = Canvas::group(sigs(&["a", "b", "c"]));
    *group.options_mut() = group.options().clone().with_on_failure(OnFailure::Drop);
    let bench = Bench::submit(subject, group).await;
    bench.dispatch_outbox().await;
    let settled = bench.settle([bench.success(2, 3), bench.completion(0, boom())]).await;
    assert!(!settled.decided);
    let settled = bench.settle([bench.success(1, 2)]).await;
    assert!(settled.decided && settled.ended);
    assert_eq!(bench.value().await.expect("the run has succeeded").as_str(), "[2,3]");
}

pub async fn a_wide_header_that_fails_altogether_calls_its_body(subject: &dyn Subject) {
    let names = vec!["a"; 1_500];
    let bench = Bench::submit(subject, chord(&names, OnFailure::Drop)).await;
    bench.dispatch_outbox().await;
    let failed = (0..names.len()).map(|place| bench.completion(place, boom()));
    let released = bench.settle(failed).await.released;
    assert_eq!(released, [bench.release(places(&bench, "body")[0])]);
    assert_eq!(bench.messages(&released).await[0].args.as_str(), "[[]]");
}

pub async fn finally_runs_once_and_the_run_waits_for_it(subject: &dyn Subject) {
    for fails in [false, true] {
        let mut canvas = sig("a").then(sig("b"));
        canvas.finally(sig("last"));
        let bench = Bench::submit_as(subject, u64::from(fails), canvas).await;
        bench.dispatch_outbox().await;
        let last = bench.release(places(&bench, "last")[0]);
        let settled = if fails {
            bench.settle([bench.completion(0, boom())]).await
        } else {
            assert_eq!(bench.settle([bench.success(0, 1)]).await.released, [bench.release(1)]);
            bench.settle([bench.success(1, 2)]).await
        };
        assert_eq!((settled.released.as_slice(), settled.decided), (&[last][..], true));
        assert!(!settled.ended, "it waits for what runs finally");
        let message = bench.messages(&settled.released).await.remove(0);
        let entry: [Entry<i64>; 1] = message.args.to().expect("an entry");
        assert_eq!((entry[0].ok(), entry[0].error().is_some()), (Some(&2).filter(|_| !fails), fails));
        let settled = bench.settle([bench.completion(last.node.index(), boom())]).await;
        assert!(settled.ended && !settled.decided);
        let expect = if fails { RunOutcome::Failed(NodeNo::from_index(0)) } else { RunOutcome::Succeeded };
        assert_eq!(bench.outcome().await, expect);
        if !fails {
            assert_eq!(bench.value().await, Some(json(2)));
        }
    }
}
