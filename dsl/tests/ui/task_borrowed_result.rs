extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
fn greet(name: String) -> &'static str {
    "hello"
}

fn main() {}
