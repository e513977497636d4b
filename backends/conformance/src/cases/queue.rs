//! Deliveries and their leases.

use std::time::Duration;

use celeriac_backends::{Begin, DEFAULT_QUEUE, Delivery, Event, Lane, LaneOrder, Swept, Take};
use celeriac_engine::Verdict;
use celeriac_primitives::{Canvas, Outcome, When};

use crate::Subject;
use crate::bench::{Bench, LEASE, clear_events, json, sig, sigs, worker};

/// Takes all that is there, with one suspect at a time.
async fn take_all(bench: &Bench<'_>, name: &str) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let take = Take::new(1000, LEASE);
        let taken = bench.backend().receive(&worker(name), &[DEFAULT_QUEUE.into()], take).await.unwrap();
        assert!(taken.iter().filter(|delivery| delivery.is_suspect()).count() <= 1);
        if taken.is_empty() {
            return all;
        }
        all.extend(taken);
    }
}

async fn queued<'s>(subject: &'s dyn Subject, names: &[&str]) -> Bench<'s> {
    let bench = Bench::submit(subject, Canvas::group(sigs(names))).await;
    bench.dispatch_outbox().await;
    clear_events(subject).await;
    bench
}

pub async fn leaves_come_in_the_order_in_which_they_were_queued(subject: &dyn Subject) {
    let bench = queued(subject, &["a", "b", "c", "d"]).await;
    let mut tasks = Vec::new();
    for (name, max) in [("v", 1), ("w", 2), ("v", 9)] {
        tasks.extend(bench.receive(name, max).await.iter().map(|d| d.message.task.to_string()));
    }
    assert_eq!(tasks, ["a", "b", "c", "d"]);
}

pub async fn a_leaf_is_with_one_worker_at_a_time(subject: &dyn Subject) {
    let bench = queued(subject, &["a"]).await;
    let first = bench.receive("v", 1).await;
    assert_eq!((first.len(), first[0].deliveries, first[0].message.attempt), (1, 1, 1));
    assert_eq!(first[0].message.task_id, bench.run.task(bench.release(0).node));
    assert_eq!(bench.receive("w", 1).await.len(), 0);
    assert_eq!(subject.backend().sweep(5).await.unwrap(), Swept::default());
    assert_eq!(bench.receive("w", 1).await.len(), 0);
}

/// By the store's clock, also when timers are looked at all the time.
pub async fn a_leaf_is_not_queued_before_its_time(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    let due_ms = bench.backend().now().await.unwrap() + 100;
    let mut leaves = bench.leaves(&[bench.release(0)]).await;
    leaves[0].start = Some(When::At(due_ms));
    assert_eq!(bench.backend().dispatch(bench.run, &leaves).await.unwrap(), 1);
    for _ in 0..10_000 {
        bench.backend().fire().await.unwrap();
        if !take_all(&bench, "w").await.is_empty() {
            let now_ms = bench.backend().now().await.unwrap();
            assert!(now_ms >= due_ms, "{} ms early", due_ms - now_ms);
            return;
        }
        subject.pass(Duration::from_millis(1)).await;
    }
    panic!("it is never queued");
}

pub async fn a_worker_that_waits_is_woken_by_a_leaf(subject: &dyn Subject) {
    let bench = Bench::submit(subject, sig("a")).await;
    let (name, queues, long) = (worker("w"), [DEFAULT_QUEUE.into()], Duration::from_secs(20));
    let waiting = subject.backend().receive(&name, &queues, Take::new(1, LEASE).wait(long));
    let (received, _) = tokio::join!(waiting, bench.dispatch_outbox());
    assert_eq!(received.unwrap().len(), 1);
}

pub async fn a_finished_leaf_is_reported_and_does_not_come_again(subject: &dyn Subject) {
    let bench = queued(subject, &["a"]).await;
    let delivery = bench.receive("w", 1).await.remove(0);
    let done = bench.success(0, 7);
    subject.backend().finish(&[(delivery.id, done.clone())]).await.unwrap();
    assert_eq!(clear_events(subject).await, [Event::Completed(done)]);
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(5).await.unwrap(), Swept::default());
    assert_eq!(bench.receive("w", 1).await.len(), 0);
}

pub async fn a_leaf_whose_lease_has_passed_goes_to_another_worker(subject: &dyn Subject) {
    let bench = queued(subject, &["a", "b"]).await;
    bench.receive("v", 1).await;
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(5).await.unwrap(), Swept { redelivered: 1, ..Swept::default() });
    let again = bench.receive("w", 1).await;
    assert_eq!((again[0].message.task.as_str(), again[0].deliveries), ("a", 2), "it comes before the others");
}

pub async fn a_renewed_lease_does_not_pass(subject: &dyn Subject) {
    let bench = queued(subject, &["a"]).await;
    let delivery = bench.receive("w", 1).await.remove(0);
    for _ in 0..4 {
        subject.pass(LEASE / 2).await;
        subject.backend().renew(&worker("w"), std::slice::from_ref(&delivery.id), LEASE).await.unwrap();
        assert_eq!(subject.backend().sweep(5).await.unwrap(), Swept::default());
    }
}

pub async fn each_delivery_has_the_lease_with_which_it_was_taken_or_renewed(subject: &dyn Subject) {
    let bench = queued(subject, &["a", "b", "c"]).await;
    let (backend, name, queues) = (subject.backend(), worker("w"), [DEFAULT_QUEUE.into()]);
    let mut ids = Vec::new();
    for lease in [LEASE, LEASE * 4, LEASE] {
        let taken = backend.receive(&name, &queues, Take::new(1, lease)).await.unwrap();
        ids.extend(taken.into_iter().map(|delivery| delivery.id));
    }
    backend.renew(&name, &ids[2..], LEASE * 4).await.unwrap();
    subject.pass(LEASE * 2).await;
    assert_eq!(backend.sweep(5).await.unwrap().redelivered, 1);
    assert_eq!(bench.receive("v", 9).await.iter().map(|d| d.id.clone()).collect::<Vec<_>>(), ids[..1]);
    subject.pass(LEASE * 4).await;
    assert_eq!(backend.sweep(5).await.unwrap().redelivered, 3);
}

pub async fn many_leaves_finished_at_once_leave_those_between_them(subject: &dyn Subject) {
    let names: Vec<String> = (0..90).map(|number| format!("t{number}")).collect();
    let bench = queued(subject, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Two hold what is between them, one of them only what comes late.
    let mut held = Vec::new();
    for (name, max) in [("early", 3), ("v", 40), ("late", 3), ("v", 40)] {
        held.extend(bench.receive(name, max).await.into_iter().map(|delivery| (name, delivery.id)));
    }
    let done = |range: std::ops::Range<usize>| {
        let of_v = held.iter().enumerate().filter(|(_, (name, _))| *name == "v");
        let all: Vec<_> = of_v.map(|(at, (_, id))| (id.clone(), bench.success(at, 0))).collect();
        all[range].to_vec()
    };
    // From the middle, the head, both ends of what is left.
    for range in [20..40, 0..20, 40..60, 60..80] {
        subject.backend().finish(&done(range)).await.unwrap();
    }
    assert_eq!(clear_events(subject).await.len(), 80);
    assert_eq!(bench.receive("w", 9).await.len(), 4, "nobody has taken these");
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(5).await.unwrap().redelivered, 10);
    let again: Vec<_> = take_all(&bench, "w").await.iter().map(|d| d.message.task.to_string()).collect();
    let expected = [0..3, 43..46, 86..90].into_iter().flatten().map(|number| format!("t{number}"));
    assert_eq!(again, expected.collect::<Vec<_>>());
}

pub async fn a_leaf_that_is_handed_back_comes_at_once_and_is_not_counted(subject: &dyn Subject) {
    let bench = queued(subject, &["a", "b", "c"]).await;
    let held = bench.receive("v", 2).await;
    let ids: Vec<_> = held.iter().map(|delivery| delivery.id.clone()).collect();
    subject.backend().hand_back(&worker("v"), &ids).await.unwrap();
    let again = bench.receive("w", 9).await;
    let seen: Vec<_> = again.iter().map(|d| (d.message.task.as_str(), d.deliveries)).collect();
    assert_eq!(seen, [("a", 1), ("b", 1), ("c", 1)]);
    // It is no longer the first worker's to give.
    subject.backend().hand_back(&worker("v"), &ids).await.unwrap();
    assert_eq!(bench.receive("x", 9).await.len(), 0);
}

pub async fn a_late_report_of_a_reclaimed_leaf_changes_nothing(subject: &dyn Subject) {
    let bench = queued(subject, &["a"]).await;
    let slow = bench.receive("slow", 1).await.remove(0);
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    let quick = bench.receive("quick", 1).await.remove(0);
    // The slow worker cannot keep what is no longer its own.
    subject.backend().renew(&worker("slow"), std::slice::from_ref(&slow.id), LEASE * 10).await.unwrap();
    subject.backend().finish(&[(quick.id, bench.success(0, 1))]).await.unwrap();
    subject.backend().finish(&[(slow.id, bench.success(0, 2))]).await.unwrap();
    let reports = clear_events(subject).await.into_iter().map(|event| match event {
        Event::Completed(completion) => completion,
        Event::Submitted(run) => panic!("{run} was acknowledged"),
    });
    let settled = bench.settle(reports).await;
    assert_eq!(settled.verdicts, [Verdict::Accepted, Verdict::Duplicate]);
    assert_eq!(bench.value().await.unwrap().as_str(), "[1]");
    assert_eq!(bench.receive("quick", 1).await.len(), 0);
}

pub async fn a_leaf_that_is_reported_while_it_waits_to_come_again_does_not_come_again(subject: &dyn Subject) {
    let bench = queued(subject, &["a", "b", "c"]).await;
    let [back, slow] = bench.receive("w", 2).await.try_into().expect("there are two");
    subject.backend().hand_back(&worker("w"), std::slice::from_ref(&back.id)).await.unwrap();
    subject.backend().finish(&[(back.id, bench.success(0, 1))]).await.unwrap();
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(5).await.unwrap().redelivered, 1);
    subject.backend().finish(&[(slow.id, bench.success(1, 2))]).await.unwrap();
    let left = bench.receive("w", 9).await;
    assert_eq!(left.iter().map(|delivery| delivery.message.task.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(clear_events(subject).await.len(), 2);
}

pub async fn what_comes_again_comes_before_all_that_is_new(subject: &dyn Subject) {
    let bench = queued(subject, &["a", "b", "c", "d"]).await;
    let held: Vec<_> = bench.receive("w", 3).await.into_iter().map(|delivery| delivery.id).collect();
    subject.backend().hand_back(&worker("w"), &held).await.unwrap();
    // Reported while it waits: it is gone, and the next one takes its place.
    subject.backend().finish(&[(held[0].clone(), bench.success(0, 1))]).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.extend(bench.receive("w", 1).await.iter().map(|delivery| delivery.message.task.to_string()));
    }
    assert_eq!(tasks, ["b", "c", "d"]);
}

pub async fn whoever_held_them_all_leaves_come_again_in_one_sweep(subject: &dyn Subject) {
    let names: Vec<String> = (0..900).map(|number| format!("t{number}")).collect();
    let bench = queued(subject, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for name in ["u", "v", "w"] {
        assert_eq!(bench.receive(name, 300).await.len(), 300);
    }
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(5).await.unwrap().redelivered, 900);
    let mut again: Vec<_> = take_all(&bench, "x").await.iter().map(|d| d.message.task_id).collect();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), 900);
}

pub async fn leaves_of_a_higher_priority_go_first_and_bulk_goes_last(subject: &dyn Subject) {
    let bench = Bench::submit(subject, Canvas::group(sigs(&["a", "b", "c", "d", "e"]))).await;
    let lanes = [(0, true), (0, false), (9, true), (3, false), (9, false)];
    let mut leaves = bench.leaves(&[0, 1, 2, 3, 4].map(|index| bench.release(index))).await;
    for (leaf, (priority, is_bulk)) in leaves.iter_mut().zip(lanes) {
        leaf.lane = Lane::new(priority, is_bulk);
    }
    assert_eq!(subject.backend().dispatch(bench.run, &leaves).await.unwrap(), 5);
    let mut taken = bench.receive("w", 2).await;
    // What comes again keeps its place.
    subject.backend().hand_back(&worker("w"), std::slice::from_ref(&taken[0].id)).await.unwrap();
    taken.remove(0);
    for _ in 0..4 {
        taken.extend(bench.receive("w", 1).await);
    }
    let tasks: Vec<_> = taken.iter().map(|delivery| delivery.message.task.as_str()).collect();
    assert_eq!(tasks, ["c", "e", "d", "b", "a"]);
    let done: Vec<_> = taken.iter().map(|d| (d.id.clone(), bench.success(0, 0))).collect();
    subject.backend().finish(&done).await.unwrap();
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(5).await.unwrap().redelivered, 0);
}

pub async fn a_lane_that_never_empties_does_not_hold_up_the_others_for_ever(subject: &dyn Subject) {
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let bench =
        Bench::submit(subject, Canvas::group(sigs(&names.iter().map(String::as_str).collect::<Vec<_>>())))
            .await;
    let releases: Vec<_> = (0..20).map(|index| bench.release(index)).collect();
    let mut leaves = bench.leaves(&releases).await;
    for leaf in &mut leaves[..18] {
        leaf.lane = Lane::new(9, false);
    }
    subject.backend().dispatch(bench.run, &leaves).await.unwrap();
    let (name, queues) = (worker("w"), [DEFAULT_QUEUE.into()]);
    let mut tasks = Vec::new();
    for receive in 0..8 {
        let order = LaneOrder::of(receive);
        let taken =
            subject.backend().receive(&name, &queues, Take::new(1, LEASE).order(order)).await.unwrap();
        tasks.extend(taken.iter().map(|delivery| delivery.message.task.to_string()));
    }
    assert!(tasks.contains(&"t18".to_owned()), "{tasks:?}");
}

pub async fn a_leaf_that_kills_its_workers_ends_as_worker_lost(subject: &dyn Subject) {
    let bench = Bench::submit(subject, Canvas::chord(sigs(&["poison", "b"]), sig("body"))).await;
    bench.dispatch(&[bench.release(0)]).await;
    clear_events(subject).await;
    for round in 1..=3 {
        let taken = bench.receive("w", 1).await.remove(0);
        assert_eq!((taken.deliveries, taken.must_ask(), taken.is_suspect()), (round, round > 1, round > 2));
        assert_eq!(bench.backend().begin(&worker("w"), &taken, false).await.unwrap(), Begin::Run);
        subject.pass(LEASE * 2).await;
        let swept = subject.backend().sweep(3).await.unwrap();
        let expect = if round < 3 { (1, 0) } else { (0, 1) };
        assert_eq!((swept.redelivered, swept.lost), expect, "round {round}");
    }
    let lost = bench.completion(0, Outcome::WorkerLost { deliveries: 3 });
    assert_eq!(clear_events(subject).await, [Event::Completed(lost.clone())]);
    assert!(bench.settle([lost, bench.completion(1, Outcome::Success(json(1)))]).await.decided);
    assert_eq!(bench.receive("w", 1).await.len(), 0);
}
