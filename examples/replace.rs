//! A task that decides while it runs what is to be done: it returns a canvas, which runs in its place.

use celeriac::prelude::*;

#[task]
async fn pages(ctx: TaskContext, count: u64) -> Result<u64, TaskError> {
    // Celery: `raise self.replace(group(...) | total.s())`.
    ctx.replace(group((1..=count).map(|page| words.s(page))) | total.s(()))
}

#[task]
async fn words(page: u64) -> u64 {
    100 * page
}

#[task]
async fn total(counts: Vec<u64>) -> u64 {
    counts.iter().sum()
}

#[task]
async fn report(count: u64) -> String {
    format!("{count} words")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![pages, words, total, report]).build()?;
    // Whatever follows the task follows the canvas.
    let run = app.submit(pages.s(4) | report.s(())).await?;
    assert_eq!(run.get().await?, "1000 words");
    Ok(())
}
