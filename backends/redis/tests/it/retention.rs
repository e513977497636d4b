//! When runs are forgotten and workers have left, Redis holds what it held before.
//!
//! `CELERIAC_RETENTION_RUNS=10000` for more runs than the thousand that are enough to notice a leak.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_dsl::{TaskContext, chord, task, tasks};
use celeriac_primitives::TaskError;
use celeriac_redis::RedisBackend;
use celeriac_runtime::{App, CoordinatorOptions, WorkerOptions};
use celeriac_testkit::Server;
use futures::stream::{self, StreamExt};
use tokio::time::{Instant, sleep};

use crate::look::lines;
use crate::setting;

/// Longer than a client takes to read its value, on a busy machine too.
const RETENTION: Duration = Duration::from_secs(3);

/// Buffers and tables of Redis grow and shrink by themselves; a leak of one small key for each run is more.
const MEMORY_SLACK: u64 = 100 * 1024;

#[task(crate = celeriac_dsl, name = "retention.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(crate = celeriac_dsl, name = "retention.sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(crate = celeriac_dsl, name = "retention.replaced")]
async fn replaced(ctx: TaskContext, x: i64, y: i64) -> Result<i64, TaskError> {
    ctx.replace(add.s((x, y)) | add.s(0))
}

/// What a server holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    keys: u64,
    consumers: usize,
    lines: BTreeMap<String, u64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn after_retention_keys_memory_and_consumers_are_back_where_they_were() {
    // On a busy machine there are slow commands, and their log takes memory.
    let server = Server::builder().without_aof().option("slowlog-log-slower-than", -1).start();
    let backend = RedisBackend::builder(server.url()).prefix("kept").connect().await.unwrap();
    let app =
        App::builder("kept").tasks(tasks![add, sum, replaced]).backend(backend).retention(Some(RETENTION));
    let app = app.build().unwrap();
    let options =
        CoordinatorOptions { sweep_every: Duration::from_millis(50), ..CoordinatorOptions::default() };
    let _coordinator = app.coordinator(options);
    let runs = setting("CELERIAC_RETENTION_RUNS", 1000);
    round(&app, &server, runs / 10).await;
    let (held, memory) = (held(&server), server.used_memory());
    round(&app, &server, runs).await;
    let now_held = self::held(&server);
    let now_memory = memory_within(&server, memory + MEMORY_SLACK).await;
    println!("after {runs} runs: {now_held:?}, {now_memory} bytes; before: {memory} bytes");
    assert_eq!(now_held, held);
    assert!(held.lines.is_empty(), "{held:?}");
    assert!(now_memory <= memory + MEMORY_SLACK, "{memory} bytes before, {now_memory} bytes after");
}

/// Three workers come, run so many canvases, and leave; the runs are forgotten.
async fn round(app: &App, server: &Server, runs: u64) {
    let workers: Vec<_> = (0..3).map(|_| app.worker(WorkerOptions::default())).collect();
    let runs = stream::iter(0..runs).map(|_| async move {
        let run = app.submit(chord([add.s((1, 1)), replaced.s((2, 2))], sum.s(())) | add.s(1)).await.unwrap();
        assert_eq!(run.get().await.unwrap(), 7);
    });
    runs.buffer_unordered(100).collect::<Vec<()>>().await;
    for worker in workers {
        assert_eq!(worker.shutdown(Duration::from_secs(5)).await, 0);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server.keys("kept:*}:run").is_empty() {
        assert!(Instant::now() < deadline, "runs are kept");
        sleep(Duration::from_millis(20)).await;
    }
    // The sweep that forgot them takes them off its lists in its next steps.
    sleep(Duration::from_millis(500)).await;
}

/// The memory that is used, when it is as little as that or does not become less: Redis gives the buffers of its
/// clients back when they have been idle for some seconds.
async fn memory_within(server: &Server, limit: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let memory = server.used_memory();
        if memory <= limit || Instant::now() >= deadline {
            return memory;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn held(server: &Server) -> Held {
    let mut connection = server.connection();
    let mut about = redis::cmd("XINFO");
    about.arg("CONSUMERS").arg("kept:{q:celery}:stream").arg("celeriac");
    let consumers: Vec<redis::Value> = about.query(&mut connection).expect("the queue is there");
    Held { keys: server.dbsize(), consumers: consumers.len(), lines: lines(server, "kept") }
}
