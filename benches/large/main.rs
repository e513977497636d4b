//! Large values over a slow link: how long they take, compared with their bytes, and what the coordinator
//! holds.
//!
//! ```text
//! cargo bench --bench large                    results and arguments of 1 KB to 100 MB over 10 MB/s
//! cargo bench --bench large -- --short         the same up to 1 MB, in less than a minute
//! cargo bench --bench large -- --chords        only chords of 400 results
//! cargo bench --bench large -- --wide 4000000  and a chord of 400 results of 4 MB
//! ```
//!
//! Client, coordinator and worker are processes of their own, each with a link of its own to one Redis. A
//! value passes each link that it has to pass once, one after the other: from the client or the worker to the
//! store, and from there to who takes it. The time of its bytes is that; the ratio says how much longer it
//! took.

mod crew;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use celeriac::prelude::*;
use celeriac_testkit::{Proxy, Server, Ways};
use clap::Parser;

use crew::{Member, Role};

/// Large values over a slow link.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Bytes in a second, of each link and each way.
    #[arg(long, default_value_t = 10_000_000)]
    rate: u64,
    /// Up to 1 MB.
    #[arg(long)]
    short: bool,
    /// Only chords.
    #[arg(long)]
    chords: bool,
    /// How many results a chord has.
    #[arg(long, default_value_t = 400)]
    members: usize,
    /// Also a chord of results of so many bytes each.
    #[arg(long)]
    wide: Option<usize>,
    /// What this process is.
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true)]
    url: Option<String>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is run, and how often its bytes pass a link.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// A result that the client gets.
    Flat,
    /// A result that the next step takes.
    Chained,
    /// An argument.
    Argument,
    /// So many results that one body takes.
    Chord(usize),
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (options.role, &options.url) {
        (Some(role), Some(url)) => crew::serve(role, url).await.map(|()| true),
        _ => measure(&options).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<bool, Box<dyn Error>> {
    let server = Server::start();
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(Proxy::start(server.address()).await);
    }
    let app = crew::app(&links[0].url()).await?;
    let coordinator = Member::start(Role::Coordinator, &links[1].url())?;
    let worker = Member::start(Role::Worker, &links[2].url())?;
    links.iter().for_each(|link| link.throttle(Ways::Both, options.rate));
    println!("{} MB/s on each link", options.rate as f64 / 1e6);
    println!(
        "{:<12} {:>11} {:>9} {:>9} {:>6}  {:>12} {:>10}  value",
        "", "bytes", "time", "due", "ratio", "coordinator", "worker"
    );
    let sizes = [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];
    let most = if options.short { 1_000_000 } else { usize::MAX };
    let mut rows = Vec::new();
    let alone: &[Shape] = if options.chords { &[] } else { &[Shape::Flat, Shape::Chained, Shape::Argument] };
    for shape in alone.iter().copied() {
        rows.extend(sizes.iter().filter(|bytes| **bytes <= most).map(|bytes| (shape, *bytes)));
    }
    let members = if options.short { 40 } else { options.members };
    rows.extend([1_000, 10_000, 100_000].map(|bytes| (Shape::Chord(members), bytes)));
    rows.extend(options.wide.map(|bytes| (Shape::Chord(members), bytes)));
    let mut is_right = true;
    for (shape, bytes) in rows {
        let start = Instant::now();
        let value = run(&app, shape, bytes).await;
        let took = start.elapsed();
        let passes = if let Shape::Chord(members) = shape { 2 * members } else { 2 };
        let due = Duration::from_secs_f64((passes * bytes) as f64 / options.rate as f64);
        // What fails at once has no bytes to wait for.
        let is_in_time = took <= due * 2 + Duration::from_millis(500);
        let (is_well, value) = match value {
            Ok(value) if value == total(shape, bytes) => (true, "right".to_owned()),
            Ok(value) => (false, format!("WRONG: {value}")),
            Err(text) => (
                text.contains("LimitError")
                    || text.contains("argument_bytes_max")
                    || text.contains("more than"),
                text,
            ),
        };
        is_right &= is_well && is_in_time;
        println!(
            "{:<12} {:>11} {:>8.2}s {:>8.2}s {:>6.2}  {:>9} kB {:>7} kB  {value}{}",
            format!("{shape:?}"),
            bytes,
            took.as_secs_f64(),
            due.as_secs_f64(),
            took.as_secs_f64() / due.as_secs_f64(),
            coordinator.peak_kb()?,
            worker.peak_kb()?,
            if is_in_time { "" } else { "  TOO SLOW" },
        );
    }
    let made: Vec<u64> = links.iter().map(Proxy::accepted).collect();
    println!("connections made: {made:?}");
    Ok(is_right)
}

fn total(shape: Shape, bytes: usize) -> usize {
    if let Shape::Chord(members) = shape { members * bytes } else { bytes }
}

/// The number of bytes that came at the end, or why none did.
async fn run(app: &App, shape: Shape, bytes: usize) -> Result<usize, String> {
    let text = |error: &dyn Error| {
        let mut text = error.to_string();
        text.truncate(text.char_indices().nth(100).map_or(text.len(), |(end, _)| end));
        text
    };
    let submitted = match shape {
        Shape::Flat => {
            let run = app.submit(crew::make.s((bytes,))).await.map_err(|error| text(&error))?;
            return Ok(run.get().await.map_err(|error| text(&error))?.len() + 2);
        }
        Shape::Chained => app.submit(crew::make.s((bytes,)) | crew::measure.s(())).await,
        Shape::Argument => app.submit(crew::measure.s(("x".repeat(bytes - 2),))).await,
        Shape::Chord(members) => {
            let header: Vec<_> = (0..members).map(|_| crew::make.s((bytes,))).collect();
            app.submit(chord(header, crew::lengths.s(()))).await
        }
    };
    submitted.map_err(|error| text(&error))?.get().await.map_err(|error| text(&error))
}
