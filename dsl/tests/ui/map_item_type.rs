extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
pub async fn xsum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

fn main() {
    let _ = xsum.map(["a", "b"]);
}
