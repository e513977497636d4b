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
    let _ = canvas!(chord([add.s(1, 1)]));
    let _ = canvas!(group());
    let _ = canvas!(chord([add.s(1, 1)], body = xsum.s()));
}
