extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn xsum(#[rest] #[default(vec![1])] numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {}
