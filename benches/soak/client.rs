//! The client: submits, waits, compares, and forgets, as it is told over its input.

use std::cell::Cell;
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use celeriac::prelude::*;
use celeriac_redis::RedisBackend;
use futures::stream::{self, StreamExt};
use serde_json::Value;

use crate::mix::{self, End, Job};
use crate::tasks::{self, Call, Ledger};

/// How many jobs are under way at the same time, at most; fewer when they would be more than a part.
const AT_ONCE: usize = 64;

/// How many leaves a job has, on average, and more.
const JOB: usize = 100;

/// How long runs are kept that nobody forgets.
const RETENTION: Duration = Duration::from_secs(2);

/// Answers `<part> <leaves>` with the number of calls that there must have been, when all its runs have ended; what
/// was to be called is in a ledger of the client's own.
pub(crate) async fn serve(url: &str, ledger: &Path) -> Result<(), Box<dyn Error>> {
    let ledger = Arc::new(Ledger::create(ledger)?);
    let app = App::builder("soak")
        .tasks(tasks::all())
        .state(ledger.clone())
        .retention(Some(RETENTION))
        .backend(RedisBackend::connect(url).await?)
        .build()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (part, leaves) = line.split_once(' ').ok_or("two numbers are expected")?;
        println!("{}", work(&app, &ledger, part.parse()?, leaves.parse()?).await?);
    }
    Ok(())
}

/// Starts jobs until there were enough calls, and takes those to their end that are under way.
async fn work(app: &App, ledger: &Ledger, part: usize, leaves: usize) -> Result<usize, Box<dyn Error>> {
    let called = Cell::new(0);
    let numbers = stream::iter(0..).take_while(|_| std::future::ready(called.get() < leaves));
    let jobs = numbers.map(|number| async move {
        let mut calls = Vec::new();
        for job in mix::job(part, number) {
            calls.extend(run(app, job).await.map_err(|error| format!("job {number}: {error}"))?);
        }
        Ok::<_, Box<dyn Error>>(calls)
    });
    let mut jobs = std::pin::pin!(jobs.buffer_unordered((leaves / JOB / 4).clamp(1, AT_ONCE)));
    while let Some(calls) = jobs.next().await {
        let calls = calls?;
        called.set(called.get() + calls.len());
        ledger.note(&calls);
    }
    Ok(called.get())
}

/// Runs one to its end; returns the calls that it took.
async fn run(app: &App, job: Job) -> Result<Vec<Call>, Box<dyn Error>> {
    let run: Handle<Value> = match &job.key {
        Some(key) => app.submission(job.canvas).key(key).await?,
        None => app.submit(job.canvas).await?,
    };
    if job.end == End::Abandoned {
        run.forget().await?;
        return Ok(Vec::new());
    }
    let value: i64 = run.get_json(None).await?.to()?;
    if value != job.value {
        return Err(format!("the value is {value}, not {}", job.value).into());
    }
    let mut calls = calls_of(&run);
    for (_, segment) in run.segments().await? {
        calls.extend(calls_of(&segment));
    }
    if job.end == End::Forgotten {
        run.forget().await?;
    }
    Ok(calls)
}

fn calls_of<T>(run: &Handle<T>) -> Vec<Call> {
    let plan = run.plan();
    let leaves = plan.nodes().filter_map(|(node, _)| Some((node, plan.task(node)?)));
    let calls = leaves.flat_map(|(node, task)| {
        let attempts = if task.as_str() == "soak.flaky" { 2 } else { 1 };
        (1..=attempts).map(move |attempt| tasks::call(run.id().task(node), attempt))
    });
    calls.collect()
}
