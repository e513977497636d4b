//! From the outbox to the queue: once, whatever goes down in between.

use std::sync::{Arc, LazyLock};

use celeriac_backends::{Advance, Advanced, DEFAULT_QUEUE, Dispatch, Event, EventId, Lane, Take};
use celeriac_engine::Verdict;
use celeriac_engine::plan::{Results, ScopeNo};
use celeriac_primitives::{Canvas, Json, NodeNo, Options, Outcome, Signature, TaskError};

use crate::Subject;
use crate::bench::{Bench, LEASE, SOON, boom, clear_events, json, settle_one, sig, sigs, worker};

pub async fn the_first_leaves_wait_in_the_outbox(subject: &dyn Subject) {
    let bench = Bench::submit(subject, Canvas::group(sigs(&["a", "b"])).then(sig("c"))).await;
    let outbox = subject.backend().outbox(bench.run).await.unwrap();
    assert_eq!(outbox, [bench.release(0), bench.release(1)]);
    assert_eq!(bench.dispatch(&outbox).await, 2);
    assert_eq!(subject.backend().outbox(bench.run).await.unwrap(), []);
}

pub async fn a_release_is_queued_once_however_often_it_is_dispatched(subject: &dyn Subject) {
    let bench = Bench::submit(subject, Canvas::group(sigs(&["a", "b"]))).await;
    assert_eq!(bench.dispatch(&[bench.release(0)]).await, 1);
    // Another coordinator, which saw both in the outbox.
    assert_eq!(bench.dispatch(&[bench.release(0), bench.release(1)]).await, 1);
    assert_eq!(bench.receive("w", 10).await.len(), 2);
    // And one that comes when the leaf has long ended.
    bench.settle([bench.success(0, 1)]).await;
    assert_eq!(bench.dispatch(&[bench.release(0)]).await, 0);
    assert_eq!(bench.receive("w", 10).await.len(), 0);
}

pub async fn what_was_not_released_is_not_queued(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b").into_immutable())).await;
    let later = celeriac_engine::Release { attempt: 2, ..bench.release(0) };
    assert_eq!(bench.dispatch(&[bench.release(1), later]).await, 0);
    assert_eq!(bench.receive("w", 10).await.len(), 0);
}

pub async fn a_release_without_dispatch_is_handed_out_again_by_its_completion(subject: &dyn Subject) {
    let bench = Bench::submit(subject, Canvas::chord(sigs(&["a", "b"]), sig("body"))).await;
    bench.dispatch_outbox().await;
    clear_events(subject).await;
    let deliveries = bench.receive("w", 10).await;
    let done = deliveries.iter().enumerate().map(|(i, d)| (d.id.clone(), bench.success(i, 1)));
    subject.backend().finish(&done.collect::<Vec<_>>()).await.unwrap();

    // A coordinator takes the completions, counts the last one, and dies before it queues the body.
    let taken: Vec<_> = bench.events().await.into_iter().map(|e| e.event).collect();
    let completions = |events: Vec<Event>| {
        events.into_iter().map(|event| match event {
            Event::Completed(completion) => completion,
            Event::Submitted(run) => panic!("{run} was acknowledged"),
        })
    };
    assert_eq!(bench.settle(completions(taken)).await.released, [bench.release(2)]);

    // Nobody acknowledged them, so they come again; nothing counts twice, and the body is handed out again.
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    let again: Vec<_> = bench.events().await.into_iter().map(|e| e.event).collect();
    assert_eq!(again.len(), 2);
    let settled = bench.settle(completions(again)).await;
    assert_eq!(settled.released, [bench.release(2)]);
    assert_eq!(bench.dispatch(&settled.released).await, 1);
    assert_eq!(bench.receive("w", 10).await[0].message.args.as_str(), "[[1,1]]");
}

pub async fn a_run_that_owes_a_dispatch_is_found_by_the_sweep(subject: &dyn Subject) {
    let idle = Bench::submit_as(subject, 1, sig("a")).await;
    idle.dispatch_outbox().await;
    let bench = Bench::submit_as(subject, 2, sig("a").then(sig("b"))).await;
    assert_eq!(subject.backend().owing(10).await.unwrap(), [bench.run]);
    bench.dispatch_outbox().await;
    assert_eq!(subject.backend().owing(10).await.unwrap(), []);
    bench.settle([bench.success(0, 1)]).await;
    assert_eq!(subject.backend().owing(10).await.unwrap(), [bench.run]);
    assert_eq!(subject.backend().owing(0).await.unwrap(), []);
}

pub async fn a_leaf_goes_to_the_queue_it_names(subject: &dyn Subject) {
    let named = Signature::new("b").unwrap().set(&Options::new().with_queue("other").unwrap());
    let bench = Bench::submit(subject, Canvas::group([sig("a"), named.into()])).await;
    bench.dispatch_outbox().await;
    let default = bench.receive("w", 10).await;
    assert_eq!((default.len(), default[0].message.task.as_str()), (1, "a"));
    let other = subject
        .backend()
        .receive(&worker("w"), &["other".into()], Take::new(10, LEASE).wait(SOON))
        .await
        .unwrap();
    assert_eq!((other.len(), other[0].message.task.as_str()), (1, "b"));
    let done = vec![(default[0].id.clone(), bench.success(0, 1)), (other[0].id.clone(), bench.success(1, 2))];
    subject.backend().finish(&done).await.unwrap();
    bench.settle([bench.success(0, 1), bench.success(1, 2)]).await;
    assert_eq!(bench.value().await, Some(Json::list([json(1), json(2)])));
}

pub async fn prepared_leaves_are_queued_when_their_completions_release_them(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b")).then(sig("c"))).await;
    bench.dispatch_outbox().await;
    bench.receive("w", 9).await;
    for (round, verdict) in [(1, Verdict::Accepted), (2, Verdict::Duplicate)] {
        let prepared = prepare(&bench, &[1, 2]);
        let advance = Advance { prepared, ..Advance::new(bench.run, vec![bench.success(0, 7)]) };
        let settled = settle_one(subject.backend(), advance).await.settled().unwrap();
        assert_eq!(settled.verdicts, [verdict]);
        // Queued by the step itself, or left to the caller: either way once.
        bench.dispatch(&settled.released).await;
        let taken = bench.receive("w", 9).await;
        let nodes: Vec<u32> = taken.iter().map(|delivery| delivery.message.task_id.node().number()).collect();
        assert_eq!(nodes, if round == 1 { vec![2] } else { vec![] });
    }
}

pub async fn prepared_leaves_that_the_same_step_ends_or_releases_again_are_not_queued(subject: &dyn Subject) {
    let retry = Outcome::retry(TaskError::new("IOError", "again"));
    for (number, outcome, attempts) in [(1, Outcome::Ignored, &[][..]), (2, boom(), &[]), (3, retry, &[2])] {
        let bench = Bench::submit_as(subject, number, sig("a").then(sig("b"))).await;
        bench.dispatch_outbox().await;
        bench.receive("w", 9).await;
        let prepared = prepare(&bench, &[1]);
        let completions = vec![bench.success(0, 7), bench.completion(1, outcome)];
        let advance = Advance { prepared, ..Advance::new(bench.run, completions) };
        let settled = settle_one(subject.backend(), advance).await.settled().unwrap();
        assert_eq!(settled.ended, attempts.is_empty());
        bench.dispatch(&settled.released).await;
        let queued: Vec<u32> = bench.receive("w", 9).await.iter().map(|d| d.message.attempt).collect();
        assert_eq!(queued, attempts);
        assert_eq!(subject.backend().outbox(bench.run).await.unwrap(), []);
    }
}

pub async fn prepared_leaves_are_queued_in_the_order_in_which_they_are_given(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(Canvas::group(sigs(&["b", "c", "d"])))).await;
    bench.dispatch_outbox().await;
    bench.receive("w", 9).await;
    let prepared = prepare(&bench, &[3, 1, 2]);
    let advance = Advance { prepared, ..Advance::new(bench.run, vec![bench.success(0, 7)]) };
    let released = settle_one(subject.backend(), advance).await.settled().unwrap().released;
    // All or nothing: a backend that cannot do so leaves them to the caller.
    if released.is_empty() {
        let tasks: Vec<String> =
            bench.receive("w", 9).await.iter().map(|delivery| delivery.message.task.to_string()).collect();
        assert_eq!(tasks, ["d", "b", "c"]);
    } else {
        assert_eq!(released, [1, 2, 3].map(|index| bench.release(index)));
    }
}

pub async fn events_are_acknowledged_when_nothing_is_left_to_dispatch(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a").then(sig("b"))).await;
    bench.dispatch_outbox().await;
    clear_events(subject).await;
    for index in [0, 1] {
        let done: Vec<_> =
            bench.receive("w", 9).await.into_iter().map(|d| (d.id, bench.success(index, 1))).collect();
        subject.backend().finish(&done).await.unwrap();
        let events: Vec<EventId> = bench.events().await.iter().map(|event| event.id).collect();
        assert_eq!(events.len(), 1);
        let advance =
            Advance { events: events.clone(), ..Advance::new(bench.run, vec![bench.success(index, 1)]) };
        let Advanced::Settled { settled, acknowledged } = settle_one(subject.backend(), advance).await else {
            panic!("the run is known");
        };
        assert!(!acknowledged || settled.released.is_empty(), "what is owed keeps its events");
        bench.dispatch(&settled.released).await;
        if !acknowledged {
            subject.backend().acknowledge(&events).await.unwrap();
        }
    }
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    assert!(bench.events().await.is_empty());
}

/// Leaves composed in advance.
fn prepare(bench: &Bench<'_>, places: &[usize]) -> Vec<Dispatch> {
    let prepare = |index: &usize| {
        let release = bench.release(*index);
        let message = bench.plan.message(bench.run, release, &Given).expect("all inputs are known");
        Dispatch {
            release,
            queue: DEFAULT_QUEUE.into(),
            message: Arc::new(message),
            start: None,
            lane: Lane::default(),
        }
    };
    places.iter().map(prepare).collect()
}

/// Every node has yielded 7.
struct Given;

impl Results for Given {
    fn outcome(&self, _: NodeNo) -> Option<&Outcome> {
        static SEVEN: LazyLock<Outcome> = LazyLock::new(|| Outcome::Success(json(7)));
        Some(&SEVEN)
    }

    fn closed_by(&self, _: ScopeNo) -> Option<NodeNo> {
        None
    }
}
