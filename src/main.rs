//! The `celeriac` command: an app without tasks of its own.

use std::process::ExitCode;

use celeriac::App;

fn main() -> ExitCode {
    let app = App::builder("celeriac").build().expect("an app without tasks fits together");
    celeriac::cli::main(app)
}
