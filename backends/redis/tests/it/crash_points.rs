//! A coordinator, or a worker, that dies at each command it sends: before the server sees it, or after the
//! server has executed it.
//!
//! ```text
//! client, the other role ──────────────► Server      live on
//! victim ─────────────────► Proxy ─────► Server      dies at the n-th command; a successor comes, without a proxy
//! ```
//!
//! How many commands there are depends on timing, so `n` grows until the victim outlives some runs in a row.
//! Scripts are flushed before each run, so that loading them is among the points. On a Cluster the proxy
//! stands before each node, and commands to any of them count.
//!
//! `CELERIAC_CRASH_POINTS=all` takes all points of the wide chord as well, and all on a Cluster, instead of a
//! sample.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_conformance::whole::{Crew, Runs};
use celeriac_engine::text;
use celeriac_primitives::Canvas;
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Proxy, Server, Trap};
use futures::stream::{self, StreamExt};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::look::{lines, queued_ever};

/// Of the victim: it must not last long for others to take over.
const LEASE: Duration = Duration::from_millis(300);
const SWEEP: Duration = Duration::from_millis(50);
const FOREVER: Duration = Duration::from_secs(3600);

/// Much longer than a run takes, also with a successor and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the victim does after the end of a run belongs to it as well.
const AFTERMATH: Duration = Duration::from_millis(20);

/// So many runs in a row that the victim outlives are the end of its commands.
const OUTLIVED: u32 = 3;

#[rustfmt::skip]
const CANVASES: &[(&str, &str)] = &[
    ("chain", "add.s(1, 1) | mul.s(3) | add.s(10) | identity.s()"),
    ("chord", "chord([add.s(i, i) for i in range(6)], tsum.s()) | add.s(1)"),
    ("arms of unequal length", "chord([add.s(1, 1) | add.s(2) | add.s(3), add.s(4, 4), identity.s(5)], tsum.s())"),
    ("chord in a header", "chord([chord([add.s(1, 1), add.s(2, 2)], tsum.s()), add.s(3, 3)], tsum.s())"),
    ("group of chords", "group([chord([add.s(i, 1), add.s(i, 2)], tsum.s()) for i in range(3)])"),
    ("chunks", "add.chunks([(i, i) for i in range(10)], 3) | xsum.s()"),
    ("errback", "chain(add.s(1, 2), group(fail.s(), add.s(1)), tsum.s()).on_error(echo.s())"),
    ("three levels", "group([chord([group([add.s(i, j), add.s(j, 1)]) | tsum.s() for j in range(2)], xsum.s()) for i in range(2)]) | xsum.s()"),
    ("replaced leaves", "chord([add_replaced.s(1, 1), down.s(2), add.s(3, 3)], tsum.s()) | add.s(1)"),
    ("replaced, and failing inside", "chain(add.s(1, 2), fail_replaced.s(), add.s(1)).on_error(echo.s())"),
    ("replaced by nothing", "become.s(text='group()') | echo.s() | become.s(text='identity.s().link(echo.s())')"),
    ("added members", "chord([adds.s(1, canvases=[\"adds.s(2, canvases=['add.s(1, 1)'])\", 'fail.s()']), add.s(3, 3)], echo.s()).set(on_failure='drop') | tsum.s()"),
    ("added, and failing", "chord([become.s(text='add.s(1, 1)', canvases=['fail.s()']), add.s(3, 3)], tsum.s()).on_error(echo.s())"),
    ("delayed, expiring, dropped", "chord([add.s(1, 1).set(countdown=0.02), add.s(2, 2).set(expires=60), fail.s()], tsum.s()).set(on_failure='drop')"),
    ("empty header", "add.s(1, 1) | chord([], identity.s()) | echo.s()"),
];

const WIDE: &str = "chord([identity.s(i) for i in range(8001)], tsum.s())";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Coordinator,
    Worker,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_dies_at_any_command_and_nothing_is_lost_or_doubled() {
    check_small(Role::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_at_any_command_and_nothing_is_lost() {
    check_small(Role::Worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_dies_at_any_command_to_any_node_of_a_cluster() {
    check_cluster(Role::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_at_any_command_to_any_node_of_a_cluster() {
    check_cluster(Role::Worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_of_a_chord_of_8001_dies_at_any_command() {
    check_wide(Role::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_a_chord_of_8001_dies_at_any_command() {
    check_wide(Role::Worker).await;
}

async fn check_small(role: Role) {
    check_all(role, &Stage::new(24)).await;
}

/// All points, or of each canvas two, other ones for each.
async fn check_cluster(role: Role) {
    if is_all() {
        return check_all(role, &Stage::of_clusters(8)).await;
    }
    let stage = &Stage::of_clusters(4);
    // A worker sends fewer.
    let (step, count) = if role == Role::Worker { (1, 9) } else { (7, 8) };
    let points = CANVASES.iter().enumerate().flat_map(|(place, (name, text))| {
        let nth = 3 + step * (place as u64 % count);
        [(nth, Trap::Before), (nth + 3, Trap::After)].map(|(nth, trap)| (name, text, nth, trap))
    });
    let runs = points.map(|(name, text, nth, trap)| async move {
        let canvas = text::parse(text).expect("the canvas is well written");
        let command = stage.run(role, &canvas, nth, trap).await;
        println!("{role:?} on a cluster, {name}, {trap:?} command {nth}: {command:?}");
        usize::from(command.is_some())
    });
    let dead: Vec<usize> = stream::iter(runs).buffer_unordered(4).collect().await;
    let (all, dead) = (dead.len(), dead.into_iter().sum::<usize>());
    println!("{role:?} on a cluster: it died in {dead} of {all} runs");
    assert!(dead * 2 > all, "it died in {dead} of {all} runs only");
}

fn is_all() -> bool {
    std::env::var("CELERIAC_CRASH_POINTS").is_ok_and(|points| points == "all")
}

async fn check_all(role: Role, stage: &Stage) {
    let cases = CANVASES.iter().flat_map(|case| [(case, Trap::Before), (case, Trap::After)]);
    let checks = cases.map(|((name, text), trap)| async move {
        let canvas = text::parse(text).expect("the canvas is well written");
        (name, trap, stage.every_point(role, &canvas, trap).await)
    });
    let mut checks = std::pin::pin!(stream::iter(checks).buffer_unordered(6));
    let mut all = 0;
    while let Some((name, trap, points)) = checks.next().await {
        println!("{role:?}, {name}, {trap:?}: {points} of {points} crash points");
        assert!(points > 5, "{name}: only {points} commands were seen");
        all += points;
    }
    println!("{role:?}: {all} of {all} crash points");
}

async fn check_wide(role: Role) {
    let canvas = text::parse(WIDE).expect("the canvas is well written");
    let stage = &Stage::new(2);
    for trap in [Trap::Before, Trap::After] {
        if is_all() {
            let points = stage.every_point(role, &canvas, trap).await;
            println!("{role:?}, chord of 8,001, {trap:?}: {points} of {points} crash points");
            continue;
        }
        for nth in [9, 33] {
            let command = stage.run(role, &canvas, nth, trap).await;
            println!("{role:?}, chord of 8,001, {trap:?} command {nth}: {command:?}");
        }
    }
}

/// Where runs go on at the same time.
struct Stage {
    servers: Vec<Mutex<Place>>,
    runs: AtomicU64,
}

/// Where one run goes on at a time.
enum Place {
    Server(Server),
    Cluster(Cluster),
}

impl Place {
    fn url(&self) -> String {
        match self {
            Self::Server(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    fn nodes(&self) -> &[Server] {
        match self {
            Self::Server(server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// A proxy before it, and where the victim finds it.
    async fn proxy(&self) -> (Proxy, String) {
        match self {
            Self::Server(server) => {
                let proxy = Proxy::start(server.address()).await;
                let url = proxy.url();
                (proxy, url)
            }
            Self::Cluster(cluster) => {
                let proxy = Proxy::before_cluster(cluster).await;
                let url = proxy.cluster_url();
                (proxy, url)
            }
        }
    }
}

impl Stage {
    fn new(servers: usize) -> Self {
        let server = || Place::Server(Server::builder().without_aof().start());
        Self::of((0..servers).map(|_| server()))
    }

    fn of_clusters(clusters: usize) -> Self {
        let options = Server::builder().without_aof().without_addresses();
        // They find their nodes at the same time.
        let start = || {
            std::thread::spawn({
                let options = options.clone();
                || Place::Cluster(Cluster::start_with(options))
            })
        };
        let starting: Vec<_> = (0..clusters).map(|_| start()).collect();
        Self::of(starting.into_iter().map(|cluster| cluster.join().expect("a cluster starts")))
    }

    fn of(places: impl Iterator<Item = Place>) -> Self {
        Self { servers: places.map(Mutex::new).collect(), runs: AtomicU64::new(0) }
    }

    async fn server(&self) -> MutexGuard<'_, Place> {
        let free = self.servers.iter().map(|server| Box::pin(server.lock()));
        futures::future::select_all(free).await.0
    }

    /// Lets the victim die at its first command, at its second, and so on; returns how many there were.
    async fn every_point(&self, role: Role, canvas: &Canvas, trap: Trap) -> u64 {
        let runs = stream::iter(1..).map(|nth| self.run(role, canvas, nth, trap));
        let mut runs = std::pin::pin!(runs.buffered(self.servers.len()));
        let (mut points, mut outlived) = (0, 0);
        while outlived < OUTLIVED {
            match runs.next().await.expect("there is always a next number") {
                Some(_) => (points, outlived) = (points + 1, 0),
                None => outlived += 1,
            }
        }
        points
    }

    /// One run in which the victim dies at its `nth` command; the command, unless the victim has outlived the
    /// run.
    async fn run(&self, role: Role, canvas: &Canvas, nth: u64, trap: Trap) -> Option<String> {
        let server = self.server().await;
        let prefix = format!("crash{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let run = run(&server, &prefix, role, canvas, nth, trap);
        let ended = timeout(PATIENCE, run).await;
        ended.unwrap_or_else(|_| panic!("{role:?}, {trap:?} {nth}, {canvas:.200}: no end after {PATIENCE:?}"))
    }
}

async fn run(
    server: &Place,
    prefix: &str,
    role: Role,
    canvas: &Canvas,
    nth: u64,
    trap: Trap,
) -> Option<String> {
    let crew = Crew::alone(backend(server.url(), prefix).await);
    let (proxy, url) = server.proxy().await;
    proxy.count(|_| true);
    let doomed = crew.app_on(backend(url, prefix).await);
    let _other = match role {
        Role::Coordinator => Part::successor(&crew.app, Role::Worker),
        Role::Worker => Part::successor(&crew.app, Role::Coordinator),
    };
    proxy.trap(nth, trap);
    flush_scripts(server);
    let victim = Part::victim(&doomed, role);
    drop(doomed);

    // On a Cluster, queueing a leaf and noting that are two steps.
    let is_cluster = matches!(server, Place::Cluster(_));
    let runs = if role == Role::Worker || is_cluster { Runs::AtLeastOnce } else { Runs::Once };
    let watched = async {
        let checked = crew.check(canvas, runs).await;
        sleep(AFTERMATH).await;
        checked
    };
    let mut watched = std::pin::pin!(watched);
    let (checked, command, _last) = tokio::select! {
        biased;
        command = proxy.until_tripped() => {
            drop(victim);
            let successor = Part::successor(&crew.app, role);
            (watched.await, Some(command), successor)
        }
        checked = &mut watched => (checked, None, victim),
    };
    let place = || format!("{role:?}, {trap:?} {nth} ({command:?}), {canvas:.200}");
    let leaves = checked.unwrap_or_else(|differs| panic!("{}: {differs}", place()));
    let left = settle_down(server, prefix).await;
    assert!(left.is_empty(), "{}: {left:?} is left", place());
    let queued: usize = server.nodes().iter().map(|node| queued_ever(node, prefix)).sum();
    if is_cluster && role == Role::Coordinator && command.is_some() {
        // What it was about to note when it died.
        assert!((leaves..=2 * leaves).contains(&queued), "{}: {leaves} queued {queued} times", place());
    } else {
        assert_eq!(queued, leaves, "{}: each leaf is queued once", place());
    }
    command
}

async fn backend(url: String, prefix: &str) -> RedisBackend {
    RedisBackend::builder(url).prefix(prefix).connect().await.expect("the server answers")
}

/// A coordinator or a worker.
enum Part {
    Coordinator { _running: Coordinator },
    Worker { _running: Worker },
}

impl Part {
    /// Its leases are short, and it leaves sweeping, but for a first look, to the successor.
    fn victim(app: &App, role: Role) -> Self {
        let coordinator = CoordinatorOptions { lease: LEASE, sweep_every: FOREVER, ..Default::default() };
        Self::start(app, role, coordinator, WorkerOptions::default().lease(LEASE))
    }

    /// It loses no lease, however busy the machine is.
    fn successor(app: &App, role: Role) -> Self {
        let coordinator = CoordinatorOptions { sweep_every: SWEEP, ..Default::default() };
        Self::start(app, role, coordinator, WorkerOptions::default())
    }

    fn start(app: &App, role: Role, coordinator: CoordinatorOptions, worker: WorkerOptions) -> Self {
        match role {
            Role::Coordinator => Self::Coordinator { _running: app.coordinator(coordinator) },
            Role::Worker => Self::Worker { _running: app.worker(worker) },
        }
    }
}

fn flush_scripts(server: &Place) {
    for node in server.nodes() {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut node.connection()).expect("the server answers");
    }
}

/// Waits until nothing is queued, leased, or waits to be taken again; what is left when it does not happen.
async fn settle_down(server: &Place, prefix: &str) -> BTreeMap<String, u64> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left: BTreeMap<_, _> = server.nodes().iter().flat_map(|node| lines(node, prefix)).collect();
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        sleep(Duration::from_millis(10)).await;
    }
}
