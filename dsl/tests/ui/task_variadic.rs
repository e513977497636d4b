extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
unsafe extern "C" fn add(x: i64, ...) -> i64 {
    x
}

fn main() {}
