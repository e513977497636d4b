extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn xsum(#[rest] numbers: Vec<i64>, offset: i64) -> i64 {
    numbers.iter().sum::<i64>() + offset
}

fn main() {}
