extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task]
async fn first<T>(items: Vec<T>) -> T
where
    T: Clone,
{
    items[0].clone()
}

fn main() {}
