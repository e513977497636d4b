//! An app with a few tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_dsl::{State, task, tasks};
use celeriac_primitives::{Json, TaskError};
use celeriac_runtime::App;

/// How often `count` was called.
pub(crate) type Counter = Arc<AtomicUsize>;

/// Adds two or three numbers.
/// More about adding.
#[task(crate = celeriac_dsl, name = "proj.tasks.add")]
async fn add(x: i64, y: i64, #[default(0)] z: i64) -> i64 {
    x + y + z
}

/// Multiplies.
#[task(crate = celeriac_dsl, name = "proj.tasks.mul")]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

/// Sums a list.
#[task(crate = celeriac_dsl, name = "proj.tasks.xsum")]
async fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task(crate = celeriac_dsl, name = "proj.tasks.echo")]
async fn echo(value: Json) -> Json {
    value
}

#[task(crate = celeriac_dsl, name = "other.tasks.echo")]
async fn other_echo(value: Json) -> Json {
    value
}

/// Waits.
#[task(crate = celeriac_dsl, name = "proj.tasks.sleep")]
async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Waits for ten minutes, the first time.
#[task(crate = celeriac_dsl, name = "proj.tasks.linger")]
async fn linger(path: String) -> String {
    if std::fs::File::create_new(path).is_ok() {
        tokio::time::sleep(Duration::from_secs(600)).await;
        return "the first time".to_owned();
    }
    "another time".to_owned()
}

#[task(crate = celeriac_dsl, name = "proj.tasks.fail")]
async fn fail(#[default(Json::null())] _ignored: Json) -> Result<(), TaskError> {
    let causes = vec!["disk full".to_owned(), "quota\u{1b}[2J of 5 GB".to_owned()];
    Err(TaskError { causes, ..TaskError::new("ValueError", "boom") })
}

#[task(crate = celeriac_dsl, name = "proj.tasks.panics")]
async fn panics() {
    std::panic::panic_any("out of luck")
}

/// Goes on when what it has started panics.
#[task(crate = celeriac_dsl, name = "proj.tasks.panics_beside")]
async fn panics_beside() -> String {
    let panic = || panic!("\u{1b}[2Ja card number");
    assert!(std::thread::spawn(panic).join().is_err() && tokio::spawn(async move { panic() }).await.is_err());
    "all went wrong".to_owned()
}

/// Counts its calls.
#[task(crate = celeriac_dsl, name = "proj.tasks.count")]
async fn count(counter: State<Counter>) -> usize {
    counter.fetch_add(1, Ordering::SeqCst)
}

#[task(crate = celeriac_dsl, name = "proj.tasks.block")]
fn block() {
    std::thread::sleep(Duration::from_secs(600));
}

pub(crate) fn app(counter: Counter) -> App {
    let tasks =
        tasks![add, mul, xsum, echo, other_echo, sleep, linger, fail, panics, panics_beside, count, block];
    App::embedded().tasks(tasks).state(counter).build().unwrap()
}
