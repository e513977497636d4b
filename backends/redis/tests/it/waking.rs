//! One leaf wakes about one worker, and none lies while somebody is free.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_backends::{Queue, Take, WorkerId};
use celeriac_dsl::{State, group, task, tasks};
use celeriac_primitives::{Json, Options, Outcome};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(2);

/// Who waits looks without a hint after so long, and a little.
const POLL: Duration = Duration::from_millis(2_500);

/// Much less than that.
const AT_ONCE: Duration = Duration::from_millis(300);

/// Where leaves ran, and when they began.
#[derive(Clone, Default)]
struct Ran {
    here: usize,
    all: Arc<Mutex<Vec<(usize, Instant)>>>,
}

impl Ran {
    fn count(&self) -> usize {
        self.all.lock().unwrap().len()
    }

    fn places(&self) -> BTreeSet<usize> {
        self.all.lock().unwrap().iter().map(|(place, _)| *place).collect()
    }

    /// Waits until so many have begun; how long that took.
    async fn reach(&self, count: usize) -> Duration {
        let start = Instant::now();
        while self.count() < count {
            assert!(start.elapsed() < PATIENCE, "{} of {count} have begun", self.count());
            sleep(SOON).await;
        }
        start.elapsed()
    }
}

#[task(crate = celeriac_dsl, name = "waking.nap")]
async fn nap(ms: u64, ran: State<Ran>) -> u64 {
    ran.all.lock().unwrap().push((ran.here, Instant::now()));
    sleep(Duration::from_millis(ms)).await;
    ms
}

fn on(queue: &str) -> Options {
    Options::new().with_queue(queue).unwrap()
}

async fn backend(url: String) -> RedisBackend {
    RedisBackend::builder(url).prefix("waking").connect().await.expect("it answers")
}

fn app(backend: RedisBackend, ran: &Ran) -> App {
    App::builder("waking").tasks(tasks![nap]).state(ran.clone()).backend(backend).build().unwrap()
}

/// So many workers, each on a connection of its own.
async fn workers(server: &Server, ran: &Ran, count: usize, options: &WorkerOptions) -> Vec<Worker> {
    let mut workers = Vec::new();
    for here in 0..count {
        let ran = Ran { here, ..ran.clone() };
        workers.push(app(backend(server.url()).await, &ran).worker(options.clone()));
    }
    workers
}

/// Queues leaves one after the other on these queues in turns; how many lanes were looked into meanwhile, by
/// anybody.
async fn one_by_one(server: &Server, client: &App, ran: &Ran, leaves: usize, queues: &[&str]) -> u64 {
    // The first ones tell that there are many.
    for queue in queues {
        let before = ran.count();
        client.submit(nap.s(0).set(on(queue))).await.unwrap();
        ran.reach(before + 1).await;
        sleep(AT_ONCE).await;
    }
    let before = ran.count();
    server.reset_counts();
    for number in 0..leaves {
        client.submit(nap.s(0).set(on(queues[number % queues.len()]))).await.unwrap();
        let took = ran.reach(before + number + 1).await;
        assert!(took < POLL, "leaf {number} has waited for {took:?}");
        sleep(SOON).await;
    }
    sleep(AT_ONCE).await;
    server.command_counts()["xreadgroup"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_wakes_about_one_of_many_workers() {
    let (server, ran) = (Server::start(), Ran::default());
    let _workers = workers(&server, &ran, 20, &WorkerOptions::default()).await;
    let client = app(backend(server.url()).await, &ran);
    let takes = one_by_one(&server, &client, &ran, 50, &["celery"]).await;
    println!("{takes} takes for 50 leaves with 20 workers: {:?}", server.command_counts());
    assert!(takes <= 75, "{takes} takes for 50 leaves");
    assert!(ran.places().len() >= 15, "they take turns: {:?}", ran.places());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_wakes_about_one_of_many_workers_on_one_connection() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let _workers: Vec<Worker> = (0..20).map(|_| client.worker(WorkerOptions::default())).collect();
    let takes = one_by_one(&server, &client, &ran, 50, &["celery"]).await;
    println!("{takes} takes for 50 leaves with 20 workers");
    assert!(takes <= 75, "{takes} takes for 50 leaves");
}

/// Woken from one queue, a worker is still noted at the other; and at the first again when it has looked.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_several_queues_is_woken_from_each() {
    let (server, ran) = (Server::start(), Ran::default());
    let options = WorkerOptions::default().queues(["mail", "post"]);
    let _workers = workers(&server, &ran, 5, &options).await;
    let client = app(backend(server.url()).await, &ran);
    let looks = one_by_one(&server, &client, &ran, 60, &["mail", "post"]).await;
    println!("{looks} lanes looked into for 60 leaves, two lanes each time");
    assert!(looks <= 2 * 90, "{looks} looks for 60 leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_or_two_workers_are_not_noted() {
    let (server, ran) = (Server::start(), Ran::default());
    let _workers = workers(&server, &ran, 2, &WorkerOptions::default()).await;
    let client = app(backend(server.url()).await, &ran);
    one_by_one(&server, &client, &ran, 20, &["celery"]).await;
    assert_eq!(server.keys("waking:{q:*}:idle"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_uses_all_workers() {
    for leaves in [60, 200] {
        let (server, ran) = (Server::start(), Ran::default());
        let _workers = workers(&server, &ran, 10, &WorkerOptions::default().concurrency(6).prefetch(0)).await;
        let client = app(backend(server.url()).await, &ran);
        let _coordinator = client.coordinator(CoordinatorOptions::default());
        one_by_one(&server, &client, &ran, 5, &["celery"]).await;
        let before = ran.count();
        ran.all.lock().unwrap().iter_mut().for_each(|(place, _)| *place = 0);
        client.submit(group((0..leaves).map(|_| nap.s(500)))).await.unwrap();
        ran.reach(before + 60).await;
        assert_eq!(ran.places().len(), 10, "{leaves} leaves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_asks_little() {
    let (server, ran) = (Server::start(), Ran::default());
    let _workers = workers(&server, &ran, 5, &WorkerOptions::default()).await;
    let client = app(backend(server.url()).await, &ran);
    one_by_one(&server, &client, &ran, 5, &["celery"]).await;
    let seconds = 12;
    server.reset_counts();
    sleep(Duration::from_secs(seconds)).await;
    let counts = server.command_counts();
    let asked = ["evalsha", "smismember", "ping"].map(|name| counts.get(name).copied().unwrap_or(0));
    let all: u64 = counts.values().sum();
    let each = |count: u64| count as f64 / seconds as f64 / 5.0;
    println!(
        "a worker asks {:.2} times a second, {:.2} with scripts: {counts:?}",
        each(asked.iter().sum()),
        each(all)
    );
    assert!(each(asked.iter().sum()) < 1.5, "{counts:?}");
    assert!(each(all) < 4.0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_coordinator_asks_little() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let _worker = app(backend(server.url()).await, &ran).worker(WorkerOptions::default());
    let coordinator = client.coordinator(CoordinatorOptions::default());
    assert_eq!(client.submit(nap.s(1)).await.unwrap().get().await.unwrap(), 1);
    sleep(AT_ONCE).await;
    server.reset_counts();
    let seconds = 10;
    sleep(Duration::from_secs(seconds)).await;
    let with = server.command_counts();
    coordinator.shutdown().await;
    server.reset_counts();
    sleep(Duration::from_secs(seconds)).await;
    let without: u64 = server.command_counts().values().sum();
    let each = (with.values().sum::<u64>() - without) / seconds;
    println!("a coordinator costs {each} commands a second: {with:?}");
    assert!(each < 25, "{with:?}");
}

/// The channels of changes on which somebody listens, without their start.
fn listened(server: &Server) -> BTreeSet<String> {
    let mut channels = redis::cmd("PUBSUB");
    channels.arg("CHANNELS").arg("waking:changed:*");
    let channels: Vec<String> = channels.query(&mut server.connection()).unwrap();
    channels.iter().map(|channel| channel["waking:changed:".len()..].to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_value_hears_of_no_step_before_and_who_waits_for_a_change_of_each() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let run = client.submit(group([nap.s(200), nap.s(300)])).await.unwrap();
    let other = app(backend(server.url()).await, &ran);
    let _coordinator = other.coordinator(CoordinatorOptions::default());
    let _worker = other.worker(WorkerOptions::default());
    let (value, channels) = tokio::join!(run.get_timeout(PATIENCE), async {
        ran.reach(2).await;
        let start = Instant::now();
        while listened(&server).is_empty() {
            assert!(start.elapsed() < PATIENCE, "nobody listens");
            sleep(SOON).await;
        }
        listened(&server)
    });
    assert_eq!(value.unwrap(), [200, 300]);
    assert!(channels.iter().all(|channel| channel.starts_with('d')), "{channels:?}");
    let version = run.status().await.unwrap().version;
    run.changed(version, AT_ONCE).await.unwrap();
    let channels = listened(&server);
    assert!(channels.iter().any(|channel| !channel.starts_with('d')), "{channels:?}");
}

/// A long value would pass once more for nothing where many wait for others.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_value_is_told_it_when_it_is_short_and_looks_for_it_when_it_is_long() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let _coordinator = client.coordinator(CoordinatorOptions::default());
    let other = backend(server.url()).await;
    let short = looks(&server, &client, &other, 900).await;
    let long = looks(&server, &client, &other, 1_100).await;
    assert_eq!((short, long), (1, 2), "who settles looks");
}

/// How often a run was looked at whose value has so many bytes; the least of many runs, since who has waited
/// for long looks, too, and who is the first to listen on one of the sixteen channels.
async fn looks(server: &Server, client: &App, other: &RedisBackend, bytes: usize) -> u64 {
    let (worker, value) = (WorkerId::new("w"), Json::string(&"v".repeat(bytes)));
    let take = Take::new(1, PATIENCE).wait(PATIENCE);
    let mut least = u64::MAX;
    for _ in 0..40 {
        let run = client.submit(nap.s(0)).await.unwrap();
        let delivery = other.receive(&worker, &["celery".into()], take).await.unwrap().remove(0);
        server.reset_counts();
        let (got, ()) = tokio::join!(run.get_json(Some(PATIENCE)), async {
            // By then it is waited for.
            sleep(SOON * 10).await;
            let done = delivery.message.completion(Outcome::Success(value.clone()));
            other.finish(&[(delivery.id, done)]).await.unwrap();
        });
        assert_eq!(got.unwrap(), value);
        least = least.min(server.command_counts()["hmget"]);
    }
    least
}

/// There hints may pass by another node than the queue's.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_nobody_is_noted() {
    let (cluster, ran) = (Cluster::start(), Ran::default());
    let client = app(backend(cluster.url()).await, &ran);
    let _coordinator = client.coordinator(CoordinatorOptions::default());
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(app(backend(cluster.url()).await, &ran).worker(WorkerOptions::default()));
    }
    for number in 0..10 {
        client.submit(nap.s(0)).await.unwrap();
        ran.reach(number + 1).await;
    }
    assert_eq!(cluster.keys("waking:*:idle"), Vec::<String>::new());
}

/// Three who wait for leaves and are noted.
async fn noted(server: &Server, client: &App, ran: &Ran) -> Vec<Worker> {
    let workers = workers(server, ran, 3, &WorkerOptions::default()).await;
    one_by_one(server, client, ran, 5, &["celery"]).await;
    workers
}

/// Two may be late for another reason: the machine has something else to do.
#[track_caller]
fn check_at_once(times: &[Duration]) {
    assert!(times.iter().filter(|took| **took > AT_ONCE).count() <= 2, "{times:?}");
}

/// Puts a stranger before those who wait.
fn note_first(server: &Server, channel: &str) {
    let key = "waking:{q:celery}:idle";
    redis::cmd("ZADD").arg(key).arg(1).arg(channel).exec(&mut server.connection()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_gone_keeps_no_leaf() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let _workers = noted(&server, &client, &ran).await;
    let mut times = Vec::new();
    for number in 0..12 {
        note_first(&server, &format!("waking:wake:{number}"));
        let before = ran.count();
        client.submit(nap.s(0)).await.unwrap();
        times.push(ran.reach(before + 1).await);
    }
    check_at_once(&times);
}

/// It hears and does nothing, as one that is stopped, or one whose host is gone without Redis knowing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_keeps_one_leaf_for_a_poll_at_most() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let _workers = noted(&server, &client, &ran).await;
    let mut stopped = server.connection();
    let mut stopped = stopped.as_pubsub();
    stopped.subscribe("waking:wake:stopped").unwrap();
    note_first(&server, "waking:wake:stopped");
    let mut times = Vec::new();
    for _ in 0..12 {
        let before = ran.count();
        client.submit(nap.s(0)).await.unwrap();
        times.push(ran.reach(before + 1).await);
    }
    assert!(times[0] < POLL, "it took {:?}", times[0]);
    check_at_once(&times[1..]);
    // Nor does it stay there.
    note_first(&server, "waking:wake:stopped");
    let start = Instant::now();
    let there = || -> Vec<String> {
        redis::cmd("ZRANGE")
            .arg("waking:{q:celery}:idle")
            .arg(&[0, -1])
            .query(&mut server.connection())
            .unwrap()
    };
    while there().iter().any(|member| member == "waking:wake:stopped") {
        assert!(start.elapsed() < 3 * POLL, "it stays");
        sleep(AT_ONCE).await;
    }
    assert_eq!(there().len(), 3, "those who wait stay");
}

/// As a worker that runs a leaf alone, or has enough in hand.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_woken_and_does_not_look_has_another_woken() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let _workers = noted(&server, &client, &ran).await;
    let other = backend(server.url()).await;
    let (queues, take) = (["celery".into()], Take::new(9, PATIENCE));
    let mut times = Vec::new();
    for number in 0..12 {
        let worker = WorkerId::new(format!("w{number}"));
        // It waits for longer than it takes to be heard, and is noted then.
        let waits = other.receive(&worker, &queues, take.wait(AT_ONCE));
        assert_eq!(waits.await.unwrap().len(), 0);
        let before = ran.count();
        for after in 1..=4 {
            client.submit(nap.s(0)).await.unwrap();
            times.push(ran.reach(before + after).await);
        }
    }
    check_at_once(&times);
}

/// This client may not hint at what it queues.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_not_hinted_at_is_found() {
    let server = Server::builder().acl("mute on >secret ~* resetchannels +@all").start();
    let ran = Ran::default();
    let client = app(backend(server.url()).await, &ran);
    let _workers = noted(&server, &client, &ran).await;
    let mute = app(backend(server.url_as("mute", "secret")).await, &ran);
    for _ in 0..3 {
        let before = ran.count();
        mute.submit(nap.s(0)).await.unwrap();
        let took = ran.reach(before + 1).await;
        assert!(took < POLL, "it took {took:?}");
    }
}

/// Rights as they were before somebody was woken alone.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_rights_for_it_all_are_woken() {
    let server = Server::builder().acl("old on >secret ~* &* +@all -zpopmin -pubsub").start();
    let ran = Ran::default();
    let mut workers = Vec::new();
    for _ in 0..4 {
        let backend = backend(server.url_as("old", "secret")).await;
        workers.push(app(backend, &ran).worker(WorkerOptions::default()));
    }
    let client = app(backend(server.url_as("old", "secret")).await, &ran);
    one_by_one(&server, &client, &ran, 20, &["celery"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_is_not_noted_any_more() {
    let (server, ran) = (Server::start(), Ran::default());
    let client = app(backend(server.url()).await, &ran);
    let workers = noted(&server, &client, &ran).await;
    assert_eq!(server.keys("waking:{q:*}:idle").len(), 1);
    for worker in workers {
        worker.shutdown(PATIENCE).await;
    }
    assert_eq!(server.keys("waking:{q:*}:idle"), Vec::<String>::new());
}

/// Those who wait do not keep their queue.
#[tokio::test(flavor = "multi_thread")]
async fn the_notes_go_away_with_their_queue() {
    let (server, ran) = (Server::start(), Ran::default());
    let kept = async || {
        let builder = RedisBackend::builder(server.url()).prefix("waking");
        builder.queues_kept_for(Duration::from_secs(1)).connect().await.unwrap()
    };
    let client = app(kept().await, &ran);
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(app(kept().await, &ran).worker(WorkerOptions::default()));
    }
    let options = CoordinatorOptions { sweep_every: AT_ONCE, ..CoordinatorOptions::default() };
    let _coordinator = client.coordinator(options);
    for _ in 0..2 {
        let before = ran.count();
        let run = client.submit(nap.s(0)).await.unwrap();
        ran.reach(before + 1).await;
        run.ended().await.unwrap();
        run.forget().await.unwrap();
        let gone = async {
            while !server.keys("waking:{q:*").is_empty() {
                sleep(AT_ONCE).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("a queue that nobody uses goes away");
        sleep(2 * POLL).await;
        assert_eq!(server.keys("waking:{q:*"), Vec::<String>::new(), "and it does not come back");
    }
}

/// It was told of nothing there since it looked elsewhere, as often as here.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_another_queue_looks_there() {
    let (server, ran) = (Server::start(), Ran::default());
    let here = backend(server.url()).await;
    let client = app(here.clone(), &ran);
    let take = async |queue: &str, worker: &str| {
        let take = Take::new(9, PATIENCE).wait(AT_ONCE);
        here.receive(&WorkerId::new(worker), &[queue.into()], take).await.unwrap().len()
    };
    assert_eq!((take("mail", "other").await, take("post", "other").await), (0, 0));
    for queue in ["mail", "post"] {
        client.submit(nap.s(0).set(on(queue))).await.unwrap();
    }
    assert_eq!(take("mail", "w").await, 1);
    assert_eq!(take("mail", "w").await, 0);
    assert_eq!(take("post", "w").await, 1);
}
