//! The first steps: two tasks, a chain, and its result.

use celeriac::prelude::*;

/// A task is a function. It can be called as one: `add.call(2, 2).await`.
#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add, mul]).build()?;

    // A signature is a call that has not happened. `|` feeds its result to the next one, as its first argument.
    let run = app.submit(add.s((4, 4)) | mul.s(8)).await?;
    println!("(4 + 4) * 8 = {}", run.get().await?);

    // The same in Celery's own writing.
    let run = app.submit(canvas!(add.s(4, 4) | mul.s(8))).await?;
    assert_eq!(run.get().await?, 64);
    Ok(())
}
