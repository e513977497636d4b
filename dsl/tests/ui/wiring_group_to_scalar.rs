extern crate celeriac_dsl as celeriac;
use celeriac::{group, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let _ = group((0..10).map(|i| add.s((i, i)))) | add.s(8);
}
