//! Chunks: a long starmap, cut into parts that run in parallel.

use celeriac::prelude::*;

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add]).build()?;
    let run = app.submit(add.chunks([(1, 1), (2, 2), (3, 3)], 2)).await?;
    assert_eq!(run.get().await?, [vec![2, 4], vec![6]]);
    Ok(())
}
