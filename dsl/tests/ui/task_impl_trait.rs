extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn sum(numbers: impl Iterator<Item = i64>) -> impl Into<i64> {
    numbers.sum::<i64>()
}

fn main() {}
