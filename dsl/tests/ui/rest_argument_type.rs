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
    let _ = xsum.s((1, "2"));
    let _ = canvas!(join.s(", ", "a", 2));
    let _ = canvas!(xsum.si("1"));
}
