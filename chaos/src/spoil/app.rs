//! The app of the processes into whose Redis faults are written.

use std::process::ExitCode;
use std::time::Duration;

use celeriac::App;
use celeriac::prelude::*;

use super::scene::NAP;

/// Set where a process of this app is to be played.
pub(crate) const PLAYS: &str = "CELERIAC_CHAOS_SPOIL";

#[task(name = "add")]
async fn add(x: i64, y: i64) -> i64 {
    x.wrapping_add(y)
}

#[task(name = "padded")]
async fn padded(x: i64, y: i64, padding: String) -> i64 {
    let _ = padding;
    x.wrapping_add(y)
}

#[task(name = "sum")]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().fold(0, |all, number| all.wrapping_add(*number))
}

#[task(name = "nap")]
async fn nap(x: i64, ms: u64) -> i64 {
    tokio::time::sleep(Duration::from_millis(ms).min(4 * NAP)).await;
    x
}

#[task(name = "swell")]
async fn swell(size: usize) -> String {
    "z".repeat(size.min(1_000_000))
}

#[task(name = "measure")]
async fn measure(x: i64, text: String) -> i64 {
    x.wrapping_add(text.len() as i64)
}

#[task(name = "lengths")]
async fn lengths(both: (String, i64)) -> i64 {
    both.1.wrapping_add(both.0.len() as i64)
}

#[task(name = "become")]
async fn turn(ctx: TaskContext, queue: String) -> Result<i64, TaskError> {
    let options =
        Options::new().with_queue(&queue).map_err(|error| TaskError::new("Queue", error.to_string()))?;
    ctx.replace(nap.s((0, NAP.as_millis() as u64)).set(options.clone()) | add.s(6).set(options))
}

/// The app, of which `backend` is still to be said.
pub(crate) fn app() -> celeriac::runtime::AppBuilder {
    App::builder("spoil").tasks(tasks![add, padded, sum, nap, swell, measure, lengths, turn])
}

/// Does what the program's arguments say, as the app.
pub(crate) fn play() -> ExitCode {
    crate::app::leave_with_the_parent();
    celeriac::cli::main(app().build().expect("the tasks have different names"))
}
