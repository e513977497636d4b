//! Reports that the backend refuses for good: their leaves fail, those beside them are settled, and nobody
//! tries for ever. And those that it refuses until something is mended: they are kept, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::backends::{Dispatch, ErrorKind};
use celeriac::engine::view::Standing;
use celeriac::prelude::*;
use celeriac::primitives::{Completion, Outcome};

use crate::flaky::{Flaky, Refusal};

/// One of the values cannot be reported.
const BAD: u64 = 13;

#[task(name = "refused.value")]
async fn value(number: u64, calls: State<Arc<AtomicUsize>>) -> u64 {
    calls.fetch_add(1, Ordering::SeqCst);
    // All end at the same time: one batch.
    tokio::time::sleep(Duration::from_millis(100)).await;
    number
}

#[task(name = "refused.rescued")]
async fn rescued(failure: Failure) -> String {
    failure.error.kind
}

fn is_bad(completion: &Completion) -> bool {
    matches!(&completion.outcome, Outcome::Success(text) if text.as_str() == "13")
}

/// Nor can it be said that it cannot.
fn is_bad_or_says_so(completion: &Completion) -> bool {
    is_bad(completion)
        || matches!(&completion.outcome, Outcome::Failed(error) if error.kind == "BackendError")
}

struct House {
    app: App,
    calls: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    is_mended: Arc<AtomicBool>,
    _coordinator: celeriac::runtime::Coordinator,
    worker: celeriac::runtime::Worker,
}

fn house(kind: ErrorKind, refuses: fn(&Completion) -> bool) -> House {
    house_that_refuses(kind, refuses, |_| false, false)
}

fn house_that_refuses(
    kind: ErrorKind,
    refuses: fn(&Completion) -> bool,
    leaves: fn(&Dispatch) -> bool,
    renewals: bool,
) -> House {
    let (calls, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let is_mended = Arc::<AtomicBool>::default();
    let refusal =
        Refusal { refused: refused.clone(), is_mended: is_mended.clone(), kind, refuses, leaves, renewals };
    let flaky = Flaky::refusing(refusal);
    let app = App::builder("refused").tasks(tasks![value, rescued]).state(calls.clone()).build().unwrap();
    let app = app.on(Arc::new(flaky));
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let mut options = WorkerOptions::default().concurrency(64);
    if renewals {
        // While a leaf runs, its lease is to be renewed.
        options.lease = Duration::from_millis(90);
    }
    let worker = app.worker(options);
    House { app, calls, refused, is_mended, _coordinator, worker }
}

/// What says nothing of a report: it may be taken later.
const FOR_NOW: [ErrorKind; 2] = [ErrorKind::Denied, ErrorKind::Corrupt];

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_fails_its_leaf_at_once() {
    let house = house(ErrorKind::TooLarge, is_bad);
    let run = house.app.submit(value.s(BAD)).await.unwrap();
    let error = run.get_timeout(Duration::from_secs(5)).await.unwrap_err();
    let error = error.task_error().unwrap();
    assert_eq!(error.kind, "BackendError");
    assert!(error.message.contains("cannot be reported"), "{error}");
    assert_eq!(house.calls.load(Ordering::SeqCst), 1);
}

/// Many leases may pass: the leaf has run, and does not run again.
#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_for_now_is_kept_and_taken_when_that_is_mended() {
    for kind in FOR_NOW {
        let house = house(kind, is_bad);
        let bad = house.app.submit(value.s(BAD)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!bad.ready().await.unwrap());
        let complaint = house.worker.vitals().complaint().expect("it is said");
        assert!(complaint.contains(&kind.to_string()), "{complaint}");
        house.is_mended.store(true, Ordering::SeqCst);
        assert_eq!(bad.get_timeout(Duration::from_secs(2)).await.unwrap(), BAD);
        assert_eq!(house.app.submit(value.s(1)).await.unwrap().get().await.unwrap(), 1);
        assert_eq!((house.calls.load(Ordering::SeqCst), house.worker.vitals().complaint()), (2, None));
    }
}

/// What is refused of one queue is tried again together, and not one after the other.
#[tokio::test(start_paused = true)]
async fn many_reports_that_are_refused_for_now_cost_no_more_than_one() {
    let house = house(ErrorKind::Denied, |_| true);
    let run = house.app.submit(group((0..50).map(|number| value.s(number)))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refused = house.refused.load(Ordering::SeqCst);
    assert!((60..=2 * 121 + 2 * 50).contains(&refused), "{refused} times in a minute");
    house.is_mended.store(true, Ordering::SeqCst);
    assert_eq!(run.get_timeout(Duration::from_secs(2)).await.unwrap(), (0..50).collect::<Vec<_>>());
    assert_eq!(house.calls.load(Ordering::SeqCst), 50);
}

/// What it held has ended before it might renew again: then nothing tells it that it may.
#[tokio::test(start_paused = true)]
async fn a_worker_that_may_not_renew_takes_leaves_again_when_it_holds_none() {
    let house = house_that_refuses(ErrorKind::Denied, |_| false, |_| false, true);
    for number in 0..3 {
        let run = house.app.submit(value.s(number)).await.unwrap();
        assert_eq!(run.get_timeout(Duration::from_secs(2)).await.unwrap(), number);
    }
    house.is_mended.store(true, Ordering::SeqCst);
    let run = house.app.submit(value.s(3)).await.unwrap();
    assert_eq!(run.get_timeout(Duration::from_secs(2)).await.unwrap(), 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((house.calls.load(Ordering::SeqCst), house.worker.vitals().complaint()), (4, None));
}

/// Whoever stops waits for the permission as long as it waits for leaves; then others run them.
#[tokio::test(start_paused = true)]
async fn a_worker_that_may_not_report_stops_all_the_same() {
    let house = house(ErrorKind::Denied, is_bad);
    let bad = house.app.submit(value.s(BAD)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let House { app, worker, is_mended, .. } = house;
    let stopped = tokio::time::timeout(Duration::from_secs(60), worker.shutdown(Duration::from_secs(10)));
    assert!(stopped.await.is_ok());
    is_mended.store(true, Ordering::SeqCst);
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    assert_eq!(bad.get_timeout(Duration::from_secs(600)).await.unwrap(), BAD);
}

#[tokio::test(start_paused = true)]
async fn those_beside_a_report_that_is_refused_are_settled() {
    let house = house(ErrorKind::TooLarge, is_bad);
    let bad = house.app.submit(value.s(BAD)).await.unwrap();
    let good = house.app.submit(group((0..13).map(|number| value.s(number)))).await.unwrap();
    let mixed = house.app.submit(group((10..20).map(|number| value.s(number)))).await.unwrap();
    assert_eq!(good.get_timeout(Duration::from_secs(5)).await.unwrap(), (0..13).collect::<Vec<_>>());
    assert!(mixed.get_timeout(Duration::from_secs(5)).await.is_err());
    mixed.ended().await.unwrap();
    let nodes = mixed.nodes().await.unwrap();
    let succeeded = nodes.iter().filter(|node| node.standing == Standing::Succeeded).count();
    assert_eq!(succeeded, 9, "the others of its group have their values");
    assert!(bad.get_timeout(Duration::from_secs(5)).await.is_err());
    assert_eq!(house.calls.load(Ordering::SeqCst), 1 + 13 + 10, "each ran once");
}

/// It is a failure like others: callbacks hear of it.
#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_calls_the_error_callback() {
    let house = house(ErrorKind::TooLarge, is_bad);
    let run = house.app.submit(group([value.s(BAD), value.s(1)]).link_error(rescued.s(()))).await.unwrap();
    run.get_timeout(Duration::from_secs(5)).await.unwrap_err();
    run.ended().await.unwrap();
    let ended = run.nodes().await.unwrap().iter().filter(|node| node.standing == Standing::Succeeded).count();
    assert_eq!(ended, 2, "the other one, and the callback");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_refused_is_tried_again_and_again() {
    let house = house(ErrorKind::TooLarge, is_bad);
    house.app.submit(value.s(BAD)).await.unwrap().get().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        house.refused.load(Ordering::SeqCst),
        3,
        "in its batch, with those of its queue, and by itself"
    );
    assert_eq!(house.calls.load(Ordering::SeqCst), 1);
}

/// When not even the failure can be reported, the leaf comes again when its lease has passed, and is given up
/// in the end.
#[tokio::test(start_paused = true)]
async fn a_leaf_of_which_nothing_can_be_reported_is_given_up_and_others_go_on() {
    let house = house(ErrorKind::TooLarge, is_bad_or_says_so);
    let bad = house.app.submit(value.s(BAD)).await.unwrap();
    let good = house.app.submit(value.s(2) | value.si(3)).await.unwrap();
    assert_eq!(good.get_timeout(Duration::from_secs(5)).await.unwrap(), 3);
    let error = bad.get_timeout(Duration::from_secs(3600)).await.unwrap_err();
    assert_eq!(error.task_error().unwrap().kind, "WorkerLostError");
    let calls = house.calls.load(Ordering::SeqCst);
    assert!((2..=2 + 5).contains(&calls), "{calls} calls of three leaves");
}

/// What is too large for the store once is so each time.
#[tokio::test(start_paused = true)]
async fn a_leaf_that_cannot_be_queued_fails_at_once_and_those_beside_it_run() {
    let bad = |leaf: &Dispatch| leaf.message.args.as_str().contains("13");
    for wide in [3, 80] {
        let house = house_that_refuses(ErrorKind::TooLarge, |_| false, bad, false);
        // Coordinators queue these.
        let leaf = |number| value.s(number).set(Options::new().with_countdown(Duration::from_millis(5)));
        let run = house.app.submit(group((12..12 + wide).map(leaf))).await.unwrap();
        let error = run.get_timeout(Duration::from_secs(5)).await.unwrap_err();
        let error = error.task_error().unwrap();
        assert_eq!(error.kind, "LimitError");
        assert!(error.message.contains("the command has 9 bytes"), "{error}");
        run.ended().await.unwrap();
        assert_eq!(house.calls.load(Ordering::SeqCst) as u64, wide - 1, "the others ran, each once");
        assert!(house.refused.load(Ordering::SeqCst) < 5, "nobody tries for ever");
    }
}
