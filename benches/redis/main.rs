//! Leaves per second over Redis: client, coordinators and workers are processes of their own.
//!
//! ```text
//! cargo bench --bench redis                                  every line, five repetitions, no durability
//! cargo bench --bench redis -- --lines a,f --verbose         two lines, with what Redis was busy with
//! cargo bench --bench redis -- --durability everysec --workers 2
//! ```
//!
//! Each process has one thread: here there are more processes than cores, and a task that wakes another on the same
//! thread costs no switch between them.
//!
//! A repetition is timed from before the first submission until the last value is in the client. After it, each value
//! is compared with the right one, and the leaves that the workers say they called with those of the plans: each
//! exactly once, no others. `scripts/bench-redis` sets these numbers beside Celery's.

mod crew;
mod line;
mod meter;
mod report;
mod server;
mod tasks;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac::prelude::*;
use clap::Parser;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use crew::Crew;
use line::{LINES, Line};
use meter::{Meter, Watch};
use report::{Measured, Repetition, Report};
use server::{Durability, Server};
use tasks::Ledger;

/// Leaves per second over Redis.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// How much of what Redis acknowledges is on the disk.
    #[arg(long, value_enum, default_value = "none", conflicts_with = "url")]
    durability: Durability,
    /// Uses this Redis, on this machine, instead of starting one.
    #[arg(long)]
    url: Option<String>,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// Coordinator processes.
    #[arg(long, default_value_t = 1)]
    pub(crate) coordinators: usize,
    /// Leaves that each worker runs at the same time.
    #[arg(long)]
    pub(crate) concurrency: Option<usize>,
    /// How often each line is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Only these lines, by their letters.
    #[arg(long, value_delimiter = ',')]
    lines: Vec<String>,
    /// Seconds after which a repetition has failed.
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Prints JSON and nothing else.
    #[arg(long)]
    json: bool,
    /// Prints what Redis was busy with.
    #[arg(long)]
    verbose: bool,
    /// What this process is; by default the bench itself.
    #[arg(long, value_enum, hide = true)]
    role: Option<Role>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A process that the bench starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Runs a coordinator.
    Coordinator,
    /// Runs a worker.
    Worker,
}

/// After the last value, coordinators still acknowledge what they have handled.
const QUIET: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    match (options.role, &options.url) {
        (Some(role), Some(url)) => crew::serve(role, url, options.concurrency).await,
        (Some(_), None) => Err("a role needs the URL".into()),
        (None, _) => bench(&options).await,
    }
}

async fn bench(options: &Options) -> Result<(), Box<dyn Error>> {
    let server = match &options.url {
        Some(url) => Server::running(url.clone()),
        None => Server::start(options.durability)?,
    };
    let crew = Crew::start(&server.url, options)?;
    let mut bench = Bench {
        app: crew::app(&server.url, Arc::new(Ledger::default())).await?,
        meter: Meter::new(&server.url, &crew)?,
        watch: Watch::start(&server.url)?,
        crew,
        timeout: Duration::from_secs(options.timeout),
    };
    let durability = bench.meter.durability()?;
    if !options.json {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!(
            "celeriac on Redis, durability: {durability}, {cores} cores, {} coordinator(s) and {} worker(s), {} \
             repetition(s)\n",
            options.coordinators, options.workers, options.repetitions
        );
        report::print_head();
    }
    bench.warm_up().await?;
    let mut lines = Vec::new();
    for line in LINES.iter().filter(|line| options.wants(line)) {
        let mut repetitions = Vec::new();
        for _ in 0..options.repetitions {
            repetitions.push(bench.measure(line).await.map_err(|error| format!("{}: {error}", line.name))?);
        }
        let measured = Measured::new(line, repetitions);
        if !options.json {
            measured.print();
        }
        if options.verbose && !options.json {
            measured.print_commands();
        }
        lines.push(measured);
    }
    let memory_mb = bench.meter.memory()?;
    if options.json {
        let report = Report { system: "celeriac".to_owned(), durability, lines, memory_mb };
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!("\neach leaf was called exactly once, and each value was right");
    let memory = memory_mb.iter().flat_map(|(role, all)| all.iter().map(move |mb| format!("{role} {mb:.1}")));
    println!("peak memory in MB: {}", memory.collect::<Vec<_>>().join(", "));
    Ok(())
}

impl Options {
    fn wants(&self, line: &Line) -> bool {
        self.lines.is_empty() || self.lines.iter().any(|key| key == line.key)
    }
}

struct Bench {
    app: App,
    meter: Meter,
    watch: Watch,
    // After the app: its connection is gone before its partners are killed.
    crew: Crew,
    timeout: Duration,
}

impl Bench {
    /// Connections, scripts and allocators are in use before anything is measured.
    async fn warm_up(&mut self) -> Result<(), Box<dyn Error>> {
        for line in LINES.iter().filter(|line| ["c", "g"].contains(&line.key)) {
            self.measure(line).await?;
        }
        Ok(())
    }

    async fn measure(&mut self, line: &Line) -> Result<Repetition, Box<dyn Error>> {
        let canvases: Vec<Canvas> = (0..line.runs).map(line.canvas).collect();
        self.watch.peak_mb();
        let before = self.meter.usage()?;
        let start = Instant::now();
        let app = &self.app;
        let runs = stream::iter(canvases.into_iter().enumerate()).map(|(number, canvas)| async move {
            let start = Instant::now();
            let run = app.submit(canvas).await?;
            let value = run.get_json(None).await?;
            Ok::<_, Box<dyn Error>>((number, run, value, start.elapsed()))
        });
        let runs: Vec<_> =
            tokio::time::timeout(self.timeout, runs.buffer_unordered(line.in_flight).try_collect())
                .await
                .map_err(|_| format!("not done after {:?}", self.timeout))??;
        let seconds = start.elapsed().as_secs_f64();
        tokio::time::sleep(QUIET).await;
        let usage = self.meter.usage()?.since(&before);
        let redis_mb = self.watch.peak_mb();

        let mut runs_ms = Vec::with_capacity(runs.len());
        let mut handles = Vec::with_capacity(runs.len());
        for (number, handle, value, took) in runs {
            let (value, expected): (Value, Value) = (value.to()?, (line.value)(number));
            if value != expected {
                return Err(format!("run {number} is {value}, not {expected}").into());
            }
            runs_ms.push(took.as_secs_f64() * 1000.0);
            handles.push(handle);
        }
        self.check_calls(line, &handles)?;
        let forget = stream::iter(handles).map(Handle::forget);
        forget.buffer_unordered(100).try_collect::<Vec<_>>().await?;
        Ok(Repetition { seconds, usage, redis_mb, runs_ms })
    }

    /// Each leaf of these runs was called exactly once since the last check, and no other was.
    fn check_calls(&mut self, line: &Line, runs: &[Handle<Value>]) -> Result<(), Box<dyn Error>> {
        let mut calls = self.crew.calls()?;
        let mut leaves = 0;
        for run in runs {
            for (node, _) in run.plan().nodes().filter(|(node, _)| run.plan().leaf(*node).is_some()) {
                leaves += 1;
                match calls.remove(&run.id().task(node)) {
                    Some(1) => {}
                    times => {
                        return Err(format!("a leaf was called {} times", times.unwrap_or(0)).into());
                    }
                }
            }
        }
        if leaves != line.steps_in_all() || !calls.is_empty() {
            let foreign = calls.len();
            return Err(format!("{leaves} leaves, and {foreign} calls of others").into());
        }
        Ok(())
    }
}
