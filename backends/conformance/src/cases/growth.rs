//! Segments: what runs in the place of leaves.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Grown, NewRun, Origin, Submitted};
use celeriac_engine::advance::Phase;
use celeriac_engine::{Plan, RunOutcome, Verdict};
use celeriac_primitives::{Canvas, Completion, Json, NodeNo, Outcome, RunRef};

use crate::Subject;
use crate::bench::{Bench, boom, json, run_id, sig, sigs};

/// A run whose first leaf was replaced, and the segment.
async fn grown(subject: &dyn Subject) -> (Bench<'_>, Bench<'_>) {
    let plan = Arc::new(Plan::compile(&sig("a").then(sig("b"))).unwrap());
    let bench = Bench { subject, run: run_id(1), plan: plan.clone() };
    let retention = Some(Duration::from_millis(200));
    subject.backend().submit(NewRun { retention, ..NewRun::new(bench.run, plan) }).await.unwrap();
    bench.dispatch_outbox().await;
    bench.settle([replace(&bench)]).await;
    let plan = Arc::new(Plan::compile(&Canvas::group(sigs(&["c", "d"]))).unwrap());
    let leaf = bench.run.task(bench.release(0).node);
    let RunRef { id: root, incarnation } = bench.run;
    let origin = Origin { leaf, attempt: 1, root, depth: 1, adds: true, incarnation };
    let segment = origin.segment();
    assert_eq!(subject.backend().grow(bench.run, segment.id, 2, 100).await.unwrap(), Grown::Noted);
    let new = NewRun { origin: Some(origin), ..NewRun::new(segment, plan.clone()) };
    for expect in [Submitted::Accepted, Submitted::Existing(segment)] {
        assert_eq!(subject.backend().submit(new.clone()).await.unwrap(), expect);
    }
    (bench, Bench { subject, run: segment, plan })
}

fn replace(bench: &Bench<'_>) -> Completion {
    bench.completion(0, Outcome::Replace(Json::null()))
}

/// What a segment reports.
fn report(bench: &Bench<'_>, outcome: Outcome) -> Completion {
    Completion { attempt: 2, ..bench.completion(0, outcome) }
}

pub async fn a_leaf_that_was_replaced_hears_of_its_segment_alone(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    bench.dispatch_outbox().await;
    let settled = bench.settle([replace(&bench), replace(&bench), replace(&bench)]).await;
    assert_eq!(
        settled.verdicts,
        [Verdict::Replaced, Verdict::ReplacedBefore, Verdict::ReplacedBefore],
        "the first is the one that counts"
    );
    assert_eq!((settled.released, settled.decided, settled.ended), (vec![], false, false));
    let phases = subject.backend().phases(bench.run).await.unwrap();
    assert_eq!(phases, Some(vec![Phase::Replaced, Phase::Waiting]));
    let late = [bench.success(0, 7), bench.completion(0, boom()), replace(&bench)];
    assert_eq!(bench.settle(late).await.verdicts, [Verdict::Stale, Verdict::Stale, Verdict::ReplacedBefore]);
    let status = subject.backend().status(bench.run.id).await.unwrap().unwrap();
    assert_eq!((status.outcome, status.open, status.done), (RunOutcome::Undecided, 1, 0));
    let value = || Outcome::Success(json(8));
    let settled = bench.settle([report(&bench, value()), report(&bench, boom())]).await;
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Duplicate]);
    assert_eq!(bench.messages(&[bench.release(1)]).await[0].args.as_str(), "[8]");
}

pub async fn a_leaf_that_asked_to_run_again_is_not_replaced_by_its_earlier_attempt(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    bench.dispatch_outbox().await;
    let Outcome::Failed(error) = boom() else { unreachable!("boom is a failure") };
    bench.settle([bench.completion(0, Outcome::retry(error))]).await;
    assert_eq!(bench.settle([replace(&bench)]).await.verdicts, [Verdict::Stale]);
    let now = Completion { attempt: 2, ..replace(&bench) };
    assert_eq!(bench.settle([now]).await.verdicts, [Verdict::Replaced]);
    assert_eq!(subject.backend().outbox(bench.run).await.unwrap(), [], "nothing is owed");
}

pub async fn a_failing_segment_closes_the_scopes_of_its_leaf(subject: &dyn Subject) {
    let mut canvas = sig("a");
    canvas.link_error(sig("errback"));
    let bench = Bench::submit(subject, canvas).await;
    bench.dispatch_outbox().await;
    bench.settle([replace(&bench)]).await;
    let segment = bench.run.segment(NodeNo::from_index(0), 1).id;
    let inner = Plan::compile(&sig("c").then(sig("d"))).unwrap();
    let failure = inner.failure(segment, NodeNo::from_index(1), &boom()).unwrap();
    let settled = bench.settle([report(&bench, Outcome::ReplacementFailed(Box::new(failure)))]).await;
    assert_eq!((settled.decided, settled.released.len()), (true, 1));
    let failures: Vec<celeriac_primitives::Failure> =
        bench.messages(&settled.released).await[0].args.to().unwrap();
    assert_eq!((failures[0].node.as_str(), failures[0].task.as_str()), ("replacement.chain[1]", "d"));
    assert_eq!(failures[0].task_id.run(), segment);
}

pub async fn a_segment_is_noted_once_and_a_run_has_only_so_many_nodes(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    let backend = subject.backend();
    let segment = |attempt| bench.run.segment(bench.release(0).node, attempt).id;
    for (attempt, nodes, expect) in [
        (1, 3, Grown::Noted),
        (1, 3, Grown::Noted),
        (2, 5, Grown::Noted),
        (3, 1, Grown::Full),
        (3, 0, Grown::Noted),
        (2, 5, Grown::Noted),
    ] {
        assert_eq!(backend.grow(bench.run, segment(attempt), nodes, 10).await.unwrap(), expect, "{attempt}");
    }
    let mut all = [1, 2, 3].map(segment);
    all.sort_unstable();
    let mut noted = backend.segments(bench.run).await.unwrap();
    noted.sort_unstable();
    assert_eq!(noted, all);
    assert_eq!(backend.grow(run_id(404), segment(1), 1, 10).await.unwrap(), Grown::Unknown);
    assert!(backend.segments(run_id(404)).await.unwrap().is_empty());
}

pub async fn a_segment_knows_its_leaf_and_is_not_listed(subject: &dyn Subject) {
    let (bench, segment) = grown(subject).await;
    let backend = subject.backend();
    let origin = backend.origin(segment.run).await.unwrap().unwrap();
    assert_eq!((origin.around(), origin.root, origin.reports_as()), (bench.run, bench.run.id, 2));
    assert!(origin.adds);
    assert_eq!(backend.origin(bench.run).await.unwrap(), None);
    assert_eq!(backend.list(None, 9).await.unwrap(), [bench.run.id]);
    // Like any run it may be announced, or have started with its submission.
    segment.dispatch_outbox().await;
    assert_eq!(backend.list(None, 9).await.unwrap(), [bench.run.id]);
    segment.settle([segment.success(0, 1), segment.success(1, 2)]).await;
    assert_eq!(segment.value().await.unwrap().as_str(), "[1,2]");
}

pub async fn a_forgotten_run_takes_its_segments_with_it(subject: &dyn Subject) {
    let (bench, segment) = grown(subject).await;
    assert!(subject.backend().forget(bench.run).await.unwrap());
    for run in [bench.run, segment.run] {
        assert!(subject.backend().status(run.id).await.unwrap().is_none());
    }
    assert!(subject.backend().segments(bench.run).await.unwrap().is_empty());
    assert!(!subject.backend().forget(bench.run).await.unwrap());
}

pub async fn a_run_whose_time_is_over_is_kept_while_a_segment_goes_on(subject: &dyn Subject) {
    let (bench, segment) = grown(subject).await;
    let backend = subject.backend();
    segment.dispatch_outbox().await;
    segment.settle([segment.completion(0, boom())]).await;
    bench.settle([report(&bench, boom())]).await;
    assert!(backend.status(bench.run.id).await.unwrap().unwrap().ended());
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(backend.sweep(5).await.unwrap().forgotten, 0, "its second leaf still runs");
    segment.settle([segment.success(1, 1)]).await;
    assert!(backend.status(segment.run.id).await.unwrap().is_some());
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(backend.sweep(5).await.unwrap().forgotten, 1);
    for run in [bench.run, segment.run] {
        assert!(backend.status(run.id).await.unwrap().is_none());
    }
}
