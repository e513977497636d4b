extern crate celeriac_dsl as celeriac;
use celeriac::tasks;

pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let _ = tasks![add];
    let _ = tasks![add()];
}
