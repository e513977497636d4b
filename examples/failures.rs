//! Members that may fail: a list of those that succeeded, a list of how each ended, and what runs in either case.

use celeriac::prelude::*;

#[task]
async fn divide(x: i64, y: i64) -> Result<i64, TaskError> {
    x.checked_div(y).ok_or_else(|| TaskError::new("ZeroDivisionError", "division by zero"))
}

#[task]
async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task]
async fn report(results: Vec<Entry<i64>>) -> String {
    let line = |result: &Entry<i64>| match result {
        Entry::Ok(value) => value.to_string(),
        Entry::Error(failure) => failure.error.to_string(),
    };
    results.iter().map(line).collect::<Vec<_>>().join(", ")
}

#[task]
async fn clean_up() {
    println!("the rest is swept together");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::embedded().tasks(tasks![divide, sum, report, clean_up]).build()?;
    let quotients = || group([divide.s((8, 2)), divide.s((8, 0)), divide.s((8, 4))]);

    let run = app.submit(chord(quotients().drop_failures(), sum.s(()))).await?;
    assert_eq!(run.get().await?, 6);

    let run = app.submit(quotients().collect_failures() | report.s(())).await?;
    assert_eq!(run.get().await?, "4, ZeroDivisionError: division by zero, 2");

    let run = app.submit(quotients().finally(clean_up.si(()))).await?;
    assert_eq!(run.get().await.unwrap_err().task_error().unwrap().kind, "ZeroDivisionError");
    run.ended().await?;
    Ok(())
}
