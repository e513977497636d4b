extern crate celeriac_dsl as celeriac;
use celeriac::{chain, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let _ = chain([add.s((1, 1)), add.s((2, 2))]);
}
