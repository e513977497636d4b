extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task(name = add)]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name)]
async fn mul(x: i64, y: i64) -> i64 {
    x * y
}

#[task("proj.tasks.mul")]
async fn sub(x: i64, y: i64) -> i64 {
    x - y
}

fn main() {}
