//! An app with a command line: `cargo run --example proj -- run 'add.s(4,4) | mul.s(8)'`.
//!
//! Alone it runs a canvas in its own memory. With a Redis its processes share the work:
//!
//! ```sh
//! export CELERIAC_URL=redis://localhost:6379
//! proj up &
//! proj result $(proj submit 'add.s(4,4) | mul.s(8)')
//! ```

use std::process::ExitCode;
use std::time::Duration;

use celeriac::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Adds two numbers, or three.
#[task(name = "proj.tasks.add")]
async fn add(x: i64, y: i64, #[default(0)] z: i64) -> i64 {
    x + y + z
}

/// Multiplies two numbers.
#[task(name = "proj.tasks.mul")]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

/// A number, or a list of such.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(i64),
    Many(Vec<Numbers>),
}

impl Numbers {
    fn sum(&self) -> i64 {
        match self {
            Self::One(number) => *number,
            Self::Many(numbers) => numbers.iter().map(Self::sum).sum(),
        }
    }
}

/// Sums numbers in lists nested to any depth.
#[task(name = "proj.tasks.xsum")]
async fn xsum(numbers: Vec<Numbers>) -> i64 {
    numbers.iter().map(Numbers::sum).sum()
}

/// Sums a list of numbers.
#[task(name = "proj.tasks.tsum")]
async fn tsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

/// Returns what it gets.
#[task(name = "proj.tasks.identity")]
async fn identity(x: Value) -> Value {
    x
}

/// Returns its arguments: one as it is, several as a list.
#[task(name = "proj.tasks.echo")]
async fn echo(#[rest] arguments: Vec<Value>) -> Value {
    match <[Value; 1]>::try_from(arguments) {
        Ok([one]) => one,
        Err(several) => Value::Array(several),
    }
}

/// Sleeps, then returns the value.
#[task(name = "proj.tasks.sleep")]
async fn sleep(seconds: f64, #[default] value: Value) -> Result<Value, TaskError> {
    let time = Duration::try_from_secs_f64(seconds)
        .map_err(|error| TaskError::new("ValueError", error.to_string()))?;
    tokio::time::sleep(time).await;
    Ok(value)
}

/// Fails with a message.
#[task(name = "proj.tasks.fail")]
async fn fail(#[default(Value::from("boom"))] message: Value) -> Result<Value, TaskError> {
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    Err(TaskError::new("ValueError", message))
}

/// What a task knows about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Ids {
    run: String,
    task: String,
    attempt: u32,
}

/// Returns its run, its task id and its attempt.
#[task(name = "proj.tasks.ids")]
async fn ids(ctx: TaskContext) -> Ids {
    Ids { run: ctx.run_id().to_string(), task: ctx.task_id().to_string(), attempt: ctx.attempt() }
}

fn main() -> ExitCode {
    let tasks = tasks![add, mul, xsum, tsum, identity, echo, sleep, fail, ids];
    match App::embedded().tasks(tasks).build() {
        Ok(app) => celeriac::cli::main(app),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
