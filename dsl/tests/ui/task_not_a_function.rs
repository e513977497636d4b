extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
struct Add {
    x: i64,
}

fn main() {}
