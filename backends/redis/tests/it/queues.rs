//! Many queues: what has nothing costs nothing, none waits for another, and what nobody uses goes away.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{
    Dispatch, ErrorKind, Event, EventId, Events, Lane, NewRun, Queue, Store, Take, WorkerId,
};
use celeriac_dsl::{TaskContext, chain, group, task, tasks};
use celeriac_engine::Plan;
use celeriac_primitives::{
    Canvas, Completion, Incarnation, Options, Outcome, RunId, RunRef, Signature, TaskError, TaskMessage,
};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, SubmitError, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::time::{Instant, sleep};

use crate::setting;

const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(100);

/// How long queues are kept in these tests.
const KEPT: Duration = Duration::from_secs(2);

#[task(crate = celeriac_dsl, name = "queues.step")]
async fn step(number: u64) -> u64 {
    number + 1
}

/// A canvas whose leaves go to so many queues takes its place.
#[task(crate = celeriac_dsl, name = "queues.spread")]
async fn spread(ctx: TaskContext, queues: u64) -> Result<Vec<u64>, TaskError> {
    ctx.replace(group((0..queues).map(|number| step.s(number).set(on(&format!("spread{number}"))))))
}

fn on(queue: &str) -> Options {
    Options::new().with_queue(queue).unwrap()
}

async fn backend(url: String) -> RedisBackend {
    let builder = RedisBackend::builder(url).prefix("queues").queues_kept_for(KEPT).queues_max(2_000);
    builder.connect().await.expect("it answers")
}

fn app(backend: RedisBackend) -> App {
    App::builder("queues").tasks(tasks![step, spread]).backend(backend).build().expect("all is there")
}

fn coordinator() -> CoordinatorOptions {
    CoordinatorOptions { sweep_every: Duration::from_millis(200), ..CoordinatorOptions::default() }
}

fn commands(server: &Server) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query(&mut server.connection()).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}

/// Each of very many queues keeps a leaf that nobody takes. Commands inside scripts are counted, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_coordinator_costs_little_whatever_the_number_of_queues() {
    let count = setting("CELERIAC_QUEUES", 300);
    let server = Server::start();
    let app = app(backend(server.url()).await);
    let _coordinator = app.coordinator(CoordinatorOptions::default());
    for first in (0..count).step_by(100) {
        let leaves = first..count.min(first + 100);
        app.submit(group(leaves.map(|number| step.s(0).set(on(&format!("dead{number}")))))).await.unwrap();
    }
    let start = Instant::now();
    // A sweep has to see them twice. Then there are several sweeps, and runs that stand still are looked at.
    sleep(Duration::from_secs(12)).await;
    let before = commands(&server);
    sleep(Duration::from_secs(20)).await;
    let each_second = (commands(&server) - before) / 20;
    println!("{count} queues: {each_second} commands a second");
    assert!(each_second < 150, "{each_second} commands a second with {count} queues");
    // And a chain is not slower for it.
    let _worker = app.worker(WorkerOptions::default());
    let timed = async || {
        let start = Instant::now();
        let run = app.submit(step.s(0) | chain([(); 9].map(|()| step.s(())))).await.unwrap();
        assert_eq!(run.get().await.unwrap(), 10);
        start.elapsed()
    };
    timed().await;
    let took = timed().await.min(timed().await).min(timed().await);
    println!("a chain of ten takes {took:?} beside {count} queues, {:?} after the start", start.elapsed());
    assert!(took < Duration::from_millis(300), "a chain of ten takes {took:?}");
}

/// Reports of a queue that never runs out of them do not hold up those of another, in whatever order they
/// were found.
async fn in_turns(backend: RedisBackend) {
    let full = submitted(&backend, 1, &["full"; 60]).await;
    let few = submitted(&backend, 2, &["few", "last"]).await;
    let announced: Vec<EventId> =
        backend.events(10, LEASE, SOON).await.unwrap().iter().map(|event| event.id).collect();
    backend.acknowledge(&announced).await.unwrap();
    for (run, queue) in [(full, "full"), (few, "few"), (few, "last")] {
        let queues = [queue.into()];
        let worker = WorkerId::new("w");
        let taken = backend.receive(&worker, &queues, Take::new(99, LEASE).wait(SOON)).await.unwrap();
        assert!(taken.iter().all(|delivery| delivery.message.task_id.run() == run.id));
        let done = taken.into_iter().map(|delivery| {
            let TaskMessage { task_id, incarnation, attempt, .. } = *delivery.message;
            (delivery.id, Completion { task_id, incarnation, attempt, outcome: Outcome::Ignored })
        });
        backend.finish(&done.collect::<Vec<_>>()).await.unwrap();
    }
    let (mut all, mut of_few) = (0, 0);
    for _ in 0..4 {
        for delivery in backend.events(10, LEASE, SOON).await.unwrap() {
            all += 1;
            if let Event::Completed(completion) = delivery.event {
                of_few += usize::from(completion.task_id.run() == few.id);
            }
        }
    }
    assert_eq!(of_few, 2, "of {all} reports");
}

/// A run whose leaves go to these queues, dispatched.
async fn submitted(backend: &RedisBackend, number: u64, queues: &[&str]) -> RunRef {
    let leaf = |queue: &&str| Canvas::from(Signature::new("a").unwrap().set(&on(queue)));
    let plan = Arc::new(Plan::compile(&Canvas::group(queues.iter().map(leaf))).unwrap());
    let run = RunId::from_parts(number, number).incarnation(Incarnation::new(number));
    backend.submit(NewRun::new(run, plan.clone())).await.unwrap();
    let released = backend.outbox(run).await.unwrap();
    let known = backend.known(run, &[], &[]).await.unwrap().unwrap();
    let leaves = released.into_iter().map(|release| Dispatch {
        release,
        queue: plan.queue(release.node).unwrap().clone(),
        message: Arc::new(plan.message(run, release, &known).unwrap()),
        start: None,
        lane: Lane::default(),
    });
    backend.dispatch(run, &leaves.collect::<Vec<_>>()).await.unwrap();
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_does_not_hold_up_the_reports_of_others_on_one_server() {
    let server = Server::start();
    in_turns(backend(server.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_does_not_hold_up_the_reports_of_others_on_a_cluster() {
    let cluster = Cluster::start();
    in_turns(backend(cluster.url()).await).await;
}

/// Each of many queues had one run; its name and its keys are gone a little later, and it may come again.
async fn come_and_go(backend: RedisBackend, keys: impl Fn() -> Vec<String>, count: u64) {
    let app = app(backend.clone());
    let _coordinator = app.coordinator(coordinator());
    let names: Vec<String> = (0..count).map(|number| format!("brief{number}")).collect();
    let _worker = app.worker(WorkerOptions::default().queues(names.clone()));
    for _ in 0..2 {
        let mut runs = Vec::new();
        for name in &names {
            let urgent = on(name).with_priority(7).unwrap();
            runs.push(app.submit(step.s(0).set(on(name)) | step.s(()).set(urgent)).await.unwrap());
        }
        // Some of these are in bulk.
        let many = app.submit(group((0..120).map(|_| step.s(1).set(on(&names[0]))))).await.unwrap();
        assert_eq!(many.get_timeout(PATIENCE).await.unwrap(), vec![2; 120]);
        many.ended().await.unwrap();
        many.forget().await.unwrap();
        for run in runs {
            assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), 2);
            run.ended().await.unwrap();
            run.forget().await.unwrap();
        }
        let start = Instant::now();
        let of_queues = || keys().into_iter().filter(|key| !key.contains("{events}")).collect::<Vec<_>>();
        while !of_queues().is_empty() {
            assert!(start.elapsed() < PATIENCE, "{:?} stay", of_queues());
            sleep(SOON).await;
        }
        println!("{count} queues were gone after {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_nobody_uses_go_away_on_one_server() {
    let server = Server::start();
    let count = setting("CELERIAC_QUEUES", 300) / 5;
    come_and_go(backend(server.url()).await, || server.keys("queues:*"), count).await;
    let names: u64 = redis::cmd("EXISTS")
        .arg(&["names", "lanes", "timers"].map(|list| format!("queues:{{events}}:{list}"))[..])
        .query(&mut server.connection())
        .unwrap();
    assert_eq!(names, 0, "no name is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_nobody_uses_go_away_on_a_cluster() {
    let cluster = Cluster::start();
    come_and_go(backend(cluster.url()).await, || cluster.keys("queues:*"), 20).await;
}

/// What waits for its time, or for a worker, keeps its queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_keeps_something_stays() {
    let server = Server::start();
    let app = app(backend(server.url()).await);
    let _coordinator = app.coordinator(coordinator());
    let later = on("timed").with_countdown(KEPT * 3);
    let timed = app.submit(step.s(1).set(later)).await.unwrap();
    let waiting = app.submit(step.s(2).set(on("waiting").with_priority(3).unwrap())).await.unwrap();
    sleep(KEPT * 3).await;
    let _worker = app.worker(WorkerOptions::default().queues(["timed", "waiting"]));
    assert_eq!(timed.get_timeout(PATIENCE).await.unwrap(), 2);
    assert_eq!(waiting.get_timeout(PATIENCE).await.unwrap(), 3);
}

/// A client that was away for long, and believes that its queue is noted, finds it gone and brings it about
/// anew.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_to_a_queue_that_is_gone_brings_it_about_anew() {
    let server = Server::start();
    let client = app(backend(server.url()).await);
    let other = app(backend(server.url()).await);
    let _coordinator = other.coordinator(coordinator());
    let _worker = other.worker(WorkerOptions::default().queues(["again"]));
    for round in 0..2 {
        let urgent = on("again").with_priority(9).unwrap();
        let run = client.submit(step.s(round).set(urgent)).await.unwrap();
        assert_eq!(run.get_timeout(PATIENCE).await.unwrap(), round + 1);
        run.forget().await.unwrap();
        let start = Instant::now();
        while !server.keys("queues:{q:again}*").is_empty() {
            assert!(start.elapsed() < PATIENCE, "it stays");
            sleep(SOON).await;
        }
    }
}

/// More queues than there may be: the run that would bring them about is refused, the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_queues() {
    let server = Server::start();
    let builder = RedisBackend::builder(server.url()).prefix("queues").queues_max(20).queues_kept_for(KEPT);
    let app = app(builder.connect().await.unwrap());
    let _coordinator = app.coordinator(coordinator());
    let wide = |count: u64| group((0..count).map(|number| step.s(0).set(on(&format!("wide{number}")))));
    let names: Vec<String> = (0..20).map(|number| format!("wide{number}")).collect();
    let _worker = app.worker(WorkerOptions::default().queues(names.into_iter().chain(["celery".to_owned()])));
    let error = app.submit(wide(21)).await.unwrap_err();
    let SubmitError::Backend(error) = error else { panic!("{error}") };
    assert!(error.kind == ErrorKind::Full && error.to_string().contains("queues_max"), "{error}");
    assert_eq!(app.submit(wide(15)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), vec![1; 15]);
    // What takes the place of a leaf is a part of an accepted run: its leaf fails, and nothing waits for
    // ever.
    let error = app.submit(spread.s(30)).await.unwrap().get_timeout(PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("LimitError"), "{error}");
    let start = Instant::now();
    while let Err(error) = app.submit(wide(19)).await {
        assert!(start.elapsed() < PATIENCE, "there is room when the others are gone: {error}");
        sleep(SOON).await;
    }
}

/// Nothing depends on what is kept beside the queues: it comes again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_indexes_that_somebody_removed_come_again() {
    let server = Server::start();
    let app = app(backend(server.url()).await);
    let _coordinator = app.coordinator(coordinator());
    let later = on("lost").with_priority(4).unwrap().with_countdown(KEPT / 2);
    let timed = app.submit(step.s(1).set(later)).await.unwrap();
    let waiting = app.submit(step.s(2).set(on("lost").with_priority(6).unwrap())).await.unwrap();
    // Dispatched by now, one as a timer.
    while server.keys("queues:{q:lost}:*delayed").is_empty() {
        sleep(SOON / 10).await;
    }
    for list in ["names", "lanes", "reports", "timers"] {
        redis::cmd("DEL").arg(format!("queues:{{events}}:{list}")).exec(&mut server.connection()).unwrap();
    }
    let _worker = app.worker(WorkerOptions::default().queues(["lost"]));
    assert_eq!(waiting.get_timeout(PATIENCE).await.unwrap(), 3);
    assert_eq!(timed.get_timeout(PATIENCE).await.unwrap(), 2);
}
