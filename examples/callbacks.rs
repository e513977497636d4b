//! Callbacks and error callbacks: what happens besides, when a canvas succeeds or fails.

use std::sync::atomic::{AtomicI64, Ordering};

use celeriac::prelude::*;

struct Seen(AtomicI64);

#[task]
async fn divide(x: i64, y: i64) -> Result<i64, TaskError> {
    x.checked_div(y).ok_or_else(|| TaskError::new("ZeroDivisionError", "division by zero"))
}

#[task]
async fn note(value: i64, seen: State<Seen>) {
    seen.0.store(value, Ordering::Relaxed);
}

#[task]
async fn report(failure: Failure, seen: State<Seen>) {
    println!("{failure}");
    seen.0.store(-1, Ordering::Relaxed);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![divide, note, report]).state(Seen(AtomicI64::new(0))).build()?;

    let run = app.submit(divide.s((8, 2)).link(note.s(())).on_error(report.s(()))).await?;
    assert_eq!(run.get().await?, 4);
    run.ended().await?;

    let run = app.submit(divide.s((8, 0)).link(note.s(())).on_error(report.s(()))).await?;
    let error = run.get().await.unwrap_err();
    assert_eq!(error.task_error().unwrap().kind, "ZeroDivisionError");
    run.ended().await?;
    Ok(())
}
