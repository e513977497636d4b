//! Plans that are at hand, and that they go with their runs.

use std::time::Duration;

use celeriac_backends::{Advance, Advanced};
use celeriac_dsl::{Flow, TaskContext, chord, group, task, tasks};
use celeriac_engine::{Plan, Verdict};
use celeriac_primitives::{Canvas, Completion, NodeNo, Outcome, RunRef, TaskError};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, WorkerOptions};
use celeriac_testkit::{Cluster, Server};

/// More leaves than those of runs that know themselves whom their leaves count down.
const MANY: i64 = 40;

#[task(crate = celeriac_dsl, name = "plans.plus")]
async fn plus(x: i64, y: i64) -> i64 {
    x + y
}

#[task(crate = celeriac_dsl, name = "plans.sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(crate = celeriac_dsl, name = "plans.fails")]
async fn fails(_x: i64) -> Result<i64, TaskError> {
    Err(TaskError::new("Wrong", "as it is to be"))
}

#[task(crate = celeriac_dsl, name = "plans.replaced")]
async fn replaced(x: i64, context: TaskContext) -> Result<i64, TaskError> {
    context.replace(chord((0..MANY).map(|i| plus.s((x, i))).collect::<Vec<_>>(), sum.s(())))
}

/// Is replaced by what is replaced in its turn.
#[task(crate = celeriac_dsl, name = "plans.nested")]
async fn nested(x: i64, context: TaskContext) -> Result<i64, TaskError> {
    context.replace(group((0..MANY).map(|i| plus.s((x, i))).collect::<Vec<_>>()) | sum.s(()) | replaced.s(()))
}

async fn app(url: &str) -> App {
    let backend = RedisBackend::builder(url).prefix("plans").connect().await.expect("it answers");
    App::builder("plans")
        .tasks(tasks![plus, sum, fails, replaced, nested])
        .backend(backend)
        .build()
        .expect("all is there")
}

fn plain<I, O, F>(flow: Flow<I, O, F>) -> Canvas {
    flow.untyped().expect("numbers have a JSON form")
}

/// One of each kind of end.
fn canvases() -> Vec<Canvas> {
    let many = || (0..MANY).map(|i| plain(plus.s((i, 1)))).collect::<Vec<_>>();
    let chord = || Canvas::chord(many(), plain(sum.s(())));
    let steps = (1..MANY).map(|i| plain(plus.s(i)));
    let (mut with_callback, mut with_errback) = (chord(), Canvas::chain([chord(), plain(fails.s(()))]));
    with_callback.link(plain(fails.s(())));
    with_errback.link_error(plain(plus.si((1, 1))));
    vec![
        plain(plus.s((1, 1))),
        chord(),
        Canvas::chain(std::iter::once(plain(plus.s((1, 1)))).chain(steps)),
        Canvas::group((0..MANY).map(|i| plain(fails.s(i)))),
        with_callback,
        with_errback,
        plain(replaced.s(1)),
        plain(nested.s(1)),
        Canvas::group(Vec::new()),
    ]
}

/// Runs of each kind to their end, several times; returns all of them, with their segments.
async fn ended(client: &App, times: usize) -> Vec<(RunRef, Vec<NodeNo>)> {
    let mut runs = Vec::new();
    for _ in 0..times {
        for canvas in canvases() {
            let run = client.submit(canvas).await.unwrap();
            // Some are to fail.
            let _ = run.get_json(None).await;
            run.ended().await.unwrap();

            runs.push((run.run(), nodes(run.plan())));
            let segments = run.segments().await.unwrap();
            runs.extend(segments.iter().map(|(_, run)| (run.run(), nodes(run.plan()))));
        }
    }
    runs
}

fn nodes(plan: &Plan) -> Vec<NodeNo> {
    plan.nodes().map(|(node, _)| node).collect()
}

#[track_caller]
fn check_none_is_at_hand(app: &App, runs: &[(RunRef, Vec<NodeNo>)]) {
    let kept = runs.iter().filter(|(run, _)| app.backend().plan_at_hand(*run).is_some()).count();
    assert_eq!(kept, 0, "of {} plans", runs.len());
}

async fn nobody_keeps_the_plans_of_runs_that_have_ended(url: String) {
    let (client, other) = (app(&url).await, app(&url).await);
    let coordinator = other.coordinator(CoordinatorOptions::default());
    let worker = client.worker(WorkerOptions::default());
    let runs = ended(&client, 3).await;
    assert!(runs.len() > 3 * canvases().len(), "there are segments");
    worker.shutdown(Duration::ZERO).await;
    coordinator.shutdown().await;
    check_none_is_at_hand(&client, &runs);
    check_none_is_at_hand(&other, &runs);
    // What comes late is judged without them.
    for (run, nodes) in &runs {
        let late = |node: &NodeNo| {
            let (task_id, incarnation) = (run.task(*node), run.incarnation);
            Completion { task_id, attempt: 1, outcome: Outcome::Ignored, incarnation }
        };
        let advance = Advance::new(*run, nodes.iter().map(late).collect());
        for answer in other.backend().settle(&[advance]).await.unwrap() {
            let Advanced::Settled { settled, .. } = answer.unwrap() else { panic!("{run} is there") };
            assert!(settled.ended && settled.released.is_empty());
            assert!(!settled.verdicts.contains(&Verdict::Accepted), "{:?}", settled.verdicts);
        }
    }
    check_none_is_at_hand(&other, &runs);
    // Nor does who looks at them.
    let (run, _) = &runs[1];
    let found = other.run::<i64>(run.id).await.unwrap().expect("it is there");
    found.get_json(None).await.unwrap();
    drop(found);
    check_none_is_at_hand(&other, &runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_the_plans_of_runs_that_have_ended_on_one_server() {
    let server = Server::start();
    nobody_keeps_the_plans_of_runs_that_have_ended(server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_the_plans_of_runs_that_have_ended_on_a_cluster() {
    let cluster = Cluster::start();
    nobody_keeps_the_plans_of_runs_that_have_ended(cluster.url()).await;
}

/// A client that forgets what it has submitted, whatever it has come to.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_keep_what_it_forgets() {
    let server = Server::start();
    let client = app(&server.url()).await;
    let mut runs = Vec::new();
    for canvas in canvases() {
        let run = client.submit(canvas).await.unwrap();
        runs.push((run.run(), Vec::new()));
        run.forget().await.unwrap();
    }
    check_none_is_at_hand(&client, &runs);
}

/// An embedded app has the plan of what it has submitted at hand.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_submitted_here_is_at_hand_until_it_ends() {
    let server = Server::start();
    let client = app(&server.url()).await;
    let run = client.submit(canvases().swap_remove(1)).await.unwrap();
    let known = run.run();
    drop(run);
    assert!(client.backend().plan_at_hand(known).is_some());
}
