extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
pub async fn negate(x: i64) -> i64 {
    -x
}

fn main() {
    let _ = add.s((1, 1)).finally(negate.s(()));
}
