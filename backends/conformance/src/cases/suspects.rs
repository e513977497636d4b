//! Leaves that lost their workers: the one that is why is found, and nobody else pays for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Begin, DEFAULT_QUEUE, Delivery, Event, Lane, NewRun, Take};
use celeriac_engine::Release;
use celeriac_primitives::{Canvas, Completion, Incarnation, NodeNo, Outcome, TaskMessage};

use crate::Subject;
use crate::bench::{Bench, LEASE, clear_events, json, sigs, worker};

/// Leases are short here: nobody renews, and nobody sweeps but the cases.
const SHORT: Duration = Duration::from_millis(50);
const DELIVERIES_MAX: u32 = 3;
const QUEUES: [&str; 3] = [DEFAULT_QUEUE, "other", "third"];

fn queues() -> Vec<Arc<str>> {
    QUEUES.iter().map(|name| Arc::from(*name)).collect()
}

/// A crew whose workers die when they run a culprit.
struct Field<'s> {
    bench: Bench<'s>,
    culprits: BTreeSet<NodeNo>,
    /// Whether a worker begins what it holds beside a culprit before that kills it.
    begins_all: bool,
    deaths: usize,
}

impl<'s> Field<'s> {
    async fn new(subject: &'s dyn Subject, leaves: usize, culprits: &[usize]) -> Self {
        let names: Vec<String> = (0..leaves).map(|number| format!("t{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let bench = Bench::submit(subject, Canvas::group(sigs(&names))).await;
        let culprits = culprits.iter().map(|index| NodeNo::from_index(*index)).collect();
        Self { bench, culprits, begins_all: true, deaths: 0 }
    }

    /// Queues all leaves, each where this says.
    async fn dispatch(&self, place: impl Fn(usize) -> (&'static str, Lane)) {
        let released: Vec<Release> =
            self.bench.backend().outbox(self.bench.run).await.expect("reading works");
        let mut leaves = self.bench.leaves(&released).await;
        for (index, leaf) in leaves.iter_mut().enumerate() {
            let (queue, lane) = place(index);
            (leaf.queue, leaf.lane) = (queue.into(), lane);
        }
        self.bench.backend().dispatch(self.bench.run, &leaves).await.expect("dispatch works");
        clear_events(self.bench.subject).await;
    }

    /// One worker after the other, until nothing is left. How each leaf has ended.
    async fn run(&mut self) -> BTreeMap<NodeNo, Outcome> {
        let (subject, backend) = (self.bench.subject, self.bench.backend());
        let mut ended = BTreeMap::new();
        let leaves =
            self.bench.plan.nodes().filter(|(node, _)| self.bench.plan.leaf(*node).is_some()).count();
        for number in 0.. {
            assert!(number < 40 * leaves, "no end: {ended:?}");
            let name = worker(&format!("w{number}"));
            loop {
                let take = Take::new(64, SHORT);
                let taken = backend.receive(&name, &queues(), take).await.expect("receive works");
                if taken.is_empty() {
                    break;
                }
                let Some(done) = self.work(&name, taken).await else {
                    self.deaths += 1;
                    break;
                };
                backend.finish(&done).await.expect("finish works");
            }
            for event in clear_events(subject).await {
                let Event::Completed(Completion { task_id, outcome, .. }) = event else { continue };
                assert!(ended.insert(task_id.node(), outcome).is_none(), "it has ended twice");
            }
            if ended.len() == leaves {
                return ended;
            }
            subject.pass(SHORT * 2).await;
            backend.sweep(DELIVERIES_MAX).await.expect("sweep works");
        }
        unreachable!("the loop has no end but these")
    }

    /// What a worker does with what it took: `None` when it dies of it.
    async fn work(
        &self,
        name: &celeriac_backends::WorkerId,
        taken: Vec<Delivery>,
    ) -> Option<Vec<(celeriac_backends::DeliveryId, Completion)>> {
        let kills = |delivery: &Delivery| self.culprits.contains(&delivery.message.task_id.node());
        let begin = async |delivery: &Delivery| {
            let begin = self.bench.backend().begin(name, delivery, false).await.expect("begin works");
            assert_eq!(begin, Begin::Run);
        };
        if let Some(suspect) = taken.iter().find(|delivery| delivery.is_suspect()) {
            assert!(taken.iter().filter(|delivery| delivery.is_suspect()).count() == 1, "one at a time");
            // It runs alone.
            if self.begins_all || kills(suspect) {
                begin(suspect).await;
            }
            if kills(suspect) {
                return None;
            }
        }
        let beside = || taken.iter().filter(|delivery| !delivery.is_suspect());
        for delivery in beside().filter(|delivery| delivery.must_ask()) {
            if self.begins_all || kills(delivery) {
                begin(delivery).await;
            }
        }
        if beside().any(kills) {
            return None;
        }
        let done = |delivery: Delivery| {
            let done = delivery.message.completion(Outcome::Success(json(1)));
            (delivery.id, done)
        };
        Some(taken.into_iter().map(done).collect())
    }

    /// The culprits are lost, and they alone.
    async fn check(mut self) {
        let lost = Outcome::WorkerLost { deliveries: DELIVERIES_MAX };
        for (node, outcome) in self.run().await {
            let expect = if self.culprits.contains(&node) { lost.clone() } else { Outcome::Success(json(1)) };
            assert_eq!(outcome, expect, "{node}, after {} deaths", self.deaths);
        }
        assert!(self.deaths > 0);
    }
}

fn here(_: usize) -> (&'static str, Lane) {
    (DEFAULT_QUEUE, Lane::default())
}

pub async fn a_leaf_that_kills_its_workers_takes_nobody_with_it(subject: &dyn Subject) {
    let field = Field::new(subject, 21, &[7]).await;
    field.dispatch(here).await;
    field.check().await;
}

pub async fn what_was_only_held_beside_a_culprit_is_not_counted(subject: &dyn Subject) {
    let mut field = Field::new(subject, 21, &[0]).await;
    field.begins_all = false;
    field.dispatch(here).await;
    field.check().await;
}

pub async fn two_culprits_are_found_among_the_others(subject: &dyn Subject) {
    let field = Field::new(subject, 12, &[0, 11]).await;
    field.dispatch(here).await;
    field.check().await;
}

pub async fn five_culprits_are_found_among_the_others(subject: &dyn Subject) {
    let field = Field::new(subject, 20, &[1, 2, 3, 10, 19]).await;
    field.dispatch(here).await;
    field.check().await;
}

pub async fn culprits_in_several_queues_and_lanes_are_found(subject: &dyn Subject) {
    let field = Field::new(subject, 18, &[0, 4, 8]).await;
    let lanes = [Lane::default(), Lane::new(9, false), Lane::new(0, true)];
    field.dispatch(|index| (QUEUES[index % 3], lanes[index / 3 % 3])).await;
    field.check().await;
}

/// Their tasks and how often they were delivered.
fn seen(taken: &[Delivery]) -> Vec<(&str, u32)> {
    taken.iter().map(|one| (one.message.task.as_str(), one.deliveries)).collect()
}

/// Has so many leaves begin in a worker that is lost.
async fn lose(bench: &Bench<'_>, count: usize) {
    let taken = bench.receive("lost", count).await;
    assert_eq!(taken.len(), count);
    for delivery in taken.iter().filter(|delivery| delivery.must_ask()) {
        assert_eq!(bench.backend().begin(&worker("lost"), delivery, false).await.unwrap(), Begin::Run);
    }
    bench.subject.pass(LEASE * 2).await;
    assert_eq!(bench.backend().sweep(9).await.unwrap().redelivered, count);
}

pub async fn a_worker_has_one_suspect_at_a_time_and_none_when_it_says_so(subject: &dyn Subject) {
    let field = Field::new(subject, 4, &[]).await;
    field.dispatch(here).await;
    let (bench, backend) = (&field.bench, subject.backend());
    lose(bench, 3).await;
    lose(bench, 3).await;
    let take = Take::new(9, LEASE);
    let others = backend.receive(&worker("w"), &queues(), take.suspects(false)).await.unwrap();
    assert_eq!(seen(&others), [("t3", 1)]);
    for expect in ["t0", "t1", "t2"] {
        assert_eq!(backend.receive(&worker("v"), &queues(), take.suspects(false)).await.unwrap().len(), 0);
        let one = backend.receive(&worker("v"), &queues(), take).await.unwrap();
        assert_eq!(seen(&one), [(expect, 3)]);
    }
}

pub async fn leaves_that_have_lost_one_worker_come_together_and_before_new_ones(subject: &dyn Subject) {
    let field = Field::new(subject, 5, &[]).await;
    field.dispatch(here).await;
    lose(&field.bench, 3).await;
    let take = Take::new(9, LEASE).suspects(false);
    let taken = subject.backend().receive(&worker("w"), &queues(), take).await.unwrap();
    assert_eq!(seen(&taken), [("t0", 2), ("t1", 2), ("t2", 2), ("t3", 1), ("t4", 1)]);
}

pub async fn what_was_handed_back_comes_before_what_has_lost_one_worker(subject: &dyn Subject) {
    let field = Field::new(subject, 5, &[]).await;
    field.dispatch(here).await;
    let (bench, backend) = (&field.bench, subject.backend());
    lose(bench, 2).await;
    let taken = bench.receive("w", 4).await;
    assert_eq!(seen(&taken), [("t0", 2), ("t1", 2), ("t2", 1), ("t3", 1)]);
    let ids: Vec<_> = taken[1..3].iter().map(|one| one.id.clone()).collect();
    backend.hand_back(&worker("w"), &ids).await.unwrap();
    assert_eq!(seen(&bench.receive("v", 9).await), [("t1", 2), ("t2", 1), ("t4", 1)]);
}

pub async fn a_suspect_is_counted_when_it_begins_and_not_when_it_is_taken(subject: &dyn Subject) {
    let field = Field::new(subject, 1, &[]).await;
    field.dispatch(here).await;
    let (bench, backend) = (&field.bench, subject.backend());
    let mut seen = Vec::new();
    for begins in [true, false, false, true, true] {
        let taken = bench.receive("w", 1).await.remove(0);
        seen.push(taken.deliveries);
        for _ in 0..if begins { 2 } else { 0 } {
            // Asking again does not count again.
            assert_eq!(backend.begin(&worker("w"), &taken, false).await.unwrap(), Begin::Run);
        }
        subject.pass(LEASE * 2).await;
        assert_eq!(backend.sweep(9).await.unwrap().redelivered, 1);
    }
    assert_eq!(seen, [1, 2, 2, 2, 3]);
}

pub async fn a_suspect_that_is_handed_back_is_the_next_and_stays_one(subject: &dyn Subject) {
    let field = Field::new(subject, 4, &[]).await;
    field.dispatch(here).await;
    let (bench, backend) = (&field.bench, subject.backend());
    lose(bench, 2).await;
    lose(bench, 2).await;
    for begins in [false, true] {
        let taken = bench.receive("w", 2).await;
        assert_eq!(seen(&taken), [("t0", 3), ("t2", 1)]);
        if begins {
            assert_eq!(backend.begin(&worker("w"), &taken[0], false).await.unwrap(), Begin::Run);
        }
        let ids: Vec<_> = taken.into_iter().map(|one| one.id).collect();
        backend.hand_back(&worker("w"), &ids).await.unwrap();
    }
}

pub async fn whoever_comes_back_before_another_has_it_keeps_it(subject: &dyn Subject) {
    let field = Field::new(subject, 2, &[]).await;
    field.dispatch(here).await;
    let (bench, backend) = (&field.bench, subject.backend());
    let held: Vec<_> = bench.receive("w", 2).await.into_iter().map(|one| one.id).collect();
    subject.pass(LEASE * 2).await;
    assert_eq!(backend.sweep(5).await.unwrap().redelivered, 2);
    let others = bench.receive("v", 1).await;
    assert_eq!(others[0].message.task.as_str(), "t0");
    backend.renew(&worker("w"), &held, LEASE * 10).await.unwrap();
    assert_eq!(bench.receive("v", 9).await.len(), 0, "the other one is held again");
    // It is not a second time in the line either.
    backend.hand_back(&worker("w"), &held).await.unwrap();
    assert_eq!(bench.receive("v", 9).await.len(), 1);
    assert_eq!(bench.receive("v", 9).await.len(), 0);
}

async fn once<'s>(subject: &'s dyn Subject) -> (Bench<'s>, Delivery) {
    let field = Field::new(subject, 1, &[]).await;
    field.dispatch(here).await;
    let delivery = field.bench.receive("w", 1).await.remove(0);
    (field.bench, delivery)
}

pub async fn a_leaf_that_runs_once_at_most_begins_again_only_for_the_same_worker(subject: &dyn Subject) {
    let (bench, delivery) = once(subject).await;
    for _ in 0..2 {
        assert_eq!(bench.backend().begin(&worker("w"), &delivery, true).await.unwrap(), Begin::Run);
    }
    assert_eq!(bench.backend().begin(&worker("v"), &delivery, true).await.unwrap(), Begin::Gone);
    subject.pass(LEASE * 2).await;
    assert_eq!(bench.backend().sweep(5).await.unwrap().redelivered, 1);
    let again = bench.receive("v", 1).await.remove(0);
    assert_eq!(bench.backend().begin(&worker("v"), &again, true).await.unwrap(), Begin::Begun);
    assert_eq!(bench.backend().begin(&worker("w"), &delivery, true).await.unwrap(), Begin::Gone, "too late");
}

pub async fn a_leaf_that_runs_once_at_most_and_was_only_held_begins(subject: &dyn Subject) {
    let (bench, _) = once(subject).await;
    for name in ["v", "u"] {
        subject.pass(LEASE * 2).await;
        assert_eq!(bench.backend().sweep(5).await.unwrap().redelivered, 1);
        let again = bench.receive(name, 1).await.remove(0);
        assert_eq!(again.deliveries, 2);
        if name == "u" {
            assert_eq!(bench.backend().begin(&worker(name), &again, true).await.unwrap(), Begin::Run);
        }
    }
}

pub async fn a_leaf_that_runs_once_at_most_and_was_handed_back_begins(subject: &dyn Subject) {
    let (bench, delivery) = once(subject).await;
    bench.backend().hand_back(&worker("w"), &[delivery.id]).await.unwrap();
    let again = bench.receive("v", 1).await.remove(0);
    assert_eq!(bench.backend().begin(&worker("v"), &again, true).await.unwrap(), Begin::Run);
}

pub async fn another_attempt_of_a_leaf_that_runs_once_at_most_begins_by_itself(subject: &dyn Subject) {
    let (bench, first) = once(subject).await;
    let backend = bench.backend();
    assert_eq!(backend.begin(&worker("w"), &first, true).await.unwrap(), Begin::Run);
    let message = TaskMessage { attempt: 2, ..TaskMessage::clone(&first.message) };
    let second = Delivery { message: Arc::new(message), ..first.clone() };
    assert_eq!(backend.begin(&worker("w"), &second, true).await.unwrap(), Begin::Run);
    assert_eq!(backend.begin(&worker("w"), &first, true).await.unwrap(), Begin::Gone, "it is not the last");
}

pub async fn no_leaf_that_runs_once_at_most_begins_for_a_run_that_is_forgotten(subject: &dyn Subject) {
    let (bench, delivery) = once(subject).await;
    bench.backend().forget(bench.run).await.unwrap();
    assert_eq!(bench.backend().begin(&worker("w"), &delivery, true).await.unwrap(), Begin::Gone);
    subject.pass(LEASE * 2).await;
    assert_eq!(bench.backend().sweep(5).await.unwrap().redelivered, 0, "it is taken out of its queue");
}

pub async fn a_forgotten_run_takes_its_marks_with_it(subject: &dyn Subject) {
    let (bench, delivery) = once(subject).await;
    assert_eq!(bench.backend().begin(&worker("w"), &delivery, true).await.unwrap(), Begin::Run);
    bench.backend().forget(bench.run).await.unwrap();
    bench.backend().finish(&[(delivery.id, bench.success(0, 1))]).await.unwrap();
    clear_events(subject).await;
    let run = bench.run.id.incarnation(Incarnation::new(2));
    let again = Bench { subject, run, plan: bench.plan.clone() };
    again.backend().submit(NewRun::new(run, again.plan.clone())).await.unwrap();
    again.dispatch_outbox().await;
    let delivery = again.receive("w", 1).await.remove(0);
    assert_eq!(again.backend().begin(&worker("w"), &delivery, true).await.unwrap(), Begin::Run);
}
