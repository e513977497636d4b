//! A group: in parallel; its value is the list of its members' values.

use celeriac::prelude::*;
use futures::StreamExt;

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add]).build()?;
    let run = app.submit(canvas!(group(add.s(i, i) for i in 0..10))).await?;
    assert_eq!(run.get().await?, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);

    // The members can be had as they finish.
    let mut members = std::pin::pin!(run.members());
    let mut sum = 0;
    while let Some((_place, value)) = members.next().await {
        sum += value?;
    }
    assert_eq!(sum, 90);
    Ok(())
}
