extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn xsum(#[rest(8)] numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {}
