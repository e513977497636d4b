extern crate celeriac_dsl as celeriac;
use celeriac::task;

type Fallible = Result<i64, String>;

#[task]
fn parse(text: String) -> Fallible {
    text.parse::<i64>().map_err(|error| error.to_string())
}

fn main() {}
