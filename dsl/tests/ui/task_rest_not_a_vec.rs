extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn xsum(#[rest] numbers: i64) -> i64 {
    numbers
}

#[task]
async fn ysum(#[rest] numbers: &[i64]) -> i64 {
    numbers.iter().sum()
}

fn main() {}
