extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task(name = "proj tasks add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "proj..mul")]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

fn main() {}
