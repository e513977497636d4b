//! Reports on leaves in bulk, which give way to all other events.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{Delivery, DeliveryId, Dispatch, Lane};
use celeriac_primitives::{Canvas, LeafOptions, Outcome, RunRef, TaskMessage, When};

use crate::Subject;
use crate::bench::{Bench, LEASE, SOON, clear_events, events, json, sigs};

/// A run of so many leaves, all queued, in bulk or not. That it was submitted is done with.
async fn queued(subject: &dyn Subject, number: u64, count: usize, is_bulk: bool) -> Bench<'_> {
    queued_until(subject, number, count, is_bulk, None).await
}

async fn queued_until(
    subject: &dyn Subject,
    number: u64,
    count: usize,
    is_bulk: bool,
    expires_ms: Option<u64>,
) -> Bench<'_> {
    let bench = Bench::submit_as(subject, number, Canvas::group(sigs(&vec!["a"; count]))).await;
    assert_eq!(clear_events(subject).await.len(), 1);
    let releases: Vec<_> = (0..count).map(|index| bench.release(index)).collect();
    let mut leaves = bench.leaves(&releases).await;
    for Dispatch { message, lane, .. } in &mut leaves {
        let options = LeafOptions { expires: expires_ms.map(When::At), ..LeafOptions::default() };
        *message = Arc::new(TaskMessage { options: Some(Arc::new(options)), ..TaskMessage::clone(message) });
        *lane = Lane::new(0, is_bulk);
    }
    assert_eq!(subject.backend().dispatch(bench.run, &leaves).await.unwrap(), count);
    bench
}

/// Takes all that is queued, and reports that what is of these runs is done.
async fn run_all(bench: &Bench<'_>, runs: &[RunRef]) {
    let taken = bench.receive("w", 1000).await;
    let own = taken.into_iter().filter(|delivery| runs.contains(&delivery.message.run()));
    let report = |delivery: Delivery| {
        let completion = delivery.message.completion(Outcome::Success(json(1)));
        (delivery.id, completion)
    };
    let done: Vec<(DeliveryId, _)> = own.map(report).collect();
    bench.backend().finish(&done).await.unwrap();
}

/// Takes a few events and acknowledges them; of which runs they are.
async fn a_few(subject: &dyn Subject, max: usize) -> Vec<RunRef> {
    let taken = subject.backend().events(max, LEASE, SOON).await.unwrap();
    let ids: Vec<_> = taken.iter().map(|delivery| delivery.id).collect();
    subject.backend().acknowledge(&ids).await.unwrap();
    taken.iter().map(|delivery| delivery.event.run()).collect()
}

/// Forty reports in bulk wait. A small run is submitted, runs, and reports: its reports are among the first
/// that come, whichever line has the first turn, and all the others come, too.
async fn a_small_run_passes(subject: &dyn Subject, huge: &Bench<'_>) {
    let small = Bench::submit_as(subject, 2, Canvas::group(sigs(&["a"; 6]))).await;
    assert_eq!(small.dispatch_outbox().await, 6);
    run_all(&small, &[small.run]).await;
    // Nobody has to have heard of them for this.
    subject.backend().sweep(5).await.unwrap();
    let (mut of_small, mut of_huge) = (0, 0);
    while of_small < 6 + 1 {
        let runs = a_few(subject, 4).await;
        assert!(!runs.is_empty(), "{of_small} events of the small run, and {of_huge} others");
        of_small += runs.iter().filter(|run| **run == small.run).count();
        of_huge += runs.iter().filter(|run| **run == huge.run).count();
    }
    assert!(of_huge <= 2 * 4, "{of_huge} reports in bulk came before those of a small run");
    loop {
        let runs = a_few(subject, 4).await;
        if runs.is_empty() {
            break;
        }
        of_huge += runs.len();
    }
    assert_eq!((of_small, of_huge), (7, 40));
}

pub async fn reports_of_small_runs_pass_those_on_leaves_in_bulk(subject: &dyn Subject) {
    let huge = queued(subject, 1, 40, true).await;
    run_all(&huge, &[huge.run]).await;
    a_small_run_passes(subject, &huge).await;
}

pub async fn reports_on_lost_leaves_in_bulk_give_way(subject: &dyn Subject) {
    let huge = queued(subject, 1, 40, true).await;
    assert_eq!(huge.receive("w", 1000).await.len(), 40);
    subject.pass(LEASE * 2).await;
    assert_eq!(subject.backend().sweep(1).await.unwrap().lost, 40);
    a_small_run_passes(subject, &huge).await;
}

pub async fn reports_on_expired_leaves_in_bulk_give_way(subject: &dyn Subject) {
    let expires_ms = subject.backend().now().await.unwrap() + 300;
    let huge = queued_until(subject, 1, 40, true, Some(expires_ms)).await;
    subject.pass(Duration::from_millis(400)).await;
    subject.backend().fire().await.unwrap();
    a_small_run_passes(subject, &huge).await;
}

pub async fn a_report_on_a_leaf_in_bulk_comes_again_until_it_is_acknowledged(subject: &dyn Subject) {
    let huge = queued(subject, 1, 40, true).await;
    run_all(&huge, &[huge.run]).await;
    let held = subject.backend().events(1000, LEASE, SOON).await.unwrap();
    assert_eq!(held.len(), 40);
    let (kept, left) = held.split_first().expect("there are forty");
    for _ in 0..3 {
        subject.pass(LEASE / 2).await;
        subject.backend().renew_events(&[kept.id], LEASE).await.unwrap();
        subject.backend().sweep(5).await.unwrap();
    }
    let again = events(subject).await;
    assert_eq!(again.len(), left.len(), "one was renewed");
    assert!(again.iter().all(|delivery| delivery.deliveries == 2));
    let ids: Vec<_> = again.iter().chain([kept]).map(|delivery| delivery.id).collect();
    subject.backend().acknowledge(&ids).await.unwrap();
    subject.pass(LEASE * 2).await;
    subject.backend().sweep(5).await.unwrap();
    assert_eq!(events(subject).await.len(), 0);
}

/// Waiting, and with a coordinator.
pub async fn a_run_of_which_a_report_in_bulk_is_there_is_not_announced_again(subject: &dyn Subject) {
    let huge = queued(subject, 1, 1, true).await;
    run_all(&huge, &[huge.run]).await;
    assert_eq!(subject.backend().announce_again(&[huge.run]).await.unwrap(), 0);
    let [report] = &events(subject).await[..] else { panic!("it was reported") };
    assert!(report.is_bulk);
    assert_eq!(subject.backend().announce_again(&[huge.run]).await.unwrap(), 0);
    subject.backend().acknowledge(&[report.id]).await.unwrap();
    assert_eq!(subject.backend().announce_again(&[huge.run]).await.unwrap(), 1);
}

/// Small runs never stop reporting; the huge one goes on all the same.
pub async fn reports_on_leaves_in_bulk_are_not_held_up_for_ever(subject: &dyn Subject) {
    let huge = queued(subject, 1, 40, true).await;
    let small = queued(subject, 2, 400, false).await;
    run_all(&huge, &[huge.run, small.run]).await;
    subject.backend().sweep(5).await.unwrap();
    let mut of_huge = Vec::new();
    for _ in 0..32 {
        let runs = a_few(subject, 4).await;
        assert_eq!(runs.len(), 4);
        of_huge.push(runs.iter().filter(|run| **run == huge.run).count());
    }
    let all: usize = of_huge.iter().sum();
    assert!((8..=24).contains(&all), "of 32 times four: {of_huge:?}");
}
