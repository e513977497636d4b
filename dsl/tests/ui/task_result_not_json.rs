extern crate celeriac_dsl as celeriac;
use celeriac::task;

struct Rows;

#[task]
async fn query() -> Rows {
    Rows
}

fn main() {}
