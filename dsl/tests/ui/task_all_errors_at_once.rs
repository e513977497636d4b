extern crate celeriac_dsl as celeriac;
use celeriac::task;

#[task(nmae = "x", name = "a b")]
async unsafe fn add<T>(self, x: &str, #[default(1)] y: i64, (z, w): (i64, i64)) -> &str {
    x
}

fn main() {}
