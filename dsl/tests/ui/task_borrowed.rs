extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn greet(name: &str, friends: &[String], titles: Vec<&str>) -> i64 {
    0
}

fn main() {}
