extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn add(x: i64, #[default = 0] y: i64, #[default()] z: i64, #[default] ctx: celeriac::TaskContext) -> i64 {
    x + y + z
}

fn main() {}
