extern crate celeriac_dsl as celeriac;
use celeriac::task;

struct Calculator;

impl Calculator {
    #[task]
    async fn add(&self, x: i64) -> i64 {
        x
    }
}

fn main() {}
