extern crate celeriac_dsl as celeriac;
use celeriac::{task, tasks};

#[task(name = "proj.add")]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "proj.add")]
pub async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {
    let _ = tasks![add, sum];
}
