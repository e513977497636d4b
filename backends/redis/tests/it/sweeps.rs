//! No step takes long, however many workers there are and whatever they hold.
//!
//! `CELERIAC_SWEEP=10000` for the size that is promised.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backends::{DEFAULT_QUEUE, Events as _, Queue as _, Store as _, Take, WorkerId};
use celeriac_redis::RedisBackend;
use celeriac_testkit::Server;

use crate::setting;

const STREAM: &str = "celeriac:{q:celery}:stream";

/// Entries of a queue, as a program of ours would have written them.
fn fill(server: &Server, entries: usize) {
    let mut connection = server.connection();
    for _ in 0..entries.div_ceil(1000) {
        let mut pipe = redis::pipe();
        for _ in 0..1000 {
            pipe.cmd("XADD").arg(STREAM).arg("*").arg("m").arg(&[b'x'; 200][..]).ignore();
        }
        pipe.exec(&mut connection).unwrap();
    }
    redis::cmd("XGROUP").arg("CREATE").arg(STREAM).arg("celeriac").arg(0).exec(&mut connection).unwrap();
}

fn take(server: &Server, consumer: &str, count: usize) {
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP")
        .arg("celeriac")
        .arg(consumer)
        .arg("COUNT")
        .arg(count)
        .arg("STREAMS")
        .arg(STREAM)
        .arg(">");
    read.exec(&mut server.connection()).unwrap();
}

/// Sweeps, and says how long the slowest of our steps took.
async fn slowest_of(server: &Server, backend: &RedisBackend, sweeps: usize) -> (usize, Duration) {
    server.config_set("slowlog-log-slower-than", 1000);
    server.reset_counts();
    let mut redelivered = 0;
    for _ in 0..sweeps {
        redelivered += backend.sweep(5).await.unwrap().redelivered;
    }
    // Scripts: of ten thousand consumers Redis needs as long to say that there are.
    let mut slow = server.slowest();
    slow.retain(|(_, what)| what.starts_with("EVAL"));
    let slowest = slow.first().map_or(Duration::ZERO, |(took, _)| *took);
    println!("{redelivered} taken up; {:?}", slow.first());
    (redelivered, slowest)
}

async fn backend(server: &Server) -> RedisBackend {
    RedisBackend::connect(server.url()).await.expect("the server answers")
}

/// A machine that others use may take a moment at any time: a step is slow when it is so three times.
async fn check(sweeps: usize, prepare: impl Fn(&Server), expect: usize) {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let server = Server::start();
        let backend = backend(&server).await;
        prepare(&server);
        // So that the queue is known.
        let mut names = redis::cmd("ZADD");
        let now = backend.now().await.unwrap();
        names
            .arg("celeriac:{events}:names")
            .arg(now)
            .arg(DEFAULT_QUEUE)
            .exec(&mut server.connection())
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (redelivered, slowest) = slowest_of(&server, &backend, sweeps).await;
        assert_eq!(redelivered, expect);
        best = best.min(slowest);
        if best < Duration::from_millis(10) {
            return;
        }
    }
    panic!("a step takes {best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_many_workers_that_hold_much_has_no_long_step() {
    let workers = setting("CELERIAC_SWEEP", 500) as usize;
    let prepare = |server: &Server| {
        fill(server, workers * 64);
        for worker in 0..workers {
            take(server, &format!("w:{worker}#600000"), 64);
        }
    };
    check(2, prepare, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_many_leases_that_have_passed_has_no_long_step() {
    let entries = setting("CELERIAC_SWEEP", 500) as usize * 20;
    let prepare = |server: &Server| {
        fill(server, entries);
        take(server, "w:gone#1", entries);
    };
    // A sweep takes up so many slices of a line and leaves the rest to the next.
    check(entries.div_ceil(10_000) + 1, prepare, entries.div_ceil(1000) * 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_what_one_worker_holds_has_no_long_step() {
    let entries = setting("CELERIAC_SWEEP", 500) as usize * 20;
    let prepare = |server: &Server| {
        fill(server, entries);
        take(server, "w:large#600000", entries);
    };
    check(2, prepare, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_much_that_was_handed_back_has_no_long_step() {
    let entries = setting("CELERIAC_SWEEP", 500) as usize * 20;
    let prepare = |server: &Server| {
        fill(server, entries);
        take(server, "-", entries);
        let mut connection = server.connection();
        let ids: Vec<(String, Vec<String>)> =
            redis::cmd("XRANGE").arg(STREAM).arg("-").arg("+").query(&mut connection).unwrap();
        for slice in ids.chunks(1000) {
            let ids: Vec<&String> = slice.iter().map(|(id, _)| id).collect();
            redis::cmd("RPUSH").arg("celeriac:{q:celery}:again").arg(ids).exec(&mut connection).unwrap();
        }
    };
    check(2, prepare, 0).await;
}

/// What comes in one take is what a slow link brings within a moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_take_returns_about_a_mebibyte() {
    let server = Server::start();
    let backend = RedisBackend::builder(server.url()).inline_bytes_max(3_000_000).connect().await.unwrap();
    let mut connection = server.connection();
    for (bytes, expect) in [(100_000, 11), (400_000, 3), (3_000_000, 1)] {
        redis::cmd("DEL").arg("celeriac:{events}:stream").exec(&mut connection).unwrap();
        let mut pipe = redis::pipe();
        for _ in 0..20 {
            let value = vec![b'x'; bytes];
            pipe.cmd("XADD").arg("celeriac:{events}:stream").arg("*").arg("s").arg(value).ignore();
        }
        pipe.exec(&mut connection).unwrap();
        let mut takes = Vec::new();
        while takes.iter().sum::<u64>() < 20 {
            let before = taken(&server);
            // None of them can be read as an event, and is set aside: what counts is what was taken.
            backend.events(2048, Duration::from_secs(60), Duration::from_millis(10)).await.unwrap();
            takes.push(taken(&server) - before);
            assert!(takes.len() <= 20 && *takes.last().expect("one") > 0, "{bytes}: {takes:?}");
        }
        assert!(takes.iter().all(|take| *take <= expect), "{bytes}: {takes:?}");
    }
}

/// How many entries of the stream were ever taken.
fn taken(server: &Server) -> u64 {
    let mut info = redis::cmd("XINFO");
    info.arg("GROUPS").arg("celeriac:{events}:stream");
    let groups: Vec<HashMap<String, redis::Value>> = info.query(&mut server.connection()).unwrap_or_default();
    let taken = groups.first().and_then(|group| group.get("entries-read")).cloned();
    taken.map_or(0, |taken| redis::from_redis_value(taken).unwrap_or(0))
}

fn consumers(server: &Server) -> usize {
    let mut info = redis::cmd("XINFO");
    info.arg("CONSUMERS").arg(STREAM).arg("celeriac");
    info.query::<Vec<redis::Value>>(&mut server.connection()).unwrap().len()
}

/// Workers that come, take a leaf each, and are killed when it is done, beside one that works on: Redis needs
/// long to say who there is when there are thousands.
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_leave_nothing_for_long() {
    let server = Server::start();
    let kept = Duration::from_millis(100);
    let backend = RedisBackend::builder(server.url()).queues_kept_for(kept).connect().await.unwrap();
    fill(&server, 1000);
    let mut connection = server.connection();
    let (names, now) = ("celeriac:{events}:names", backend.now().await.unwrap());
    redis::cmd("ZADD").arg(names).arg(now).arg(DEFAULT_QUEUE).exec(&mut connection).unwrap();
    take(&server, "works#3600000", 1);
    let mut most = 0;
    for number in 0..500 {
        let name = format!("brief-{number}#60000");
        take(&server, &name, 1);
        let mut pending = redis::cmd("XPENDING");
        pending.arg(STREAM).arg("celeriac").arg("-").arg("+").arg(1).arg(&name);
        let held: Vec<(String, String, u64, u64)> = pending.query(&mut connection).unwrap();
        let mut pipe = redis::pipe();
        pipe.cmd("XACK").arg(STREAM).arg("celeriac").arg(&held[0].0).ignore();
        pipe.cmd("XDEL").arg(STREAM).arg(&held[0].0).ignore();
        pipe.exec(&mut connection).unwrap();
        if number % 10 == 9 {
            backend.sweep(5).await.unwrap();
            tokio::time::sleep(kept / 2).await;
            most = most.max(consumers(&server));
        }
    }
    println!("{most} at most");
    assert!(most < 250, "{most} at most");
    tokio::time::sleep(5 * kept).await;
    backend.sweep(5).await.unwrap();
    assert_eq!(consumers(&server), 1, "who holds something stays");
}

/// A worker's take as well, whatever was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_small_leaves_as_many_as_it_asks_for() {
    let server = Server::start();
    let backend = backend(&server).await;
    fill(&server, 3000);
    let (worker, queues) = (WorkerId::new("w"), [Arc::from(DEFAULT_QUEUE)]);
    // They cannot be read either, and are given up one after the other.
    backend.receive(&worker, &queues, Take::new(2000, Duration::from_secs(60))).await.unwrap();
    let mut connection = server.connection();
    let read: redis::Value =
        redis::cmd("XINFO").arg("CONSUMERS").arg(STREAM).arg("celeriac").query(&mut connection).unwrap();
    assert!(matches!(read, redis::Value::Array(consumers) if consumers.len() == 1));
    let groups: Vec<std::collections::BTreeMap<String, redis::Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg(STREAM).query(&mut connection).unwrap();
    let seen: u64 = redis::from_redis_value(groups[0]["entries-read"].clone()).unwrap();
    assert_eq!(seen, 2000);
}
