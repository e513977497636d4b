extern crate celeriac_dsl as celeriac;
use celeriac::{Flow, canvas, task, tasks};

/// Needs no more than the two imports.
#[task]
async fn add(x: i64, y: i64, #[default(0)] z: i64) -> i64 {
    x + y + z
}

#[task]
fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {
    let _: Flow<(), i64> = canvas!(group(add.s(i, y = i) for i in 0..10) | xsum.s() | add.s(1));
    assert_eq!(tasks![add, xsum].len(), 2);
}
