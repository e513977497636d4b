//! A signature: a task with some of its arguments, to be called later.

use celeriac::prelude::*;

#[task]
async fn add(x: i64, y: i64, #[default(0)] z: i64) -> i64 {
    x + y + z
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add]).build()?;
    assert_eq!(app.submit(canvas!(add.s(2, 2))).await?.get().await?, 4);
    assert_eq!(app.submit(canvas!(add.s(2, y = 2, z = 1))).await?.get().await?, 5);

    // What is missing is bound at the call, in front of what is there.
    let plus_two = add.s(2);
    assert_eq!(app.submit(plus_two.partial(40)).await?.get().await?, 42);
    Ok(())
}
