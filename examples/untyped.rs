//! Canvases without types: tasks of other programs, operator text, and Celery's JSON.

use celeriac::engine::text;
use celeriac::prelude::*;

#[task(name = "proj.tasks.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![add]).build()?;

    // By name: the task may be registered by another program that shares the backend.
    let signature = Signature::new("proj.tasks.add")?.arg(2)?.arg(3)?;
    assert_eq!(app.submit(signature).await?.get().await?, 5);

    // From operator text, and by way of Celery's JSON form.
    let canvas = text::parse("proj.tasks.add.s(2, 2) | proj.tasks.add.s(4)")?;
    let canvas = Canvas::from_json(&canvas.to_json())?;
    assert_eq!(app.submit(canvas).await?.get().await?, 8);
    Ok(())
}
