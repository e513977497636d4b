//! Submitting, reading and forgetting runs.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Advance, Advanced, Dispatch, ErrorKind, Event, NewRun, Submitted};
use celeriac_engine::advance::Phase;
use celeriac_engine::{Plan, RunOutcome};
use celeriac_primitives::{Canvas, NodeNo, Outcome};

use crate::Subject;
use crate::bench::{Bench, SOON, boom, clear_events, json, run_id, settle_one, sig, sigs};

pub async fn a_submitted_run_is_stored_and_announced(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    assert_eq!(bench.outcome().await, RunOutcome::Undecided);
    let phases = subject.backend().phases(bench.run).await.unwrap();
    assert_eq!(phases, Some(vec![Phase::Released, Phase::Waiting]));
    assert_eq!(clear_events(subject).await, [Event::Submitted(bench.run)]);
}

pub async fn a_run_whose_first_leaves_are_ready_starts_with_its_submission(subject: &dyn Subject) {
    let plan = Arc::new(Plan::compile(&Canvas::chord(sigs(&["a", "b"]), sig("c"))).unwrap());
    let bench = Bench { subject, run: run_id(1), plan: plan.clone() };
    let starts = bench.leaves(&[bench.release(0), bench.release(1)]).await;
    let new = NewRun { starts, ..NewRun::new(bench.run, plan) };
    assert_eq!(subject.backend().submit(new.clone()).await.unwrap(), Submitted::Accepted);
    // Whether they were queued at once or are to be dispatched by a coordinator: each once.
    bench.dispatch_outbox().await;
    assert_eq!(subject.backend().submit(new).await.unwrap(), Submitted::Existing(bench.run));
    bench.dispatch_outbox().await;
    let taken = bench.receive("w", 9).await;
    let nodes: Vec<u32> = taken.iter().map(|delivery| delivery.message.task_id.node().number()).collect();
    assert_eq!(nodes, [1, 2]);
    assert_eq!(bench.settle([bench.success(0, 1), bench.success(1, 2)]).await.released, [bench.release(2)]);
}

pub async fn leaves_that_are_not_the_first_of_a_run_do_not_start_it(subject: &dyn Subject) {
    let plan = Arc::new(Plan::compile(&Canvas::chord(sigs(&["a", "b"]), sig("c"))).unwrap());
    for (number, places) in [(1, &[1, 1][..]), (2, &[0]), (3, &[0, 2]), (4, &[0, 1, 1])] {
        let bench = Bench { subject, run: run_id(number), plan: plan.clone() };
        let mut starts = bench.leaves(&[bench.release(0), bench.release(1)]).await;
        starts.push(Dispatch { release: bench.release(2), ..starts[0].clone() });
        let starts = places.iter().map(|place| starts[*place].clone()).collect();
        subject.backend().submit(NewRun { starts, ..NewRun::new(bench.run, plan.clone()) }).await.unwrap();
        let events: Vec<Event> = bench.events().await.into_iter().map(|event| event.event).collect();
        assert_eq!(events, [Event::Submitted(bench.run)], "{places:?}");
        assert_eq!(
            subject.backend().outbox(bench.run).await.unwrap(),
            [0, 1].map(|place| bench.release(place))
        );
        assert!(bench.receive("w", 9).await.is_empty());
    }
}

pub async fn a_run_is_forgotten_when_its_time_after_its_end_is_over(subject: &dyn Subject) {
    let plan = Arc::new(Plan::compile(&sig("a")).unwrap());
    let backend = subject.backend();
    for number in [1, 2, 3] {
        let retention = (number < 3).then_some(Duration::from_millis(200));
        let new = NewRun { retention, ..NewRun::new(run_id(number), plan.clone()) };
        backend.submit(new).await.unwrap();
    }
    let [one, two, three] =
        [1, 2, 3].map(|number| Bench { subject, run: run_id(number), plan: plan.clone() });
    for bench in [&one, &three] {
        bench.dispatch_outbox().await;
        bench.settle([bench.success(0, 1)]).await;
    }
    backend.sweep(5).await.unwrap();
    assert_eq!(backend.list(None, 9).await.unwrap().len(), 3, "not before its time");
    subject.pass(Duration::from_millis(300)).await;
    assert_eq!(backend.sweep(5).await.unwrap().forgotten, 1);
    assert!(backend.status(one.run.id).await.unwrap().is_none());
    assert!(backend.status(two.run.id).await.unwrap().is_some(), "nothing of a live run expires");
    assert!(backend.status(three.run.id).await.unwrap().is_some(), "kept until it is forgotten");
}

pub async fn a_run_is_kept_for_its_own_time_also_under_an_id_that_was_taken_before(subject: &dyn Subject) {
    let plan = Arc::new(Plan::compile(&sig("a")).unwrap());
    let (backend, bench) = (subject.backend(), Bench { subject, run: run_id(1), plan: plan.clone() });
    for retention in [Some(200), Some(60_000), None] {
        backend.forget(bench.run).await.unwrap();
        let retention = retention.map(Duration::from_millis);
        backend.submit(NewRun { retention, ..NewRun::new(bench.run, plan.clone()) }).await.unwrap();
        bench.settle([bench.success(0, 1)]).await;
        if retention == Some(Duration::from_millis(200)) {
            continue;
        }
        subject.pass(Duration::from_millis(300)).await;
        assert_eq!(backend.sweep(5).await.unwrap().forgotten, 0);
        assert_eq!(bench.outcome().await, RunOutcome::Succeeded);
    }
}

pub async fn the_same_submission_again_is_the_same_run(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    bench.dispatch_outbox().await;
    bench.settle([bench.success(0, 7)]).await;
    let again = NewRun::new(bench.run, bench.plan.clone());
    assert_eq!(subject.backend().submit(again).await.unwrap(), Submitted::Existing(bench.run));
    assert_eq!(bench.value().await, Some(json(7)));
}

pub async fn another_canvas_under_the_same_id_is_a_conflict_and_changes_nothing(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    let other = Arc::new(Plan::compile(&sig("b")).unwrap());
    let error = subject.backend().submit(NewRun::new(bench.run, other)).await.unwrap_err();
    assert_eq!((error.kind, error.may_retry()), (ErrorKind::Conflict, false));
    assert_eq!(*subject.backend().plan(bench.run).await.unwrap().unwrap(), *bench.plan);
    assert_eq!(clear_events(subject).await.len(), 1, "nothing was announced twice");
}

pub async fn a_plan_comes_back_as_it_was(subject: &dyn Subject) {
    let mut canvas = Canvas::chord(sigs(&["a", "b"]), sig("c")).then(Canvas::group(sigs(&["d", "e"])));
    canvas.link(sig("cb"));
    canvas.link_error(sig("errback"));
    let bench = Bench::submit(subject, canvas).await;
    let stored = subject.backend().plan(bench.run).await.unwrap().unwrap();
    assert_eq!(stored.to_string(), bench.plan.to_string());
}

pub async fn an_unknown_run_is_unknown_everywhere(subject: &dyn Subject) {
    let (backend, run) = (subject.backend(), run_id(404));
    assert!(backend.plan(run).await.unwrap().is_none());
    assert!(backend.find(run.id).await.unwrap().is_none());
    assert!(backend.known(run, &[], &[]).await.unwrap().is_none());
    assert!(backend.status(run.id).await.unwrap().is_none());
    assert!(backend.changed(run, 0, SOON).await.unwrap().is_none());
    assert!(backend.phases(run).await.unwrap().is_none());
    assert!(backend.outbox(run).await.unwrap().is_empty());
    assert_eq!(backend.dispatch(run, &[]).await.unwrap(), 0);
    assert!(!backend.forget(run).await.unwrap());
    assert_eq!(settle_one(backend, Advance::new(run, Vec::new())).await, Advanced::Unknown);
}

pub async fn whoever_waits_for_a_change_is_woken_by_it(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    bench.dispatch_outbox().await;
    let before = subject.backend().status(bench.run.id).await.unwrap().unwrap();
    let long = Duration::from_secs(20);
    let wait = subject.backend().changed(bench.run, before.version, long);
    let (after, _) = tokio::join!(wait, bench.settle([bench.success(0, 1)]));
    let after = after.unwrap().unwrap();
    assert_eq!(after.outcome, RunOutcome::Succeeded);
    assert!(after.version > before.version && after.ended());
}

pub async fn a_wait_for_a_change_ends_in_time(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    let before = subject.backend().status(bench.run.id).await.unwrap().unwrap();
    let after = subject.backend().changed(bench.run, before.version, SOON).await.unwrap();
    assert_eq!(after.unwrap().outcome, RunOutcome::Undecided);
}

pub async fn whoever_waits_for_the_value_gets_it_with_the_decision(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    bench.dispatch_outbox().await;
    let (backend, last) = (subject.backend(), bench.release(1).node);
    let wanted = [last];
    let (status, known) = backend.decided(bench.run, &wanted, SOON).await.unwrap().unwrap();
    assert_eq!((status.outcome, known.outcomes.len()), (RunOutcome::Undecided, 0), "in time");
    bench.settle([bench.success(0, 1)]).await;
    let wait = backend.decided(bench.run, &wanted, Duration::from_secs(20));
    let (decided, _) = tokio::join!(wait, bench.settle([bench.success(1, 7)]));
    let (status, known) = decided.unwrap().unwrap();
    assert_eq!(status.outcome, RunOutcome::Succeeded);
    assert_eq!(known.outcomes[&last], Outcome::Success(json(7)));
    let many: Vec<_> = (0..100).map(|index| bench.release(index).node).collect();
    let (_, known) = backend.decided(bench.run, &many, SOON).await.unwrap().unwrap();
    assert_eq!(known.outcomes.len(), 2);
    let failed = Bench::submit_as(subject, 2, sig("a")).await;
    failed.settle([failed.completion(0, boom())]).await;
    let (status, _) = backend.decided(failed.run, &[], SOON).await.unwrap().unwrap();
    assert_eq!(status.outcome, RunOutcome::Failed(NodeNo::from_index(0)));
    assert!(backend.decided(run_id(404), &[], SOON).await.unwrap().is_none());
}

pub async fn runs_are_listed_newest_first_and_page_by_page(subject: &dyn Subject) {
    let mut runs = Vec::new();
    for number in [2, 5, 1, 4, 3] {
        runs.push(Bench::submit_as(subject, number, sig("a")).await.run);
    }
    runs.sort_by(|a, b| b.cmp(a));
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let backend = subject.backend();
    let first = backend.list(None, 2).await.unwrap();
    assert_eq!(first, ids[..2]);
    assert_eq!(backend.list(first.last().copied(), 9).await.unwrap(), ids[2..]);
    backend.forget(runs[0]).await.unwrap();
    assert_eq!(backend.list(None, 9).await.unwrap(), ids[1..]);
}

pub async fn a_status_counts_the_leaves_that_have_ended(subject: &dyn Subject) {
    let mut canvas = Canvas::chord(sigs(&["a", "b"]), sig("c"));
    canvas.link_error(sig("errback"));
    let bench = Bench::submit(subject, canvas).await;
    bench.dispatch_outbox().await;
    let count = async || {
        let status = subject.backend().status(bench.run.id).await.unwrap().unwrap();
        (status.done, status.open, status.expected, status.total())
    };
    assert_eq!(count().await, (0, 2, 3, 3));
    bench.settle([bench.success(0, 1), bench.success(0, 1)]).await;
    assert_eq!(count().await, (1, 1, 3, 3));
    bench.settle([bench.completion(1, boom())]).await;
    assert_eq!(count().await, (2, 1, 3, 3), "the error callback is open instead of the body");
}

pub async fn a_forgotten_run_leaves_nothing(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    bench.dispatch_outbox().await;
    bench.settle([bench.completion(0, boom())]).await;
    assert!(subject.backend().forget(bench.run).await.unwrap());
    assert!(subject.backend().status(bench.run.id).await.unwrap().is_none());
    // A completion that comes too late finds nobody, and that is no error.
    let late = bench.completion(0, Outcome::Success(json(1)));
    assert_eq!(settle_one(subject.backend(), Advance::new(bench.run, vec![late])).await, Advanced::Unknown);
    // The id is free again.
    let again = NewRun::new(bench.run, bench.plan.clone());
    assert_eq!(subject.backend().submit(again).await.unwrap(), Submitted::Accepted);
}
