extern crate celeriac_dsl as celeriac;
use celeriac::{group, task};

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let inner = || group([add.s((1, 1)), add.s((2, 2))]).collect_failures();
    let _ = group([inner(), inner()]);
    let _ = group(inner()).collect_failures();
}
