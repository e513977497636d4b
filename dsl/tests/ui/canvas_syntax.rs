extern crate celeriac_dsl as celeriac;
use celeriac::{canvas, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let _ = canvas!(add.s(4, 4) |);
}
