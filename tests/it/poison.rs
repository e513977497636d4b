//! Runs that take their coordinators along: they end, and the others go on.

use std::sync::Arc;
use std::time::Duration;

use celeriac::backends::{Advance, Take, WorkerId};
use celeriac::prelude::*;
use celeriac::primitives::{Json, Outcome};

use crate::flaky::{Flaky, Harm, Poison};

#[task(name = "poison.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "poison.total")]
async fn total(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn app() -> (App, Poison) {
    let (flaky, poison) = Flaky::poisoned();
    let app = App::builder("poison").tasks(tasks![add, total]).build().unwrap();
    (app.on(Arc::new(flaky)), poison)
}

/// Longer than it takes an event to come six times, also when each time its handling never returns.
const LONG: Duration = Duration::from_secs(4000);

/// How a coordinator may be taken along.
const HARMS: [Harm; 2] = [Harm::Panics, Harm::Hangs];

async fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(run: &Handle<T>) -> String {
    match run.get_timeout(LONG).await {
        Err(GetError::Failed(failure)) => failure.error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_body_takes_the_coordinator_along_ends_and_others_go_on() {
    for harm in HARMS {
        let (app, poison) = app();
        let sum = || chord([add.s((1, 1)), add.s((2, 2))], total.s(()));
        let bad = app.submit(sum()).await.unwrap();
        poison.add(bad.id(), "dispatch", harm);
        let others: Vec<_> = futures::future::join_all((0..5).map(|_| app.submit(sum()))).await;
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(WorkerOptions::default());
        for run in others {
            assert_eq!(run.unwrap().get_timeout(LONG).await.unwrap(), 6);
        }
        let error = error(&bad).await;
        assert!(error.contains("could not be advanced in 5 deliveries"), "{harm:?}: {error}");
        let good = app.submit(sum()).await.unwrap();
        assert_eq!(good.get_timeout(Duration::from_secs(10)).await.unwrap(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_submission_takes_the_coordinator_along_ends() {
    for harm in HARMS {
        let (app, poison) = app();
        // So many leaves are not queued by the step that submits.
        let bad = app.submit(group((0..200).map(|n| add.s((n, 1))))).await.unwrap();
        poison.add(bad.id(), "dispatch", harm);
        let _coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(WorkerOptions::default());
        assert!(error(&bad).await.contains("coordinators along"));
        bad.ended().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_even_be_ended_takes_no_coordinator_along_for_ever() {
    for harm in HARMS {
        let (app, poison) = app();
        let bad = app.submit(add.s((1, 1))).await.unwrap();
        poison.add(bad.id(), "settle", harm);
        let coordinator = app.coordinator(CoordinatorOptions::default());
        let _worker = app.worker(WorkerOptions::default());
        tokio::time::sleep(LONG).await;
        assert!(bad.get_timeout(Duration::from_secs(1)).await.is_err());
        assert_eq!(coordinator.vitals().complaint(), None, "{harm:?}: it has peace by now");
        let good = app.submit(add.s((1, 1))).await.unwrap();
        assert_eq!(good.get_timeout(Duration::from_secs(10)).await.unwrap(), 2);
    }
}

/// It is said, and a coordinator that waits for it goes on with the others after a while.
#[tokio::test(start_paused = true)]
async fn a_step_that_never_returns_is_told_and_holds_up_the_others_for_a_while_only() {
    let (app, poison) = app();
    let bad = app.submit(add.s((1, 1))).await.unwrap();
    poison.add(bad.id(), "settle", Harm::Hangs);
    let coordinator = app.coordinator(CoordinatorOptions::default());
    let _worker = app.worker(WorkerOptions::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let good = app.submit(add.s((1, 1))).await.unwrap();
    assert_eq!(good.get_timeout(Duration::from_secs(400)).await.unwrap(), 2);
    let told = coordinator.vitals().complaint().expect("it is said");
    assert!(told.contains("has not returned") && told.contains(&bad.id().to_string()), "{told}");
}

/// What such a run owes is repaired between two deliveries of its event, and that never returns either.
/// What others owe, of which nobody has told, is found all the same.
#[tokio::test(start_paused = true)]
async fn a_repair_that_never_returns_holds_up_no_other() {
    let (app, poison) = app();
    let bad = app.submit(group((0..200).map(|n| add.s((n, 1))))).await.unwrap();
    poison.add(bad.id(), "dispatch", Harm::Hangs);
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    tokio::time::sleep(LONG).await;
    let good = app.submit(add.s((1, 1)) | add.s(1)).await.unwrap();
    let (worker, queues) = (WorkerId::new("by-hand"), ["celery".into()]);
    let take = Take::new(1, Duration::from_secs(60)).wait(Duration::from_secs(60));
    let taken = app.backend().receive(&worker, &queues, take).await.unwrap();
    let done = taken[0].message.completion(Outcome::Success(Json::new(&2).unwrap()));
    app.backend().settle(&[Advance::new(good.run(), vec![done])]).await.unwrap();
    let _worker = app.worker(WorkerOptions::default());
    assert_eq!(good.get_timeout(Duration::from_secs(30)).await.unwrap(), 3);
}

/// Each slice takes longer than a lease, and all of them longer than what never returns is waited for.
#[tokio::test(start_paused = true)]
async fn a_dispatch_that_takes_very_long_is_nobody_elses_as_long_as_it_moves() {
    let (app, poison) = app();
    let slow = app.submit(group((0..10_000).map(|n| add.s((n, 1))))).await.unwrap();
    poison.add(slow.id(), "dispatch", Harm::Takes(Duration::from_secs(100)));
    let start = tokio::time::Instant::now();
    let coordinators = [(); 2].map(|()| app.coordinator(CoordinatorOptions::default()));
    let _worker = app.worker(WorkerOptions::default());
    assert_eq!(slow.get_timeout(LONG).await.unwrap().len(), 10_000);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2000) && took < Duration::from_secs(2100), "{took:?}");
    for coordinator in &coordinators {
        assert_eq!(coordinator.vitals().complaint(), None);
    }
}

/// To take a batch takes a second for one half of the runs, to settle it for the other half.
#[tokio::test(start_paused = true)]
async fn large_reports_are_taken_while_those_before_them_are_settled() {
    #[celeriac::task]
    async fn page(n: usize) -> String {
        n.to_string().repeat(600_000)
    }
    let (flaky, poison) = Flaky::poisoned();
    let app = App::builder("pages").tasks(tasks![page]).build().unwrap().on(Arc::new(flaky));
    let told = app.coordinator(CoordinatorOptions::default());
    let mut runs = Vec::new();
    for n in 0..10 {
        runs.push(app.submit(page.s(n)).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    told.shutdown().await;
    for (n, run) in runs.iter().enumerate() {
        poison.add(run.id(), ["events", "settle"][n % 2], Harm::Takes(Duration::from_secs(1)));
    }
    let _worker = app.worker(WorkerOptions::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    let options = CoordinatorOptions { batch_max: 1, ..CoordinatorOptions::default() };
    let _coordinator = app.coordinator(options);
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run.get().await.unwrap(), n.to_string().repeat(600_000));
    }
    let took = start.elapsed();
    assert!((4.5..7.5).contains(&took.as_secs_f64()), "ten batches of which each takes a second: {took:?}");
}
