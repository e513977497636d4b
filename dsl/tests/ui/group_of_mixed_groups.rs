extern crate celeriac_dsl as celeriac;
use celeriac::{group, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
pub async fn greet(name: String) -> String {
    name
}

fn main() {
    let list = group((0..2).map(|i| add.s((i, i))));
    let _ = group((list, greet.s("Ann")));
}
