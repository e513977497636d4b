extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let _ = add.starmap([1, 2]);
}
