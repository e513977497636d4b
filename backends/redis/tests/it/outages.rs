//! Redis goes away and comes back under load, or its connections go dead without a word: clients, coordinators and
//! workers stay, and work is back soon.
//!
//! `CELERIAC_OUTAGES=100` for more of them than the few that are enough to notice a mistake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use celeriac_conformance::whole::Crew;
use celeriac_engine::text;
use celeriac_primitives::Canvas;
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Connections, Fsync, Proxy, Server, Ways};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::setting;

/// A run that is submitted when Redis is there again ends within this time.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// What was lost on its way is taken up again after this time.
const LEASE: Duration = Duration::from_secs(2);

/// Between two outages the load goes on for so long.
const BETWEEN: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn work_is_back_soon_after_redis_crashed() {
    let server = Arc::new(Server::builder().appendfsync(Fsync::Always).start());
    let field = Field::start(&server).await;
    let mut back = Vec::new();
    for _ in 0..setting("CELERIAC_OUTAGES", 5) {
        sleep(BETWEEN).await;
        let crash = server.clone();
        tokio::task::spawn_blocking(move || crash.crash_and_restart()).await.expect("it starts again");
        back.push(field.probe().await);
    }
    report("restarts", back, field.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_back_soon_after_connections_died_without_a_word() {
    let server = Server::start();
    let field = Field::start(&server).await;
    let (mut meanwhile, mut back) = (Vec::new(), Vec::new());
    for _ in 0..setting("CELERIAC_OUTAGES", 5) {
        sleep(BETWEEN).await;
        field.proxies.iter().for_each(|proxy| proxy.swallow(Ways::Both, Connections::Present));
        // New connections are possible: one only has to notice.
        meanwhile.push(field.probe().await);
        for proxy in &field.proxies {
            proxy.heal().await;
        }
        back.push(field.probe().await);
    }
    report("half-open connections, from their death", meanwhile, 0);
    report("half-open connections, from their end", back, field.end().await);
}

/// A client, two coordinators and three workers, each on a way of its own, and clients that submit all the time.
struct Field {
    app: App,
    proxies: Vec<Proxy>,
    stopping: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    clients: JoinSet<()>,
    _coordinators: Vec<Coordinator>,
    _workers: Vec<Worker>,
}

impl Field {
    async fn start(server: &Server) -> Self {
        let mut proxies = Vec::new();
        let mut way = async || {
            proxies.push(Proxy::start(server.address()).await);
            let builder = RedisBackend::builder(proxies.last().expect("it was just added").url());
            builder.prefix("field").connect().await.expect("the server answers")
        };
        let crew = Crew::alone(way().await);
        let coordinator =
            CoordinatorOptions { lease: LEASE, sweep_every: LEASE / 10, ..CoordinatorOptions::default() };
        let worker = WorkerOptions::default().concurrency(8).lease(LEASE);
        let (mut coordinators, mut workers) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            coordinators.push(crew.app_on(way().await).coordinator(coordinator.clone()));
        }
        for _ in 0..3 {
            workers.push(crew.app_on(way().await).worker(worker.clone()));
        }
        let (stopping, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            let (app, stopping, ended) = (crew.app.clone(), stopping.clone(), ended.clone());
            clients.spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    run(&app).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            app: crew.app,
            proxies,
            stopping,
            ended,
            clients,
            _coordinators: coordinators,
            _workers: workers,
        }
    }

    /// How long a run takes that is submitted now.
    async fn probe(&self) -> Duration {
        let start = Instant::now();
        run(&self.app).await;
        start.elapsed()
    }

    /// Waits for all runs; how many there were.
    async fn end(mut self) -> u64 {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.expect("every run has its value");
        }
        self.ended.load(Ordering::Relaxed)
    }
}

fn canvas() -> Canvas {
    text::parse("chord([add.s(i, i) for i in range(5)], tsum.s()) | add.s(1)").expect("it is well written")
}

/// Runs a canvas to its end, whatever happens on the way.
async fn run(app: &App) {
    let run = app.submit(canvas()).await.expect("it is accepted, if not at once");
    let value = run.get_json(Some(Duration::from_secs(60))).await.expect("it has a value in the end");
    assert_eq!(value.as_str(), "21");
}

#[track_caller]
fn report(what: &str, mut back: Vec<Duration>, runs: u64) {
    back.sort_unstable();
    let (median, longest) = (back[back.len() / 2], back[back.len() - 1]);
    println!("{} {what}: work is back after {median:?}, at most {longest:?}; {runs} runs", back.len());
    assert!(longest < BACK_WITHIN, "{what}: {back:?}");
}
