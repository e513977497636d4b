//! Keys and entries that somebody else has written: each stops nothing but what it belongs to, and what
//! nobody can read is a dead letter.

use std::time::Duration;

use celeriac_backends::{DeadLetter, DeadLetters, LetterFrom, Requeued};
use celeriac_dsl::{task, tasks};
use celeriac_primitives::Options;
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Coordinator, CoordinatorOptions, Worker, WorkerOptions};
use celeriac_testkit::{Cluster, Server};
use redis::{Cmd, cmd};
use tokio::time::{Instant, sleep, timeout};

/// A run beside a fault ends in this time.
const CANARY: Duration = Duration::from_secs(5);

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const SOON: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_secs(1);

#[task(crate = celeriac_dsl, name = "strange.add")]
pub(crate) async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(crate = celeriac_dsl, name = "strange.sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(crate = celeriac_dsl, name = "strange.length")]
async fn length(text: String) -> usize {
    text.len()
}

#[task(crate = celeriac_dsl, name = "strange.nap")]
async fn nap() -> i64 {
    sleep(Duration::from_millis(700)).await;
    1
}

/// Where a live system is, and how commands get there that are nobody's.
pub(crate) enum At {
    One(Server),
    Cluster(Cluster),
}

impl At {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Runs a command on the server that has this key.
    pub(crate) fn run<T: redis::FromRedisValue>(&self, key: &str, command: &Cmd) -> T {
        let mut connection = match self {
            Self::One(server) => server.connection(),
            Self::Cluster(cluster) => cluster.node_of(key).connection(),
        };
        command.query(&mut connection).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// Puts a key of another kind in the place of this one.
    fn spoil(&self, key: &str) {
        self.run::<()>(key, cmd("DEL").arg(key));
        if key.ends_with("names") || key.ends_with("lanes") {
            return self.run(key, cmd("RPUSH").arg(key).arg("x"));
        }
        self.run::<()>(key, cmd("SET").arg(key).arg("not what it should be"));
    }

    fn keys(&self, pattern: &str) -> Vec<String> {
        match self {
            Self::One(server) => server.keys(pattern),
            Self::Cluster(cluster) => cluster.keys(pattern),
        }
    }

    fn mend(&self, key: &str) {
        self.run(key, cmd("DEL").arg(key))
    }
}

/// A coordinator and a worker that serves two queues, each with a connection of its own, and a client.
pub(crate) struct Live {
    pub(crate) at: At,
    pub(crate) client: App,
    pub(crate) backend: RedisBackend,
    coordinator: Coordinator,
    _worker: Worker,
}

impl Live {
    pub(crate) async fn start(at: At) -> Self {
        let mut options = WorkerOptions::default().queues(["celery", "other"]);
        options.lease = LEASE;
        let worker = Self::app(&Self::connect(&at).await).worker(options);
        let (coordinator, backend) = (Self::coordinator(&Self::connect(&at).await), Self::connect(&at).await);
        let live = Self { client: Self::app(&backend), backend, coordinator, _worker: worker, at };
        // Both queues are used, and all scripts are there.
        live.canary("at first").await;
        let run = live.client.submit(add.s((1, 1)).set(Options::new().with_queue("other").unwrap()));
        assert_eq!(run.await.unwrap().get().await.unwrap(), 2);
        live
    }

    async fn connect(at: &At) -> RedisBackend {
        let builder = RedisBackend::builder(at.url()).prefix("strange");
        builder.connect().await.expect("it answers")
    }

    fn app(backend: &RedisBackend) -> App {
        let app = App::builder("strange").tasks(tasks![add, sum, length, nap]).backend(backend.clone());
        app.build().expect("it fits together")
    }

    fn coordinator(backend: &RedisBackend) -> Coordinator {
        Self::app(backend).coordinator(CoordinatorOptions {
            lease: LEASE,
            sweep_every: Duration::from_millis(200),
            ..CoordinatorOptions::default()
        })
    }

    /// A run that has nothing to do with what is wrong.
    pub(crate) async fn canary(&self, beside: &str) {
        let canvas = add.s((1, 1)) | celeriac_dsl::chord([add.s(1), add.s(2)], sum.s(())) | add.s(3);
        let run = async { self.client.submit(canvas).await?.get_timeout(CANARY).await.map_err(Into::into) };
        let value: Result<i64, Box<dyn std::error::Error + Send + Sync>> = run.await;
        match value {
            Ok(value) => assert_eq!(value, 10, "beside {beside}"),
            Err(error) => panic!("beside {beside}: {error}"),
        }
    }

    pub(crate) async fn letters(&self) -> Vec<DeadLetter> {
        self.backend.dead_letters(None, 1000).await.unwrap()
    }

    /// Waits for one dead letter; it is not there any more afterwards.
    async fn letter(&self, beside: &str) -> DeadLetter {
        let start = Instant::now();
        loop {
            if let Some(letter) = self.letters().await.into_iter().next() {
                assert!(self.backend.drop_letter(letter.id).await.unwrap(), "{beside}");
                return letter;
            }
            assert!(start.elapsed() < PATIENCE, "{beside}: it is not set aside");
            sleep(SOON).await;
        }
    }
}

/// Fields and values of an entry.
type Parts<'p> = Vec<(&'p [u8], &'p [u8])>;

pub(crate) fn entry(stream: &str, fields: &[(&[u8], &[u8])]) -> Cmd {
    let mut command = cmd("XADD");
    command.arg(stream).arg("*");
    for (field, value) in fields {
        command.arg(*field).arg(*value);
    }
    command
}

/// What is no leaf, no report and no submission.
async fn entries_that_nobody_can_read(at: At) {
    let live = Live::start(at).await;
    let (leaves, reports) = ("strange:{q:celery}:stream", "strange:{q:celery}:done:stream");
    let submissions = "strange:{events}:stream";
    let many: Vec<(Vec<u8>, Vec<u8>)> =
        (0..5000).map(|n| (format!("f{n}").into_bytes(), b"v".to_vec())).collect();
    let many: Vec<(&[u8], &[u8])> = many.iter().map(|(field, value)| (&field[..], &value[..])).collect();
    let large = vec![b'x'; 3 * 1024 * 1024];
    let cases: Vec<(&str, &str, Parts)> = vec![
        ("a field that is not UTF-8", leaves, vec![(b"\xff\xfe", b"\x00")]),
        ("an empty value", leaves, vec![(b"m", b"")]),
        ("a short value", leaves, vec![(b"m", b"\x01\x02\x03")]),
        ("many fields", leaves, many.clone()),
        ("a large value", leaves, vec![(b"x", &large)]),
        ("a report with another field", reports, vec![(b"\xff", b"\xff")]),
        ("a report without a leaf", reports, vec![(b"c", b"")]),
        ("a report of many fields", reports, many),
        ("a submission without a run", submissions, vec![(b"s", b"?")]),
        ("an event of no kind", submissions, vec![(b"\xc3\x28", b"x"), (b"y", b"z")]),
    ];
    for (what, stream, fields) in cases {
        live.at.run::<String>(stream, &entry(stream, &fields));
        if stream == reports {
            // Nobody has told of it: a sweep does.
            live.canary(what).await;
        }
        live.canary(what).await;
        let letter = live.letter(what).await;
        let bytes: usize = fields.iter().map(|(field, value)| field.len() + value.len()).sum();
        assert_eq!(letter.bytes, bytes as u64, "{what}");
        assert_eq!(letter.is_whole, bytes < 1024 * 1024 && fields.len() <= 100, "{what}");
        let from = match stream {
            _ if stream == leaves => LetterFrom::Leaves("celery".into(), Default::default()),
            _ if stream == reports => LetterFrom::Reports("celery".into(), false),
            _ => LetterFrom::Submissions,
        };
        assert_eq!(letter.from, Some(from), "{what}");
        assert!(!letter.reason.is_empty() && letter.deliveries == 1, "{what}: {letter:?}");
        assert_eq!(
            live.at.run::<u64>(stream, cmd("XLEN").arg(stream)),
            0,
            "{what}: it is in its line no more"
        );
        if letter.is_whole {
            let same: Vec<(&[u8], &[u8])> = letter.fields.iter().map(|(f, v)| (&f[..], &v[..])).collect();
            assert_eq!(same, fields, "{what}: as it was");
        }
    }
    assert!(live.letters().await.is_empty());
    // One that names a leaf of no run is ended like any other that cannot be read, for nobody.
    live.at.run::<String>(leaves, &entry(leaves, &[(b"m", &[0xff; 40])]));
    live.canary("a leaf of no run").await;
    let start = Instant::now();
    while live.at.run::<u64>(leaves, cmd("XLEN").arg(leaves)) > 0 {
        assert!(start.elapsed() < PATIENCE, "it is still there");
        sleep(SOON).await;
    }
    assert!(live.letters().await.is_empty());
}

/// Keys of the wrong kind: `live` says which runs still end beside them.
async fn a_key_of_another_kind(at: At) {
    let live = Live::start(at).await;
    for place in [
        "stream",
        "again",
        "apart",
        "gone",
        "delayed",
        "expiring",
        "idle",
        "done:stream",
        "done:again",
        "done:apart",
    ] {
        let key = format!("strange:{{q:other}}:{place}");
        live.at.spoil(&key);
        // Work of the queue itself, whose reports may be refused, is in everybody's way.
        for _ in 0..6 {
            let other = Options::new().with_queue("other").unwrap();
            let _ = live.client.submit(add.s((1, 1)).set(other)).await;
        }
        for _ in 0..3 {
            live.canary(&key).await;
        }
        live.at.mend(&key);
        live.canary(&key).await;
        let run = live.client.submit(add.s((2, 2)).set(Options::new().with_queue("other").unwrap())).await;
        let value = timeout(PATIENCE, run.unwrap().get()).await;
        assert_eq!(value.unwrap_or_else(|_| panic!("{key} is mended")).unwrap(), 4);
    }
}

/// Runs whose reports come in one batch: what one of them releases goes to a queue that is broken.
async fn what_is_settled_beside_a_queue_of_another_kind(at: At) {
    let Live { at, client, backend, coordinator, _worker } = Live::start(at).await;
    let other = Options::new().with_queue("other").unwrap();
    let broken = client.submit(nap.s(()) | add.s(1).set(other)).await.unwrap();
    let mut beside = Vec::new();
    for number in 0..20 {
        beside.push(client.submit(nap.s(()) | add.s(number)).await.unwrap());
    }
    // All naps have begun, and end while nobody takes their reports.
    let queue = "strange:{q:celery}:stream";
    let start = Instant::now();
    while at.run::<u64>(queue, cmd("XLEN").arg(queue)) < 21 {
        assert!(start.elapsed() < PATIENCE, "all are queued");
        sleep(SOON).await;
    }
    coordinator.shutdown().await;
    let key = "strange:{q:other}:stream";
    at.spoil(key);
    let reports = "strange:{q:celery}:done:stream";
    while at.run::<u64>(reports, cmd("XLEN").arg(reports)) < 21 {
        assert!(start.elapsed() < PATIENCE, "all have ended");
        sleep(SOON).await;
    }
    // This one knows the plans, so it composes what is released before it settles.
    let live = Live { coordinator: Live::coordinator(&backend), at, client, backend, _worker };
    for (number, run) in (0..).zip(beside) {
        assert_eq!(run.get_timeout(CANARY).await.unwrap(), number + 1, "beside a queue that is broken");
    }
    live.at.mend(key);
    assert_eq!(broken.get_timeout(PATIENCE).await.unwrap(), 2, "{key} is mended");
}

/// Members of the lists of an app that are nobody's.
async fn a_member_of_another_kind(at: At) {
    let live = Live::start(at).await;
    let strange: &[u8] = b"\xff\xfe{q";
    for (key, command) in
        [("names", "ZADD"), ("lanes", "SADD"), ("runs", "ZADD"), ("ended", "ZADD"), ("gone", "SADD")]
    {
        let key = format!("strange:{{events}}:{key}");
        let mut put = cmd(command);
        put.arg(&key);
        if command == "ZADD" {
            put.arg(0);
        }
        live.at.run::<()>(&key, put.arg(strange));
        live.canary(&key).await;
        live.canary(&key).await;
        let runs = live.client.runs(None, 10).await.unwrap();
        assert!(!runs.is_empty(), "beside {key}");
    }
    // Moments that no clock comes to, and members that nobody knows.
    for (key, score, member) in [
        ("names", "1e300", &b"other"[..]),
        ("names", "-inf", b"celery"),
        ("timers", "inf", b"strange:{q:other}:stream"),
        ("timers", "-inf", b"\xff"),
        ("reports", "inf", b"\xff"),
        ("ended", "-1e300", b"\xff"),
    ] {
        let key = format!("strange:{{events}}:{key}");
        live.at.run::<()>(&key, cmd("ZADD").arg(&key).arg(score).arg(member));
        for _ in 0..2 {
            live.canary(&key).await;
            sleep(Duration::from_millis(250)).await;
        }
    }
    assert_eq!(live.coordinator.vitals().complaint(), None, "none of its parts has panicked");
    // A name of megabytes, which each key of its queue would have.
    let long = [&b"long"[..], &vec![b'x'; 16 << 20]].concat();
    for (key, command) in [("names", "ZADD"), ("lanes", "SADD"), ("gone", "SADD")] {
        let key = format!("strange:{{events}}:{key}");
        let mut put = cmd(command);
        put.arg(&key);
        if command == "ZADD" {
            put.arg(0);
        }
        let member = if key.ends_with("lanes") { [&long[..], b"\x017"].concat() } else { long.clone() };
        live.at.run::<()>(&key, put.arg(&member));
        for _ in 0..3 {
            live.canary(&key).await;
        }
        let start = Instant::now();
        let card = if command == "ZADD" { "ZSCORE" } else { "SISMEMBER" };
        let is_there = || live.at.run::<Option<u64>>(&key, cmd(card).arg(&key).arg(&member));
        while is_there().is_some_and(|there| card == "ZSCORE" || there == 1) {
            assert!(start.elapsed() < PATIENCE, "it is taken off {key}");
            sleep(SOON).await;
        }
    }
    // So many that they fill page after page, in an order that is none of theirs.
    let key = "strange:{events}:runs";
    let mut put = cmd("ZADD");
    put.arg(key);
    for number in 0..2000u32 {
        put.arg((number * 7919) % 2003)
            .arg([&b"\xff"[..], &number.wrapping_mul(2_654_435_761).to_be_bytes()].concat());
    }
    live.at.run::<()>(key, &put);
    let runs = timeout(PATIENCE, live.client.runs(None, 20)).await.expect("the list has an end");
    runs.unwrap();
    live.canary(key).await;
}

/// Keys of everybody of another kind: each is moved aside, where a person finds what stood there.
async fn a_key_of_everybody_is_moved_aside(at: At) {
    let live = Live::start(at).await;
    for place in [
        "stream", "again", "apart", "names", "lanes", "reports", "timers", "runs", "ended", "gone", "dead",
        "intents",
    ] {
        let key = format!("strange:{{events}}:{place}");
        live.at.spoil(&key);
        for _ in 0..3 {
            live.canary(&key).await;
        }
        live.client.runs(None, 10).await.unwrap_or_else(|error| panic!("beside {key}: {error}"));
        if !matches!(place, "stream" | "names" | "runs" | "ended") {
            // What nobody has come across yet may stand there for a while.
            live.at.mend(&key);
            continue;
        }
        let (start, pattern) = (Instant::now(), format!("{key}:aside:*"));
        while live.at.keys(&pattern).is_empty() {
            assert!(start.elapsed() < PATIENCE, "{key} is still there");
            sleep(SOON).await;
        }
        live.at.keys(&pattern).iter().for_each(|aside| live.at.mend(aside));
    }
    live.canary("all that is mended").await;
}

/// Where the reports of a queue go is something else, or takes no more: its leaves are reported all the
/// same.
async fn reports_that_cannot_be_written_are_moved_aside(at: At) {
    let live = Live::start(at).await;
    let key = "strange:{q:other}:done:stream";
    for what in ["another kind", "the last id"] {
        if what == "another kind" {
            live.at.spoil(key);
        } else {
            let last = "18446744073709551615-18446744073709551615";
            live.at.run::<()>(key, cmd("XADD").arg(key).arg(last).arg("c").arg("?"));
        }
        let other = Options::new().with_queue("other").unwrap();
        let run = live.client.submit(add.s((1, 1)).set(other)).await.unwrap();
        let ends = run.get_timeout(PATIENCE).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(ends, 2, "{what}");
        let aside = live.at.keys(&format!("{key}:aside:*"));
        assert_eq!(aside.len(), 1, "{what}: {aside:?}");
        live.at.mend(&aside[0]);
        live.canary(what).await;
    }
}

/// Of one run all is broken; it is listed as such, and the others as ever.
async fn a_run_that_cannot_be_read_is_listed_beside_the_others(at: At) {
    let live = Live::start(at).await;
    let (broken, whole) =
        (live.client.submit(add.s((1, 1))).await.unwrap(), live.client.submit(add.s((1, 2))));
    let whole = whole.await.unwrap();
    assert_eq!((broken.get().await.unwrap(), whole.get().await.unwrap()), (2, 3));
    for spoilt in ["not what it should be", "\x02"] {
        let key = format!("strange:{{{}}}:run", broken.id());
        live.at.run::<()>(&key, cmd("DEL").arg(&key));
        match spoilt {
            "\x02" => live.at.run::<()>(&key, cmd("HSET").arg(&key).arg("m").arg(spoilt)),
            _ => live.at.run::<()>(&key, cmd("SET").arg(&key).arg(spoilt)),
        }
        let listed = live.client.runs(None, 100).await.unwrap();
        let read: Vec<_> = listed.iter().filter_map(|run| run.as_ref().ok().map(|run| run.id)).collect();
        assert!(read.contains(&whole.id()) && !read.contains(&broken.id()), "{listed:?}");
        let unreadable: Vec<_> = listed.iter().filter_map(|run| run.as_ref().err()).collect();
        assert_eq!(unreadable.len(), 1, "{listed:?}");
        assert_eq!(unreadable[0].id, broken.id());
        let told = unreadable[0].error.to_string();
        assert!(told.contains("broken"), "{told}");
        assert!(told.contains(&key) || spoilt == "\x02", "it names the key: {told}");
    }
}

/// The plan of a run is another one: nobody waits for it to be as it was, and what belongs to the run is
/// set aside.
async fn a_plan_that_is_not_as_it_was_stored_holds_up_nobody(at: At) {
    let live = Live::start(at).await;
    // So many numbers that the plan has a key of its own.
    let header: Vec<_> = (0..12_000).map(|number| add.s((number, 1))).collect();
    let run = live.client.submit(celeriac_dsl::chord(header, sum.s(()))).await.unwrap();
    let key = format!("strange:{{{}}}:plan", run.id());
    live.at.run::<usize>(&key, cmd("APPEND").arg(&key).arg("more"));
    // A client that has it not at hand is told.
    let other = RedisBackend::builder(live.at.url()).prefix("strange").connect().await.unwrap();
    let app = App::builder("strange").tasks(tasks![add, sum]).backend(other).build().unwrap();
    let error = timeout(PATIENCE, app.run::<i64>(run.id())).await.expect("nobody waits").unwrap_err();
    assert!(error.to_string().contains(&key), "it names the key: {error}");
    live.canary(&key).await;
    run.forget().await.unwrap();
}

/// A large argument is not what was kept: its leaf fails, and says why.
async fn a_large_value_that_is_broken_fails_the_leaf_that_takes_it(at: At) {
    let live = Live::start(at).await;
    let later = Options::new().with_countdown(Duration::from_millis(700));
    let run = live.client.submit(length.s("x".repeat(100_000)).set(later)).await.unwrap();
    let key = format!("strange:{{{}}}:literals", run.id());
    let fields: Vec<String> = live.at.run(&key, cmd("HKEYS").arg(&key));
    live.at.run::<()>(&key, cmd("HSET").arg(&key).arg(&fields[0]).arg("[[["));
    live.canary(&key).await;
    let failed = timeout(PATIENCE, run.get()).await.expect("it ends").unwrap_err().to_string();
    assert!(failed.contains("its input cannot be read"), "{failed}");
}

/// A letter goes back where it came from, as if it had just come there.
async fn a_dead_letter_is_requeued(at: At) {
    let live = Live::start(at).await;
    let stream = "strange:{q:celery}:stream";
    live.at.run::<String>(stream, &entry(stream, &[(b"m", b"no leaf")]));
    let start = Instant::now();
    while live.letters().await.is_empty() {
        assert!(start.elapsed() < PATIENCE);
        sleep(SOON).await;
    }
    let first = live.letters().await.remove(0);
    assert_eq!(live.backend.requeue(first.id).await.unwrap(), Requeued::Yes);
    assert_eq!(live.backend.requeue(first.id).await.unwrap(), Requeued::Unknown);
    // Nobody can read it now either.
    let again = live.letter("what was requeued").await;
    assert_eq!((&again.fields, &again.from), (&first.fields, &first.from));
    assert!(again.id > first.id);
    assert!(!live.backend.drop_letter(again.id).await.unwrap());
    live.canary("dead letters").await;
}

macro_rules! everywhere {
    ($($case:ident)*) => {
        mod one {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(At::One(Server::start())).await;
            })*
        }

        mod cluster {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(At::Cluster(Cluster::start())).await;
            })*
        }
    };
}

everywhere! {
    entries_that_nobody_can_read
    a_key_of_another_kind
    what_is_settled_beside_a_queue_of_another_kind
    a_member_of_another_kind
    a_key_of_everybody_is_moved_aside
    reports_that_cannot_be_written_are_moved_aside
    a_run_that_cannot_be_read_is_listed_beside_the_others
    a_plan_that_is_not_as_it_was_stored_holds_up_nobody
    a_large_value_that_is_broken_fails_the_leaf_that_takes_it
    a_dead_letter_is_requeued
}
