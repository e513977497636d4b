extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn run(#[rest] threads: Vec<std::thread::Thread>) -> usize {
    threads.len()
}

fn main() {}
