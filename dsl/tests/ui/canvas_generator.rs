extern crate celeriac_dsl as celeriac;
use celeriac::{canvas, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
pub async fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {
    let _ = canvas!(chord(add.s(i, i) for i in 0..10, xsum.s()));
    let _ = canvas!(group(add.s(i, i) for i of 0..10));
    let _ = canvas!(group(add.s(i, i) for i in));
    let _ = canvas!(add.s(i, i) for i in 0..10);
}
