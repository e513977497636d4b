extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn xsum(#[rest] numbers: Vec<i64>, #[rest] others: Vec<i64>) -> i64 {
    numbers.iter().chain(&others).sum()
}

#[task]
async fn ysum(#[rest] #[rest] numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {}
