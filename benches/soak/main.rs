//! Two million small leaves through one Redis, and what grows with them: nothing may.
//!
//! ```text
//! cargo bench --bench soak                                two million leaves
//! cargo bench --bench soak -- --short                     20,000, in less than 20 seconds
//! cargo bench --bench soak -- --leaves 200000 --rest 30
//! ```
//!
//! Client, coordinator and two workers are processes of their own, the latter as the command line of an app
//! starts them. The client submits canvases of each kind of [`mix`], a part of the leaves at a time. With each part
//! other queues are used, and a worker comes that serves them, and goes. At 10, 50 and 100 in a hundred everybody
//! rests; then the memory of every process, what Redis holds, and its commands per second while nothing is to do
//! are looked at.
//!
//! Each value is compared with the right one, and each call that the workers have noted with the leaves of the
//! plans: each attempt at each leaf exactly once, no others.

mod client;
mod crew;
mod figures;
mod mix;
#[path = "../redis/server.rs"]
#[allow(dead_code, reason = "the other bench may also use a Redis that runs")]
mod server;
mod tasks;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crew::Crew;
use figures::{Bounds, Figures, Table};
use server::{Durability, Server};

/// Small leaves through one Redis, and what grows with them.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// How many leaves are called.
    #[arg(long, default_value_t = 2_000_000)]
    leaves: usize,
    /// 20,000 leaves in ten parts, and short rests.
    #[arg(long, conflicts_with_all = ["leaves", "parts", "rest", "idle"])]
    short: bool,
    /// In how many parts, each with queues of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..))]
    parts: u32,
    /// How much of what Redis acknowledges is on the disk.
    #[arg(long, value_enum, default_value = "none")]
    durability: Durability,
    /// Worker processes, besides those that come and go.
    #[arg(long, default_value_t = 2)]
    pub(crate) workers: usize,
    /// Seconds without work before the figures are taken: until what is not used any more is gone.
    #[arg(long, default_value_t = 90)]
    rest: u64,
    /// Seconds for which idle processes are watched.
    #[arg(long, default_value_t = 10)]
    idle: u64,
    /// A figure may grow by so many in a hundred from the first look to the last,
    #[arg(long, default_value_t = 20)]
    grow_percent: u64,
    /// and by so many MB besides, when it is a memory,
    #[arg(long, default_value_t = 12)]
    grow_mb: u64,
    /// or by so many keys,
    #[arg(long, default_value_t = 40)]
    grow_keys: u64,
    /// or commands per second.
    #[arg(long, default_value_t = 10)]
    grow_commands: u64,
    /// Seconds after which a part has failed.
    #[arg(long, default_value_t = 120)]
    pub(crate) timeout: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// After how many of the leaves, in a hundred, everybody rests.
const LOOKS: [usize; 3] = [10, 50, 100];

fn main() -> ExitCode {
    if let Some(code) = crew::play() {
        return code;
    }
    let mut options = Options::parse();
    if options.short {
        // What is not used any more goes away later than that.
        (options.leaves, options.parts, options.rest, options.idle) = (20_000, 10, 1, 1);
        options.grow_keys = 500;
    }
    match soak(&options) {
        Ok(grown) if grown.is_empty() => {
            println!("flat");
            ExitCode::SUCCESS
        }
        Ok(grown) => {
            println!("not flat: {}", grown.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what has grown.
fn soak(options: &Options) -> Result<Vec<String>, Box<dyn Error>> {
    let server = Server::start(options.durability)?;
    let mut crew = Crew::start(&server.url, options)?;
    let mut figures = Figures::new(&server.url)?;
    let mut table = Table::default();
    println!("{} leaves, one coordinator, {} workers", options.leaves, options.workers);
    let (began, mut called, mut rested) = (Instant::now(), 0, Duration::ZERO);
    let parts = options.parts as usize;
    for part in 1..=parts {
        called += crew.part(part, options.leaves / parts)?;
        if let Some(percent) = LOOKS.into_iter().find(|percent| part == parts * percent / 100) {
            let rest = Instant::now();
            std::thread::sleep(Duration::from_secs(options.rest));
            let look = figures.look(&crew, Duration::from_secs(options.idle))?;
            eprintln!("{percent} %: {called} calls, {:.0} s", began.elapsed().as_secs_f64());
            table.push(format!("{percent} %"), look);
            rested += rest.elapsed();
        }
    }
    let busy = (began.elapsed() - rested).as_secs_f64();
    crew.stop()?;
    print!("{table}");
    println!(
        "{called} calls, each attempt at each leaf once, each value right; {:.0} a second",
        called as f64 / busy
    );
    let bounds = Bounds {
        percent: options.grow_percent,
        mb: options.grow_mb,
        keys: options.grow_keys,
        commands: options.grow_commands,
    };
    Ok(table.grown(&bounds))
}
