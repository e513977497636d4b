//! Whole canvases on Redis, held against the tables and the reference evaluator; wide ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_backends::{Advance, NewRun, Store};
use celeriac_conformance::random::Shape;
use celeriac_conformance::whole::{Crew, Runs};
use celeriac_engine::Plan;
use celeriac_primitives::{Canvas, Completion, Incarnation, NodeNo, OnFailure, Outcome, RunId, Signature};
use celeriac_redis::RedisBackend;
use celeriac_runtime::WorkerOptions;
use celeriac_testkit::{Cluster, Server};

use crate::backend::Backends;
use crate::setting;

const WIDE: usize = 100_000;

fn sig(name: &str) -> Canvas {
    Signature::new(name).expect("a good name").into()
}

/// `identity(0)`, `identity(1)`, …
pub(crate) fn identities(count: usize) -> impl Iterator<Item = Canvas> {
    (0..count).map(|number| {
        let identity = Signature::new("identity").expect("a good name");
        identity.arg(number).expect("a number has a JSON form").into()
    })
}

/// A crew whose worker takes many leaves at once.
pub(crate) fn quick_crew(backend: RedisBackend) -> (Crew, celeriac_runtime::Worker) {
    let crew = Crew::start(backend, 2, 0);
    let worker = crew.app.worker(WorkerOptions::default().concurrency(64).prefetch(1000));
    (crew, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_tables_comes_out_as_it_says() {
    Crew::start(Server::shared().backend().await, 2, 3).check_tables().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_and_run_every_leaf_once() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 2_000));
    let backend = Server::shared().backend().await;
    Crew::start(backend, 2, 3).check_random(first..first + count, &Shape::default()).await;
}

/// Values of more than a few bytes are kept apart: most lists, and all texts.
async fn apart(url: String, prefix: &str) -> RedisBackend {
    let builder = RedisBackend::builder(url).prefix(prefix).inline_bytes_max(3);
    builder.connect().await.expect("the server answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_tables_comes_out_as_it_says_with_values_kept_apart() {
    Crew::start(apart(Server::shared().url(), "rows").await, 2, 3).check_tables().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_with_values_kept_apart() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 300));
    let server = Server::start();
    {
        let crew = Crew::start(apart(server.url(), "apart").await, 2, 3);
        crew.check_random(first..first + count, &Shape::default()).await;
    }
    let left = server.keys("apart:{*-*}:*");
    assert!(left.is_empty(), "forgotten runs leave no texts: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_with_values_kept_apart_on_a_cluster() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 200));
    let backend = apart(Cluster::shared().url(), "apart").await;
    Crew::start(backend, 2, 3).check_random(first..first + count, &Shape::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_tables_comes_out_as_it_says_on_a_cluster() {
    Crew::start(Cluster::shared().backend().await, 2, 3).check_tables().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_canvases_equal_the_reference_evaluator_on_a_cluster() {
    let (first, count) = (setting("CELERIAC_RANDOM_SEED", 1), setting("CELERIAC_RANDOM_COUNT", 2_000));
    let backend = Cluster::shared().backend().await;
    Crew::start(backend, 2, 3).check_random(first..first + count, &Shape::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_group_of_10_000_keeps_its_order() {
    let (crew, _worker) = quick_crew(Server::shared().backend().await);
    let start = Instant::now();
    let run = crew.app.submit(Canvas::group(identities(10_000))).await.unwrap();
    let values: Vec<usize> = run.get_json(None).await.unwrap().to().unwrap();
    println!("10,000 leaves in {:?}", start.elapsed());
    assert!(values.into_iter().eq(0..10_000));
}

/// A list that does not travel with its body, of members that failed and others; on a Cluster, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_wide_list_that_tolerates_reaches_its_body() {
    for backend in [Server::shared().backend().await, Cluster::shared().backend().await] {
        let crew = Crew::start(backend, 2, 3);
        for policy in [OnFailure::Drop, OnFailure::Collect] {
            let header =
                identities(1_200).enumerate().map(|(i, ok)| if i % 7 == 0 { sig("fail") } else { ok });
            let mut chord = Canvas::chord(header, Canvas::group([sig("identity"), sig("echo")]));
            *chord.options_mut() = chord.options().clone().with_on_failure(policy);
            chord.finally(sig("identity"));
            crew.check(&chord, Runs::Once).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chord_of_100_000_runs_to_its_end() {
    let server = Server::start();
    let (crew, _worker) = quick_crew(server.backend().await);
    let start = Instant::now();
    let run = crew.app.submit(Canvas::chord(identities(WIDE), sig("tsum"))).await.unwrap();
    let submitted = start.elapsed();
    let sum = run.get_json(Some(Duration::from_secs(300))).await.unwrap();
    assert_eq!(sum.to::<usize>().unwrap(), WIDE * (WIDE - 1) / 2);
    println!("submitted in {submitted:?}, ended in {:?}", start.elapsed());
    let slowest = server.slowest();
    println!("slowest commands: {slowest:?}");
    // Much more than it takes, and much less than work in proportion to the run would take.
    assert!(slowest.iter().all(|(took, _)| *took < Duration::from_millis(500)), "{slowest:?}");
    run.ended().await.unwrap();
    run.forget().await.unwrap();
    let left = server.keys("*}:[mpsgcao]*").into_iter().filter(|key| !key.contains("{events}"));
    assert_eq!(left.filter(|key| !key.contains("{q:")).count(), 0, "a forgotten run leaves no keys");
}

/// One leaf, or a join, may release very many at once: still in one step.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_are_released_in_the_step_of_their_predecessor() {
    let server = Server::start();
    let backend = server.backend().await;
    let heads = [sig("a"), Canvas::group([sig("a"), sig("b")])];
    for (number, head) in heads.into_iter().enumerate() {
        let plan = Arc::new(Plan::compile(&head.then(Canvas::group((0..WIDE).map(|_| sig("c"))))).unwrap());
        let run = RunId::from_parts(1, number as u64).incarnation(Incarnation::new(1));
        // As long as somebody has a large plan, it is at hand.
        backend.submit(NewRun::new(run, plan.clone())).await.unwrap();
        let first = backend.outbox(run).await.unwrap();
        let done = first.iter().map(|release| Completion {
            task_id: run.task(release.node),
            attempt: 1,
            outcome: Outcome::Ignored,
            incarnation: run.incarnation,
        });
        let advance = Advance::new(run, done.collect());
        let answer = backend.settle(&[advance]).await.unwrap().remove(0).unwrap();
        let settled = answer.settled().unwrap();
        assert_eq!(settled.released.len(), WIDE);
        assert_eq!(settled.released, backend.outbox(run).await.unwrap());
        assert_eq!(settled.released.last().unwrap().node, NodeNo::from_index(number * 2 + WIDE));
        drop(plan);
    }
    println!("slowest commands: {:?}", server.slowest());
}
