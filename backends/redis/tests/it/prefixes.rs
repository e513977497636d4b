//! Redis is started from any part of its append-only file, as after a crash that lost the rest: the run goes
//! on from there to the right value, and no leaf runs again whose report was there.
//!
//! ```text
//! recorded   | SELECT | MULTI … EXEC | XADD … |  …  |        one run, from its submission to its end
//! each time  ▲────────▲──────────────▲────────▲     ▲        Redis from here, a new coordinator, a new worker, and
//!                                                            a client that submits the same again: it never heard
//! ```
//!
//! Redis takes what a script has written as a whole: a file that ends within it is cut before it, which is
//! looked at as well. By the time a part is tried, what was leased in it has no owner any more, and what
//! waited for its time is due.
//!
//! `CELERIAC_AOF_PREFIXES=all` takes all of them, instead of some of each canvas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_conformance::whole::{Crew, parts};
use celeriac_engine::text;
use celeriac_primitives::{Canvas, RunId, TaskId};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Fsync, Server};
use futures::stream::{self, StreamExt};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::look::lines;

/// Of those who are recorded, and are gone when their part is tried.
const LEASE: Duration = Duration::from_secs(1);

const SWEEP: Duration = Duration::from_millis(50);

/// Much longer than a run takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// So many parts are tried at the same time: they wait for leases most of the time.
const SERVERS: usize = 16;

/// So many of each recording when not all are.
const SOME: usize = 3;

const PREFIX: &str = "aof";

/// Longer values are large here.
const INLINE_BYTES_MAX: usize = 1000;

/// The leaf that runs once at most: when it had begun, and nobody has reported it, it is lost.
const ONCE: &str = "at most once";
const LOST: &str = "header[0]";

#[rustfmt::skip]
const CANVASES: &[(&str, &str)] = &[
    ("chain", "add.s(1, 1) | mul.s(3) | add.s(10) | identity.s()"),
    ("chord", "chord([add.s(i, i) for i in range(6)], tsum.s()) | add.s(1)"),
    ("nested", "group([chord([group([add.s(i, j), add.s(j, 1)]) | tsum.s() for j in range(2)], xsum.s()) for i in range(2)]) | xsum.s()"),
    ("maps and chunks", "group(identity.map([1, 2, 3]), add.starmap([(1, 2), (3, 4)]), add.chunks([(i, i) for i in range(5)], 2)) | xsum.s()"),
    ("timers", "chord([add.s(1, 1).set(countdown=0.5), add.s(2, 2).set(expires=600), add.s(3, 3) | add.s(4).set(countdown=0.3)], tsum.s())"),
    ("attempts", "chord([add.s(1, 1).set(headers={'fails': 2}, retry={'max_retries': 3, 'delay': 0.1, 'autoretry_for': ['FlakyError']}), add.s(2, 2)], tsum.s()) | add.s(1)"),
    ("callbacks", "chain(add.s(1, 2).link(echo.s()), group(fail.s(), add.s(1)), tsum.s()).on_error(echo.s()).finally(noargs.si())"),
    ("failures that are tolerated", "chord([fail.s(), add.s(1, 1), fail.s() | add.s(1)], tsum.s()).set(on_failure='drop') | add.s(1)"),
    ("replaced leaves", "chord([add_replaced.s(1, 1), down.s(2), add.s(3, 3)], tsum.s()) | add.s(1)"),
    ("added members", "chord([adds.s(1, canvases=[\"adds.s(2, canvases=['add.s(1, 1)'])\", 'add_replaced.s(4, 4)']), add.s(3, 3)], echo.s()) | xsum.s()"),
    ("large values", "chord([mul.s(['a text of some length'], 100) | identity.s(), identity.s('TEXT'), add.s(1, 1)], echo.s()) | identity.s()"),
    ("a large canvas", "chord([identity.s(i) for i in range(1100)], tsum.s()) | add.s(1)"),
    (ONCE, "chord([add.s(1, 1).set(acks_late=False), add.s(2, 2)], tsum.s())"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_from_any_prefix_of_the_append_only_file() {
    let is_all = std::env::var("CELERIAC_AOF_PREFIXES").is_ok_and(|prefixes| prefixes == "all");
    let chosen = |count| if is_all { (0..count).collect() } else { some(count) };
    // With two coordinators no report comes with its hint.
    let cases = CANVASES.iter().flat_map(|case| [(case, 1), (case, 2)]);
    let recorded = stream::iter(cases).map(|((name, text), crew)| record(name, text, crew)).buffered(4);
    let recorded: Vec<Recording> = recorded.collect().await;
    let stage = &Stage::new().await;

    let places = recorded.iter().flat_map(|recording| {
        let places: Vec<usize> = chosen(recording.ends.len());
        places.into_iter().map(move |place| (recording, place))
    });
    let went_on = stream::iter(places).map(|(recording, place)| async move {
        let ran = stage.go_on(recording, place).await;
        let checked = ran.and_then(|ran| recording.check(place, &ran));
        checked.unwrap_or_else(|differs| panic!("{}: {differs}", recording.place(place)));
    });
    let tried = went_on.buffer_unordered(SERVERS).count().await;
    for Recording { name, crew, ends, .. } in &recorded {
        println!("{name}, {crew} coordinators, {crew} workers: {} prefixes", ends.len());
    }
    let all: usize = recorded.iter().map(|recording| recording.ends.len()).sum();
    println!("{tried} of {all} prefixes");

    let within =
        recorded.iter().flat_map(|recording| recording.within.iter().map(move |cut| (recording, cut)));
    let within: Vec<_> = within.collect();
    let cut = stream::iter(chosen(within.len())).map(|place| {
        let (recording, (end, before)) = within[place];
        stage.is_cut(recording, *end, *before)
    });
    let tried = cut.buffer_unordered(SERVERS).count().await;
    println!("{tried} of {} that Redis cuts", within.len());
}

/// The first, the last, and some between.
fn some(count: usize) -> Vec<usize> {
    let places = (0..SOME).map(|nth| nth * count.saturating_sub(1) / (SOME - 1));
    let places: BTreeSet<usize> = places.filter(|place| *place < count).collect();
    places.into_iter().collect()
}

/// What one run has left in the append-only file, and what can be read from it.
struct Recording {
    name: &'static str,
    /// So many coordinators and workers there were.
    crew: usize,
    canvas: Canvas,
    bytes: Vec<u8>,
    /// Where it may end: before the submission, and after each step that Redis takes as a whole.
    ends: Vec<usize>,
    /// Where it may end within such a step, or a command, and where Redis then cuts it.
    within: Vec<(usize, usize)>,
    /// The leaves whose last report is there, by path, and the end from which on it is.
    reported: BTreeMap<String, usize>,
    /// The end from which on a leaf that runs once at most had begun.
    begun: Option<usize>,
}

/// On a busy machine a worker may lose a lease, and a leaf is run twice: such a recording tells nothing.
async fn record(name: &'static str, text: &str, size: usize) -> Recording {
    for _ in 0..5 {
        if let Some(recording) = try_to_record(name, text, size).await {
            return recording;
        }
    }
    panic!("{name}: leases are lost again and again")
}

async fn try_to_record(name: &'static str, text: &str, size: usize) -> Option<Recording> {
    let canvas = text::parse(&text.replace("TEXT", &"x".repeat(300_000))).expect("it is well written");
    let server = Server::builder()
        .appendfsync(Fsync::Always)
        .option("aof-use-rdb-preamble", "no")
        .option("auto-aof-rewrite-percentage", 0)
        .start();
    let crew = Crew::alone(backend(&server).await);
    let coordinator = CoordinatorOptions { lease: LEASE, sweep_every: SWEEP, ..Default::default() };
    let mut others = Vec::new();
    for _ in 0..size {
        let (one, other) = (backend(&server).await, backend(&server).await);
        let coordinator = crew.app_on(one).coordinator(coordinator.clone());
        others.push((coordinator, crew.app_on(other).worker(WorkerOptions::default().lease(LEASE))));
    }
    let start = read_file(&server).len();
    let run = crew.app.submission(canvas.clone()).id(RunId::from_key(name)).await.expect("it is accepted");
    timeout(PATIENCE, run.ended()).await.expect("it ends in time").expect("the server answers");
    settle_down(&server).await;
    let bytes = read_file(&server);
    let leaves = leaves(&crew.app, run.id()).await;
    Recording::read(name, size, canvas, bytes, start, &leaves)
}

/// All leaves of a run and of what runs in its place, with their paths.
async fn leaves(app: &App, run: RunId) -> BTreeMap<TaskId, String> {
    let mut leaves = BTreeMap::new();
    for part in parts(app, run).await.expect("the server answers") {
        for node in part.run.nodes().await.expect("the server answers") {
            let path = part.place.join(&part.run.plan().path(node.node));
            leaves.insert(part.run.id().task(node.node), path.to_string());
        }
    }
    leaves
}

impl Recording {
    fn read(
        name: &'static str,
        crew: usize,
        canvas: Canvas,
        bytes: Vec<u8>,
        start: usize,
        leaves: &BTreeMap<TaskId, String>,
    ) -> Option<Self> {
        let mut attempts = BTreeSet::new();
        let (mut ends, mut within, mut reported, mut begun) =
            (vec![start], Vec::new(), BTreeMap::new(), None);
        let (mut at, mut opened, mut is_open) = (start, start, false);
        while at < bytes.len() {
            let (command, end) = command(&bytes, at);
            is_open |= command[0].eq_ignore_ascii_case(b"MULTI");
            let number = ends.len();
            // A crash may cut a command, too. One within a script Redis cuts from the file, and what the
            // script wrote before it stays there, if not in memory.
            if !is_open {
                within.push(((at + end) / 2, at));
            }
            if is_report(&command) {
                let leaf = leaves.iter().find(|(leaf, _)| command[4].starts_with(leaf.uuid().as_bytes()));
                let (_, path) = leaf.expect("a report is on a leaf of the run");
                reported.insert(path.clone(), number);
                // After the id of its leaf comes the attempt.
                if !attempts.insert(command[4][..20].to_vec()) {
                    return None;
                }
            }
            if name == ONCE && begun.is_none() && command.iter().any(|word| word == b"b1") {
                begun = Some(number);
            }
            at = end;
            if command[0].eq_ignore_ascii_case(b"EXEC") || !is_open {
                (opened, is_open) = (at, false);
                ends.push(at);
            } else {
                within.push((at, opened));
            }
        }
        assert!(!is_open && ends.len() > 5, "{name}: {} steps", ends.len());
        assert_eq!(begun.is_some(), name == ONCE, "{name}: when it had begun");
        Some(Self { name, crew, canvas, bytes, ends, within, reported, begun })
    }

    fn place(&self, place: usize) -> String {
        let Self { name, crew, ends, .. } = self;
        format!("{name}, crew of {crew}, prefix {place} of {}, {} bytes", ends.len(), ends[place])
    }

    /// Whether from there on those leaves were run that nobody had reported before.
    fn check(&self, place: usize, ran: &BTreeSet<String>) -> Result<(), String> {
        let left = self.reported.iter().filter(|(_, from)| **from > place).map(|(path, _)| path.clone());
        let mut left: BTreeSet<String> = left.collect();
        if self.is_lost(place) {
            left.retain(|path| path != LOST && path != "body");
        }
        if *ran == left { Ok(()) } else { Err(format!("ran {ran:?}, not {left:?}")) }
    }

    /// Whether a leaf that runs once at most had begun here and nobody had reported it.
    fn is_lost(&self, place: usize) -> bool {
        self.begun.is_some_and(|begun| (begun..self.reported[LOST]).contains(&place))
    }
}

/// `XADD`, a line of reports, an id, the field, and the report, which begins with the id of its leaf.
fn is_report(command: &[Vec<u8>]) -> bool {
    let is_line = |key: &[u8]| key.ends_with(b"stream") && key.windows(6).any(|part| part == b":done:");
    command.len() == 5 && command[0].eq_ignore_ascii_case(b"XADD") && is_line(&command[1])
}

/// The command that begins there, and where the next one does.
fn command(bytes: &[u8], at: usize) -> (Vec<Vec<u8>>, usize) {
    let number = |at: usize, mark: u8| {
        let end = at + bytes[at..].iter().position(|byte| *byte == b'\r').expect("a line has an end");
        assert_eq!(bytes[at], mark, "byte {at}");
        let digits = std::str::from_utf8(&bytes[at + 1..end]).expect("a number has digits");
        (digits.parse::<usize>().expect("it is a number"), end + 2)
    };
    let (words, mut at) = number(at, b'*');
    let mut command = Vec::with_capacity(words);
    for _ in 0..words {
        let (length, start) = number(at, b'$');
        command.push(bytes[start..start + length].to_vec());
        at = start + length + 2;
    }
    (command, at)
}

/// Servers that are started from one part after the other.
struct Stage {
    servers: Vec<Mutex<Arc<Server>>>,
    next: AtomicUsize,
}

impl Stage {
    async fn new() -> Self {
        let server = || Server::builder().appendfsync(Fsync::No).option("aof-use-rdb-preamble", "no").start();
        let servers = stream::iter(0..SERVERS).map(|_| tokio::task::spawn_blocking(server)).buffered(4);
        let servers = servers.map(|server| Mutex::new(Arc::new(server.expect("it starts")))).collect();
        Self { servers: servers.await, next: AtomicUsize::new(0) }
    }

    /// A server that was started from a part of what was recorded.
    async fn server(&self, recording: &Recording, end: usize) -> MutexGuard<'_, Arc<Server>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let server = self.servers[next % self.servers.len()].lock().await;
        let (starting, bytes) = (server.clone(), recording.bytes[..end].to_vec());
        let start = tokio::task::spawn_blocking(move || {
            starting.kill();
            std::fs::write(file_of(&starting), bytes).expect("its directory is writable");
            starting.start_again();
        });
        start.await.expect("it starts");
        server
    }

    /// The leaves that were run from there on.
    async fn go_on(&self, recording: &Recording, place: usize) -> Result<BTreeSet<String>, String> {
        let server = self.server(recording, recording.ends[place]).await;
        let crew = Crew::alone(backend(&server).await);
        let coordinator = CoordinatorOptions { sweep_every: SWEEP, ..CoordinatorOptions::default() };
        let parts: (Coordinator, Worker) = (
            crew.app_on(backend(&server).await).coordinator(coordinator),
            crew.app_on(backend(&server).await).worker(WorkerOptions::default()),
        );
        let went_on = timeout(PATIENCE, crew.go_on(RunId::from_key(recording.name), &recording.canvas)).await;
        let went_on = went_on.map_err(|_| format!("no end after {PATIENCE:?}"))??;
        let left = settle_down(&server).await;
        drop(parts);
        if !left.is_empty() {
            return Err(format!("{left:?} is left"));
        }
        match went_on.differs {
            Some(differs) if recording.is_lost(place) && differs.contains("WorkerLost") => Ok(went_on.ran),
            Some(differs) => Err(differs),
            None if recording.is_lost(place) => Err("what may have run ran again".to_owned()),
            None => Ok(went_on.ran),
        }
    }

    /// Redis itself cuts such a part.
    async fn is_cut(&self, recording: &Recording, end: usize, before: usize) {
        let server = self.server(recording, end).await;
        let length = std::fs::metadata(file_of(&server)).expect("the file is there").len();
        assert_eq!(length, before as u64, "{}: {end} bytes", recording.name);
    }
}

async fn backend(server: &Server) -> RedisBackend {
    let builder = RedisBackend::builder(server.url()).prefix(PREFIX).inline_bytes_max(INLINE_BYTES_MAX);
    builder.connect().await.expect("the server answers")
}

/// Where Redis appends.
fn file_of(server: &Server) -> PathBuf {
    server.directory().join("appendonlydir/appendonly.aof.1.incr.aof")
}

fn read_file(server: &Server) -> Vec<u8> {
    std::fs::read(file_of(server)).expect("the file is there")
}

/// Waits until nothing is queued, leased, or waits to be taken again; what is left when it does not happen.
async fn settle_down(server: &Server) -> BTreeMap<String, u64> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = lines(server, PREFIX);
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        sleep(Duration::from_millis(10)).await;
    }
}
