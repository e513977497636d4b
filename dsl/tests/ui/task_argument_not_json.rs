extern crate celeriac_dsl as celeriac;
use celeriac::task;

struct Connection;

#[task]
async fn query(_connection: Connection) -> i64 {
    0
}

fn main() {}
