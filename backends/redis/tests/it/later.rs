//! What a program of a later version has written: this one leaves it to programs that can read it, uncounted,
//! says so, and goes on with all else.

use std::cell::RefCell;
use std::sync::Once;
use std::time::Duration;

use celeriac_backends::DeadLetters;
use celeriac_engine::RunOutcome;
use celeriac_primitives::{Json, Options, Outcome};
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, Handle};
use celeriac_testkit::{Cluster, Server};
use redis::{Value, cmd};
use tokio::time::{Instant, sleep, timeout};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::strange::{At, Live, PATIENCE, SOON, add, entry};

/// Of an entry.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Longer than an entry may come without being set aside, if it were counted: five deliveries of a second.
const LONG: Duration = Duration::from_secs(7);

/// Of what names its leaf: the task's id, the attempt, the incarnation.
const HEAD: usize = 16 + 4 + 8;

/// How a later format begins, and one that is not for this program at all.
const LATER: [u8; 4] = [0xc1, 0x80, b'?', 0];

const LEAVES: &str = "strange:{q:celery}:stream";
const REPORTS: &str = "strange:{q:celery}:done:stream";
const SUBMISSIONS: &str = "strange:{events}:stream";

/// An entry that nobody has taken, as the present version writes it, and its run.
struct Written {
    run: Handle<i64>,
    value: Vec<u8>,
}

/// A leaf in a queue that no worker serves, taken out of it.
async fn written(live: &Live) -> Written {
    const QUEUE: &str = "strange:{q:nobody}:stream";
    let canvas = add.s((20, 22)).set(Options::new().with_queue("nobody").expect("it is a queue"));
    let run = live.client.submit(canvas).await.expect("it is accepted");
    let start = Instant::now();
    let (id, fields) = loop {
        let mut there: Vec<(String, Fields)> = live.at.run(QUEUE, cmd("XRANGE").arg(QUEUE).arg("-").arg("+"));
        if let Some(entry) = there.pop() {
            break entry;
        }
        // On a Cluster a coordinator queues it.
        assert!(start.elapsed() < PATIENCE, "it is not queued");
        sleep(SOON).await;
    };
    live.at.run::<()>(QUEUE, cmd("XDEL").arg(QUEUE).arg(id));
    Written { run, value: fields[0].1.clone() }
}

/// What stands for a program of a later version: it takes the entry, and reports. The present ones take it
/// and give it back all the time, so it does not wait until nobody holds it.
async fn taken_by_a_newer_one(live: &Live, stream: &str, id: &str, written: &Written) {
    let again = stream.replace(":stream", ":again");
    live.at.run::<()>(stream, cmd("LREM").arg(&again).arg(1).arg(id));
    live.at.run::<()>(stream, cmd("XACK").arg(stream).arg("celeriac").arg(id));
    live.at.run::<()>(stream, cmd("XDEL").arg(stream).arg(id));
    let value = Json::new(&42).expect("a number has a JSON form");
    let outcome = rmp_serde::to_vec(&Outcome::Success(value)).expect("it has a MessagePack form");
    let report = [&written.value[..HEAD], &outcome].concat();
    live.at.run::<String>(REPORTS, &entry(REPORTS, &[(b"c", &report)]));
    let value = timeout(PATIENCE, written.run.get()).await.expect("it ends in time");
    assert_eq!(value.expect("it has a value"), 42);
}

/// Who holds an entry, and how often it was delivered.
fn held(live: &Live, stream: &str, id: &str) -> (String, u64) {
    let mut pending = cmd("XPENDING");
    pending.arg(stream).arg("celeriac").arg(id).arg(id).arg(1);
    let held: Vec<(String, String, u64, u64)> = live.at.run(stream, &pending);
    held.into_iter().next().map(|(_, consumer, _, count)| (consumer, count)).unwrap_or_default()
}

async fn what_is_of_a_later_format_is_left_to_others(at: At) {
    let live = Live::start(at).await;
    let (leaf, longer, other) = (written(&live).await, written(&live).await, written(&live).await);
    let report = written(&live).await;
    let later = |written: &Written, rest: &[u8]| [&written.value[..HEAD], rest].concat();
    // One field more than this program knows.
    let mut more = [&longer.value[..], &[0xa1, b'!']].concat();
    more[HEAD] += 1;
    let put = |stream: &str, field: &[u8], value: &[u8]| {
        let id: String = live.at.run(stream, &entry(stream, &[(field, value)]));
        (stream.to_owned(), id)
    };
    let entries = [
        put(LEAVES, b"m", &later(&leaf, &LATER)),
        put(LEAVES, b"m", &more),
        put(LEAVES, b"n", &LATER),
        put(REPORTS, b"c", &later(&report, &LATER)),
        put(REPORTS, b"d", &LATER),
        put(SUBMISSIONS, b"t", &LATER),
    ];
    let start = Instant::now();
    while start.elapsed() < LONG {
        live.canary("what is of a later format").await;
        sleep(SOON).await;
    }
    assert!(live.letters().await.is_empty(), "{:?}", live.letters().await);
    for (stream, id) in &entries {
        let there: Vec<Value> = live.at.run(stream, cmd("XRANGE").arg(stream).arg(id).arg(id));
        assert_eq!(there.len(), 1, "{stream} {id} is still there");
        let (consumer, count) = held(&live, stream, id);
        assert!(count <= 1, "{stream} {id}, at {consumer}, is counted: {count}");
    }
    for written in [&leaf, &longer, &other, &report] {
        let status = written.run.status().await.expect("the server answers");
        assert_eq!(status.outcome, RunOutcome::Undecided);
    }
    let places = [(0, &leaf), (1, &longer), (2, &other), (3, &report)];
    for (place, written) in places {
        let (stream, id) = &entries[place];
        taken_by_a_newer_one(&live, stream, id, written).await;
    }
    live.canary("what was of a later format").await;
}

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is said in each thread by itself. There is one for all tests: what some threads have and others
/// have not, tracing may not notice in time.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        SAID.with_borrow_mut(|said| said.push(line.0));
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

#[tokio::test]
async fn that_something_is_left_to_a_later_version_is_said_once_and_names_it() {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing::subscriber::set_global_default(Log).expect("nobody else listens"));
    let live = Live::start(At::One(Server::start())).await;
    let leaf = written(&live).await;
    let value = [&leaf.value[..HEAD], &LATER].concat();
    let id: String = live.at.run(LEAVES, &entry(LEAVES, &[(b"m", &value)]));
    let is_about = |line: &&String| line.contains("format of a later version");
    let about = || SAID.with_borrow(|said| said.iter().filter(is_about).cloned().collect::<Vec<_>>());
    let start = Instant::now();
    while about().is_empty() {
        assert!(start.elapsed() < PATIENCE, "nothing is said");
        sleep(SOON).await;
    }
    // It comes again every second.
    for _ in 0..3 {
        sleep(Duration::from_secs(1)).await;
        live.canary("what is said").await;
    }
    let about = about();
    assert!(about.len() == 1 && about[0].contains(&id) && about[0].contains(LEAVES), "{about:?}");
}

/// The plan of a run, and its hash: coordinators leave it alone, uncounted, and clients are told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stored_in_a_later_format_is_left_to_others() {
    let live = Live::start(At::One(Server::start())).await;
    let (plan, meta) = (written(&live).await, written(&live).await);
    for (written, field) in [(&plan, "p"), (&meta, "m")] {
        let key = format!("strange:{{{}}}:run", written.run.id());
        let stored: Vec<u8> = live.at.run(&key, cmd("HGET").arg(&key).arg(field));
        let set = |first: u8| {
            let bytes = [&[first], &stored[1..]].concat();
            live.at.run::<()>(&key, cmd("HSET").arg(&key).arg(field).arg(bytes));
        };
        set(stored[0] + 1);
        // As in another process, which has nothing at hand.
        let backend = RedisBackend::builder(live.at.url()).prefix("strange").connect().await;
        let other = App::builder("other").backend(backend.expect("it answers")).build().expect("it fits");
        let error = other.run::<i64>(written.run.id()).await.expect_err("it cannot be read");
        assert_eq!(error.kind, celeriac_backends::ErrorKind::Later, "{field}: {error}");
        let failed = rmp_serde::to_vec(&Outcome::UnknownTask).expect("it has a MessagePack form");
        let report = [&written.value[..HEAD], &failed].concat();
        live.at.run::<String>(REPORTS, &entry(REPORTS, &[(b"c", &report)]));
        let start = Instant::now();
        while start.elapsed() < LONG / 2 {
            live.canary(field).await;
            sleep(SOON).await;
        }
        assert!(live.backend.dead_letters(None, 10).await.expect("the server answers").is_empty());
        set(stored[0]);
        let ended = timeout(PATIENCE, written.run.get()).await.expect("it ends in time");
        assert!(ended.is_err_and(|error| error.to_string().contains("strange.add")), "{field}");
    }
}

mod one {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_of_a_later_format_is_left_to_others() {
        super::what_is_of_a_later_format_is_left_to_others(At::One(Server::start())).await;
    }
}

mod cluster {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_of_a_later_format_is_left_to_others() {
        super::what_is_of_a_later_format_is_left_to_others(At::Cluster(Cluster::start())).await;
    }
}
