extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task(nmae = "proj.tasks.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(retries = 3)]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

fn main() {}
