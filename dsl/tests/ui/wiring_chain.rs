extern crate celeriac_dsl as celeriac;
use celeriac::{canvas, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
pub async fn greet(name: String) -> String {
    name
}

fn main() {
    let _ = canvas!(chain(add.s(4, 4), greet.s(), greet.s()));
}
