extern crate celeriac_dsl as celeriac;
use celeriac::task;

struct Oops;

#[task]
async fn query() -> Result<i64, Oops> {
    Err(Oops)
}

fn main() {}
