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
    let _ = group(vec![add.s((1, 1)), greet.s("Ann")]);
}
