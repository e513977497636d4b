//! Map and starmap: one leaf that calls a task for every item, one after the other.

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
    assert_eq!(app.submit(xsum.map([vec![1, 2], vec![3, 4]])).await?.get().await?, [3, 7]);
    assert_eq!(app.submit(add.starmap([(1, 2), (3, 4)])).await?.get().await?, [3, 7]);
    Ok(())
}
