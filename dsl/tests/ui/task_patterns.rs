extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn add((x, y): (i64, i64), _: i64) -> i64 {
    x + y
}

fn main() {}
