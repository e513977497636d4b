extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
pub async fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {
    let _ = add.s((4, 4)) | xsum.s(());
}
