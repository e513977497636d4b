//! A Cluster of which a shard is away: what is on the others goes on.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::Store as _;
use celeriac_dsl::{chord, task, tasks};
use celeriac_primitives::{Options, RunId};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Handle, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Connections, Proxy, Server, Ways};
use tokio::time::{Instant, sleep};

/// A run that has nothing to do with the shard that is away ends in this time.
const SOON: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(2);

#[task(crate = celeriac_dsl, name = "shards.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(crate = celeriac_dsl, name = "shards.sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(crate = celeriac_dsl, name = "shards.slow")]
async fn slow(x: i64) -> i64 {
    sleep(Duration::from_millis(500)).await;
    x
}

/// A Cluster with a coordinator and a worker for two queues, each with a connection of its own, and a
/// client.
struct Live {
    cluster: Cluster,
    app: App,
    prefix: &'static str,
    /// Two queues on different shards, neither of which has the list of runs.
    queues: [String; 2],
    _coordinator: Coordinator,
    _worker: Worker,
}

impl Live {
    async fn start(prefix: &'static str) -> Self {
        let cluster = Cluster::start();
        let place = |key: String| cluster.node_of(&key).port();
        let events = place(format!("{prefix}:{{events}}:runs"));
        let mut queues: Vec<(u16, String)> = Vec::new();
        for name in (0..).map(|number| format!("q{number}")) {
            let port = place(format!("{prefix}:{{q:{name}}}:stream"));
            if port != events && queues.iter().all(|(other, _)| *other != port) {
                queues.push((port, name));
            }
            if queues.len() == 2 {
                break;
            }
        }
        let queues = [0, 1].map(|place| queues[place].1.clone());
        let app = async || {
            let builder = RedisBackend::builder(cluster.url()).prefix(prefix);
            let backend = builder.connect().await.expect("it answers");
            let app = App::builder("shards").tasks(tasks![add, sum, slow]).backend(backend);
            app.build().expect("it fits together")
        };
        let coordinator = CoordinatorOptions {
            lease: LEASE,
            sweep_every: Duration::from_millis(200),
            ..CoordinatorOptions::default()
        };
        let mut worker = WorkerOptions::default().queues(queues.clone());
        worker.lease = LEASE;
        let (_coordinator, _worker) = (app().await.coordinator(coordinator), app().await.worker(worker));
        let app = app().await;
        let live = Self { app, prefix, queues, _coordinator, _worker, cluster };
        // All scripts are where they are needed, or not: it must not matter.
        live.submit(0, "at first", None).await.get_timeout(PATIENCE).await.unwrap();
        live
    }

    fn node(&self, what: &str) -> &Server {
        self.cluster.node_of(&format!("{}:{{{what}}}:x", self.prefix))
    }

    /// A chain and a chord on a queue; its run is not on the node of `beside`.
    async fn submit(&self, queue: usize, name: &str, beside: Option<&Server>) -> Handle<i64> {
        let options = || Options::new().with_queue(self.queues[queue].as_str()).unwrap();
        let header = [1, 2].map(|y| add.s(y).set(options()));
        let canvas = add.s((1, 1)).set(options())
            | slow.s(()).set(options())
            | chord(header, sum.s(()).set(options()))
            | add.s(3).set(options());
        let ids = (0..).map(|number| format!("{name}-{number}"));
        let is_beside = |key: &String| {
            let run = RunId::from_key(key);
            beside.is_none_or(|away| self.node(&run.to_string()).port() != away.port())
        };
        let key = ids.into_iter().find(is_beside).expect("there is one");
        self.app.submission(canvas).key(&key).await.unwrap()
    }

    async fn ends(&self, run: Handle<i64>, what: &str) {
        let start = Instant::now();
        match run.get_timeout(SOON).await {
            Ok(value) => assert_eq!(value, 10, "{what}"),
            Err(error) => panic!("{what}: {error} after {:?}", start.elapsed()),
        }
    }
}

/// How a shard goes away, and comes back.
#[derive(Clone, Copy, Debug)]
enum Way {
    Dies,
    Hangs,
}

impl Way {
    fn goes(self, node: &Server) {
        match self {
            Self::Dies => node.kill(),
            Self::Hangs => node.pause(),
        }
    }

    fn comes(self, node: &Server) {
        match self {
            Self::Dies => node.start_again(),
            Self::Hangs => node.resume(),
        }
    }
}

/// The shard of one queue is away: runs on the other queue go on, and those on this one when it is back.
async fn beside_a_queue(way: Way) {
    let live = Arc::new(Live::start("shq").await);
    let away = live.node(&format!("q:{}", live.queues[0]));
    let waits = live.submit(0, "waits", Some(away)).await;
    sleep(Duration::from_millis(100)).await;
    way.goes(away);
    for number in 0..4 {
        let run = live.submit(1, &format!("beside-{number}"), Some(away)).await;
        live.ends(run, &format!("beside a queue that {way:?}, run {number}")).await;
    }
    way.comes(away);
    live.cluster.wait();
    live.ends(waits, "on the queue that is back").await;
    let run = live.submit(0, "after", None).await;
    live.ends(run, "after it is back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_while_the_shard_of_another_queue_is_down() {
    beside_a_queue(Way::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_while_the_shard_of_another_queue_hangs() {
    beside_a_queue(Way::Hangs).await;
}

/// The shard of the lists is away: nothing can be submitted, and what is there goes on.
async fn without_the_lists(way: Way) {
    let live = Live::start("shl").await;
    let away = live.node("events");
    let mut runs = Vec::new();
    for number in 0..4 {
        runs.push(live.submit(number % 2, &format!("there-{number}"), Some(away)).await);
    }
    sleep(Duration::from_millis(300)).await;
    way.goes(away);
    for run in runs {
        live.ends(run, &format!("without the lists ({way:?})")).await;
    }
    way.comes(away);
    live.cluster.wait();
    let run = live.submit(0, "after", None).await;
    live.ends(run, "after they are back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_while_the_shard_of_the_lists_is_down() {
    without_the_lists(Way::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_on_while_the_shard_of_the_lists_hangs() {
    without_the_lists(Way::Hangs).await;
}

/// All nodes answer, and nothing comes through the connection that there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_answers_nothing_is_made_anew() {
    let cluster = Cluster::start_with(Server::builder().without_addresses());
    let proxy = Proxy::before_cluster(&cluster).await;
    let backend = RedisBackend::builder(proxy.cluster_url()).connect().await.unwrap();
    backend.list(None, 1).await.unwrap();
    proxy.swallow(Ways::Both, Connections::Present);
    let start = Instant::now();
    while let Err(error) = backend.list(None, 1).await {
        // Half as long as the client library takes a reply for late.
        assert!(start.elapsed() < Duration::from_secs(15), "{error}");
        sleep(Duration::from_millis(100)).await;
    }
}
