//! Fuzzes a target on stable: `drive TARGET SECONDS [SEED]`.
//!
//! Inputs come from the corpus by mutation; an input whose outcome is of a new kind joins the corpus for the
//! rest of the run. Most inputs come from such that were read: from broken ones hardly anything is made that
//! is not broken. The same seed gives the same run as long as the corpus and the code are the same. A
//! finding (a panic, or an input that takes longer than two seconds) is written to `fuzz/artifacts/`, and
//! ends the run with code 1.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;
use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use celeriac_fuzz::{Mutator, Random, Target, artifacts_dir, read_corpus, target};

/// An input that takes longer is a finding.
const SLOW: Duration = Duration::from_secs(2);

/// How many inputs of one kind are kept: they may be alike to the target, and still differ.
const KEPT_PER_KIND: usize = 4;

/// How many refused inputs are kept.
const REFUSED_MAX: usize = 2_000;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: drive TARGET SECONDS [SEED], with TARGET one of text, canvas_json, message, plan";
    let (name, seconds, seed) = match arguments.as_slice() {
        [name, seconds] => (name, seconds, SystemTime::UNIX_EPOCH.elapsed()?.as_nanos() as u64),
        [name, seconds, seed] => (name, seconds, seed.parse()?),
        _ => return Err(usage.into()),
    };
    let target = target(name).ok_or(usage)?;
    let seconds = Duration::from_secs(seconds.parse()?);
    println!("target {name}, seed {seed}");

    let seeds: Vec<Vec<u8>> = read_corpus(name)?.into_iter().map(|(_, input)| input).collect();
    // The stack of a worker's thread, not the main thread's.
    let drive = move || drive(target, seeds, seconds, seed);
    let finding = std::thread::Builder::new().stack_size(2 << 20).spawn(drive)?.join();
    let Some((input, what)) = finding.map_err(|_| "the driver itself panicked")? else {
        return Ok(ExitCode::SUCCESS);
    };
    let path = artifacts_dir().join(format!("{name}-{seed}"));
    std::fs::create_dir_all(artifacts_dir())?;
    std::fs::write(&path, &input)?;
    println!("{what}\ninput: {}\nrun again with: drive {name} {} {seed}", path.display(), seconds.as_secs());
    Ok(ExitCode::FAILURE)
}

/// Runs until the time is over or there is a finding: the input and what it did.
fn drive(
    target: &Target,
    seeds: Vec<Vec<u8>>,
    seconds: Duration,
    seed: u64,
) -> Option<(Vec<u8>, &'static str)> {
    let mut random = Random::new(seed);
    let mutator = Mutator::new(target.dictionary);
    let mut kinds = HashMap::<String, usize>::new();
    let (mut runs, mut read) = (0u64, 0u64);
    // The corpus, in two parts.
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let mut seeds = seeds.into_iter();
    while started.elapsed() < seconds {
        let from = if random.below(8) == 0 { &refused } else { &accepted };
        let input = seeds.next().unwrap_or_else(|| mutator.next(&mut random, from));
        let before = Instant::now();
        // The default hook prints the panic and where it came from.
        let Ok(outcome) = panic::catch_unwind(|| target.run(&input)) else {
            return Some((input, "the target panicked"));
        };
        if before.elapsed() > SLOW {
            return Some((input, "the input takes too long"));
        }
        runs += 1;
        read += u64::from(outcome.accepted);
        let seen = kinds.entry(outcome.kind).or_default();
        *seen += 1;
        let kept = if outcome.accepted { &mut accepted } else { &mut refused };
        if *seen <= KEPT_PER_KIND && (outcome.accepted || kept.len() < REFUSED_MAX) {
            kept.push(input);
        }
    }
    println!("{runs} runs, {read} of them read, {} inputs kept, no finding", accepted.len() + refused.len());
    None
}
