//! How long leaves wait for a hand: from queued to begun, and through the coordinator to the next one.
//!
//! ```text
//! cargo bench --bench hands                                  memory and Redis, one worker and three: half a minute
//! cargo bench --bench hands -- --long                        a minute of each, also beside a run of 1,000,000 nodes
//! cargo bench --bench hands -- --backends redis --workers 3 --seconds 30 --huge
//! ```
//!
//! Arrivals are an open loop: runs come at random moments, however the system does (Poisson, with a seed). Each is a leaf
//! of 1 ms, 100 ms or 5 s, async or blocking, and a short one that follows it. What a leaf waited is counted apart for
//! those that came when a lane was free: they have nothing to wait for. Afterwards each leaf has begun exactly once.
//!
//! Clients, coordinator and workers share one process, and so a clock; each has a connection of its own. Only what every
//! version of celeriac has is used, so that versions can be compared.

mod arrivals;
mod report;
#[path = "../redis/server.rs"]
mod server;
mod tasks;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use celeriac::memory::Memory;
use celeriac::prelude::*;
use celeriac_redis::RedisBackend;
use clap::Parser;

use arrivals::Arrivals;
use report::Line;
use server::{Durability, Server};
use tasks::Ledger;

/// How long leaves wait for a hand.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// On what.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [On::Memory, On::Redis])]
    backends: Vec<On>,
    /// Uses this Redis instead of starting one; it should be empty.
    #[arg(long)]
    url: Option<String>,
    /// With so many workers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    workers: Vec<usize>,
    /// Leaves that each worker runs at the same time.
    #[arg(long, default_value_t = 64)]
    lanes: usize,
    /// How many seconds runs come for, in each line.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// What part of the lanes the leaves that come would keep busy.
    #[arg(long, default_value_t = 0.6)]
    load: f64,
    /// Where the moments at which they come are from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Beside one run after the other of so many nodes.
    #[arg(long)]
    huge: bool,
    /// How many nodes these have.
    #[arg(long, default_value_t = 1_000_000)]
    nodes: usize,
    /// A minute for each line, without and with huge runs beside.
    #[arg(long)]
    long: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum On {
    Memory,
    Redis,
}

impl std::fmt::Display for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Memory { "memory" } else { "redis" })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::parse();
    if options.long {
        options.seconds = options.seconds.max(60);
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let Options { lanes, seconds, load, seed, .. } = options;
    println!(
        "{lanes} lanes each, {load} of them busy, {seconds} s, seed {seed}, {cores} cores; times in ms\n"
    );
    Line::print_head();
    let huge: &[bool] = if options.long { &[false, true] } else { &[options.huge] };
    for on in &options.backends {
        for workers in &options.workers {
            for huge in huge {
                measure(&options, *on, *workers, *huge).await?.print();
            }
        }
    }
    println!("\neach leaf has begun exactly once");
    Ok(())
}

/// Where a line runs; what was started for it ends with it.
struct Place {
    memory: Memory,
    redis: Option<Server>,
}

impl Place {
    fn new(on: On, url: Option<&String>) -> Result<Self, Box<dyn Error>> {
        let server = || match url {
            Some(url) => Ok(Server::running(url.clone())),
            None => Server::start(Durability::None),
        };
        Ok(Self { memory: Memory::new(), redis: (on == On::Redis).then(server).transpose()? })
    }

    /// An app with a way of its own to the backend.
    async fn app(&self, ledger: &Arc<Ledger>) -> Result<App, Box<dyn Error>> {
        let app = App::builder("hands").tasks(tasks::all()).state(ledger.clone()).retention(None);
        Ok(match &self.redis {
            Some(server) => app.backend(RedisBackend::connect(&server.url).await?).build()?,
            None => app.backend(self.memory.clone()).build()?,
        })
    }
}

async fn measure(options: &Options, on: On, workers: usize, huge: bool) -> Result<Line, Box<dyn Error>> {
    let place = Place::new(on, options.url.as_ref())?;
    let arrivals = Arrivals::new(
        options.seed,
        options.load * (options.lanes * workers) as f64,
        Duration::from_secs(options.seconds),
    );
    let ledger = Arc::new(Ledger::new(arrivals.count(), options.lanes * workers));
    let client = place.app(&ledger).await?;
    let _coordinator = place.app(&ledger).await?.coordinator(CoordinatorOptions::default());
    let mut hands = Vec::new();
    for _ in 0..workers {
        let app = place.app(&ledger).await?;
        hands.push(app.worker(WorkerOptions::default().concurrency(options.lanes)));
    }
    let beside = match huge {
        false => None,
        true => Some(arrivals::huge(place.app(&ledger).await?, options.nodes, &ledger).await?),
    };
    let lanes = tokio::spawn(report::watch_lanes(ledger.clone()));
    arrivals.send(&client, &ledger).await?;
    ledger.all_have_begun().await?;
    lanes.abort();
    let label = format!("{on}, {workers} worker(s){}", if huge { ", beside a huge run" } else { "" });
    let nodes = beside.map(|beside| beside.abort()).is_some().then(|| ledger.huge_leaves());
    Line::new(label, &ledger, nodes)
}
