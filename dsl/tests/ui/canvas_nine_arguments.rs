extern crate celeriac_dsl as celeriac;
use celeriac::{canvas, task};

#[task]
async fn xsum(#[rest] numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {
    let _ = canvas!(xsum.s(1, 2, 3, 4, 5, 6, 7, 8, 9));
}
