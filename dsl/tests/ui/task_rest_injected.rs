extern crate celeriac_dsl as celeriac;
use celeriac::{TaskContext, task};

#[task]
async fn attempt(#[rest] #[default] context: TaskContext) -> u32 {
    context.attempt()
}

fn main() {}
