extern crate celeriac_dsl as celeriac;
use celeriac::{IntoCanvas, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn submit(_: impl IntoCanvas) {}

fn main() {
    submit(add.s(8));
}
