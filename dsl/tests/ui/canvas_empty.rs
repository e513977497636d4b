extern crate celeriac_dsl as celeriac;
use celeriac::canvas;

fn main() {
    let _ = canvas!();
}
