extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
const unsafe extern "C" fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {}
