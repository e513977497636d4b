extern crate celeriac_dsl as celeriac;
use celeriac::task;

async fn later() {}

#[task]
async fn work(x: i64) -> i64 {
    let shared = std::rc::Rc::new(x);
    later().await;
    *shared
}

fn main() {}
