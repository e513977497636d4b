//! A chord: a group whose list of values feeds a body. The body is called once, when all members have finished.

use celeriac::prelude::*;

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
async fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add, xsum]).build()?;
    let run = app.submit(canvas!(chord((add.s(i, i) for i in 0..10), xsum.s()))).await?;
    assert_eq!(run.get().await?, 90);

    // A group with something after it is a chord.
    let run = app.submit(canvas!(group(add.s(i, i) for i in 0..10) | xsum.s())).await?;
    assert_eq!(run.get().await?, 90);
    Ok(())
}
