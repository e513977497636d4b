//! The app of `scripts/mixed`, which builds it twice: with this celeriac, and with an older one. So it uses
//! nothing that is new, and holds one task for each way in which a leaf may end that is told in a form of its
//! own.

use std::process::ExitCode;
use std::time::Duration;

use celeriac::prelude::*;
use serde_json::Value;

#[task(name = "add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "tsum")]
async fn tsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(name = "echo")]
async fn echo(x: Value) -> Value {
    x
}

#[task(name = "fail")]
async fn fail(#[rest] _arguments: Vec<Value>) -> Result<Value, TaskError> {
    Err(TaskError::new("ValueError", "boom"))
}

/// So that others are told of its progress, and its leases have to be renewed.
#[task(name = "nap")]
async fn nap(ctx: TaskContext, seconds: f64) -> Result<f64, TaskError> {
    for part in 0..4 {
        ctx.update_state("PROGRESS", &part)?;
        tokio::time::sleep(Duration::from_secs_f64(seconds / 4.0)).await;
    }
    Ok(seconds)
}

/// Fails twice.
#[task(name = "flaky", retry = RetryPolicy::new(3).backoff(Duration::from_millis(50)))]
async fn flaky(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    if ctx.attempt() < 3 { Err(TaskError::new("FlakyError", "not yet")) } else { Ok(x) }
}

/// A text of so many characters: a large one is kept apart.
#[task(name = "text")]
async fn text(characters: usize) -> String {
    "x".repeat(characters)
}

#[task(name = "length")]
async fn length(of: String) -> usize {
    of.len()
}

/// `n`, by as many canvases in its place.
#[task(name = "down")]
async fn down(ctx: TaskContext, n: i64) -> Result<i64, TaskError> {
    if n == 0 { Ok(0) } else { ctx.replace(down.s(n - 1) | add.s(1)) }
}

/// Its value and one more in the list.
#[task(name = "adds")]
async fn adds(ctx: TaskContext, x: i64) -> Result<i64, TaskError> {
    ctx.add_to_chord(add.s((x, 1)))?;
    Ok(x)
}

fn main() -> ExitCode {
    match App::embedded().tasks(tasks![add, tsum, echo, fail, nap, flaky, text, length, down, adds]).build() {
        Ok(app) => celeriac::cli::main(app),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
