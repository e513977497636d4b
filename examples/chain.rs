//! A chain: one after the other, each fed with the result of the one before.

use celeriac::prelude::*;

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add]).build()?;
    let run = app.submit(canvas!(add.s(2, 2) | add.s(4) | add.s(8))).await?;
    assert_eq!(run.get().await?, 16);

    // `.si` takes all its arguments itself: it only waits.
    let run = app.submit(canvas!(add.s(2, 2) | add.si(1, 1))).await?;
    assert_eq!(run.get().await?, 2);
    Ok(())
}
