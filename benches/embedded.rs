//! Leaves per second of an embedded app: coordinator, worker and client in one process, on the memory backend.
//!
//! `cargo bench --bench embedded` runs each line several times after one that does not count, and checks each time
//! that every task was called exactly once and that the value is right. Durability: none; nothing outlives the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use celeriac::prelude::*;

const RUNS: usize = 7;
const NUMBERS: usize = 100_000;

/// How often tasks were called: all of them, and the one for each number.
struct Ledger {
    calls: AtomicUsize,
    by_number: Vec<AtomicU8>,
}

impl Ledger {
    fn note(&self, number: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.by_number[number].fetch_add(1, Ordering::Relaxed);
    }
}

/// Its number.
#[task(name = "bench.note")]
async fn note(number: usize, ledger: State<Arc<Ledger>>) -> usize {
    ledger.note(number);
    number
}

/// The number after its input's.
#[task(name = "bench.step")]
async fn step(before: usize, ledger: State<Arc<Ledger>>) -> usize {
    ledger.note(before + 1);
    before + 1
}

/// How many numbers stand in their own place.
#[task(name = "bench.count")]
async fn count(numbers: Vec<usize>, ledger: State<Arc<Ledger>>) -> usize {
    ledger.calls.fetch_add(1, Ordering::Relaxed);
    numbers.iter().enumerate().filter(|(place, number)| place == *number).count()
}

struct Line {
    name: &'static str,
    canvas: fn() -> Canvas,
    /// How many calls there must be: one for each number, and those of the body.
    calls: usize,
    value: fn(serde_json::Value) -> bool,
}

const LINES: &[Line] = &[
    Line {
        name: "100,000 independent leaves",
        canvas: || Canvas::group(notes(0..NUMBERS)),
        calls: NUMBERS,
        value: |value| value.as_array().is_some_and(|list| list.len() == NUMBERS && list[777] == 777),
    },
    Line {
        name: "a chord of 100,000",
        canvas: || Canvas::chord(notes(0..NUMBERS), sig("bench.count")),
        calls: NUMBERS + 1,
        value: |value| value == NUMBERS,
    },
    Line {
        name: "1,000 chains of 100",
        canvas: || Canvas::group((0..1000).map(|i| chain_of(i * 100, 100))),
        calls: NUMBERS,
        value: |value| value.as_array().is_some_and(|list| list.len() == 1000 && list[999] == 99_999),
    },
    Line {
        name: "one chain of 100,000",
        canvas: || chain_of(0, NUMBERS),
        calls: NUMBERS,
        value: |value| value == NUMBERS - 1,
    },
];

fn sig(name: &str) -> Canvas {
    Signature::new(name).expect("a good name").into()
}

fn notes(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Canvas> {
    numbers.map(|number| note.s(number).untyped().expect("numbers have a JSON form"))
}

fn chain_of(first: usize, length: usize) -> Canvas {
    let steps = (1..length).map(|_| sig("bench.step"));
    Canvas::chain(notes(first..first + 1).chain(steps))
}

#[tokio::main]
async fn main() {
    let by_number = (0..NUMBERS).map(|_| AtomicU8::new(0)).collect();
    let ledger = Arc::new(Ledger { calls: AtomicUsize::new(0), by_number });
    let tasks = tasks![note, step, count];
    let app = App::embedded().tasks(tasks).state(ledger.clone()).build().expect("the tasks fit together");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "embedded, memory backend (no durability), {cores} cores, {RUNS} runs of each, leaves per second\n"
    );
    println!("{:28} {:>9} {:>9} {:>9}   submission alone", "", "min", "median", "max");
    for line in LINES {
        measure(&app, line, &ledger).await;
        let (mut rates, mut submits) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (submit, total) = measure(&app, line, &ledger).await;
            rates.push((line.calls as f64 / total.as_secs_f64()) as u64);
            submits.push(submit);
        }
        rates.sort_unstable();
        submits.sort_unstable();
        let [min, median, max] = [rates[0], rates[RUNS / 2], rates[RUNS - 1]];
        println!("{:28} {min:9} {median:9} {max:9}   {:.1?}", line.name, submits[RUNS / 2]);
    }
    println!("\nin each run every task was called exactly once, and the value was right");
    println!("peak memory of the process: {}", peak_memory());
}

/// One run, from the canvas to its value: the time of the submission alone, and of all.
async fn measure(app: &App, line: &Line, ledger: &Ledger) -> (Duration, Duration) {
    ledger.calls.store(0, Ordering::Relaxed);
    ledger.by_number.iter().for_each(|calls| calls.store(0, Ordering::Relaxed));
    let canvas = (line.canvas)();
    let start = Instant::now();
    let run = app.submit(canvas).await.expect("the canvas is accepted");
    let submit = start.elapsed();
    let value = run.get().await.expect("the run succeeds");
    let total = start.elapsed();
    run.ended().await.expect("the run is known");
    assert_eq!(ledger.calls.load(Ordering::Relaxed), line.calls, "{}: calls", line.name);
    let once = ledger.by_number.iter().all(|calls| calls.load(Ordering::Relaxed) == 1);
    assert!(once, "{}: every task is called exactly once", line.name);
    assert!((line.value)(value), "{}: the value", line.name);
    run.forget().await.expect("the run is known");
    (submit, total)
}

/// As Linux tells it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
