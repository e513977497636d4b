extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn add(add: i64, y: i64) -> i64 {
    add + y
}

fn main() {}
