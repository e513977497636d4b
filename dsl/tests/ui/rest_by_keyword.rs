extern crate celeriac_dsl as celeriac;
use celeriac::{canvas, task};

#[task]
async fn xsum(#[rest] numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

#[task]
async fn greet(name: String) -> String {
    name
}

#[task]
async fn join(by: String, #[rest] parts: Vec<String>) -> String {
    parts.join(&by)
}

fn main() {
    let _ = canvas!(join.s(", ", parts = ["a"]));
}
