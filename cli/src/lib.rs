//! The command line as a library: an app's own tasks, processes, and runs.
//!
//! An app hands itself to [`main`]:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use celeriac_runtime::{App, BuildError};
//!
//! fn main() -> Result<ExitCode, BuildError> {
//!     let app = App::embedded().build()?; // and .tasks(tasks![add, mul])
//!     Ok(celeriac_cli::main(app))
//! }
//! ```
//!
//! and gets these commands (`--help` has them all):
//!
//! ```text
//! proj run 'add.s(4, 4) | mul.s(8)'        64
//! proj run 'group(add.s(i) for i in range(3))' --args 10    [10,11,12]
//! proj run -f canvas.json --timeout 2m     Celery's JSON, or operator text
//! proj plan 'add.s(4, 4) | mul.s(8)' -o mermaid
//! proj tasks
//! ```
//!
//! With a backend that processes share, from `--url redis://…` or `CELERIAC_URL`, or the app's own, it
//! also gets
//!
//! ```text
//! proj worker -c 8 -Q celery,reports       runs leaves
//! proj coordinator                         advances runs
//! proj up                                  both in one process
//! proj submit --key order-4711 'add.s(4, 4) | mul.s(8)'     prints the run's id
//! proj wait ID, result ID, show ID --follow, graph ID -o dot, forget ID
//! proj ls --state failure -o json
//! proj dead                                what nobody could read or handle
//! proj health --health 8080                asks a process that was started with --health 8080
//! proj acl worker | redis-cli              what the Redis user of a worker needs
//! ```
//!
//! `run` and `result` print the value as one line of JSON on stdout, and nothing else there; all that
//! is for people goes to stderr. A run in this process returns when nothing is left to do, callbacks
//! and error callbacks included.
//!
//! Processes stop at SIGTERM or Ctrl-C: they take no more leaves, finish those that run within
//! `--grace`, and give the others back. A second signal gives back what is held and ends them at once.
//! `docs/operations.md` says how to run them.
//!
//! Errors begin with `error: `; the exit code tells what kind they are:
//!
#![doc = exit::table!()]

mod acl;
mod args;
mod backend;
mod canvas;
mod dead;
mod exit;
mod find;
mod forget;
mod health;
mod io;
mod logs;
mod ls;
mod plan;
mod process;
mod progress;
mod run;
mod show;
mod signals;
mod submit;
mod tasks;
mod timeout;
mod wait;
mod watch;
mod watched;

use std::ffi::OsString;
use std::process::ExitCode;

use celeriac_runtime::App;
use clap::Parser as _;
use clap::error::ErrorKind;

pub use exit::Exit;
pub use io::Io;

use args::{Cli, Command};
use exit::Stop;

/// Started when they are needed: a worker has its own bound on those that run its blocking tasks.
const THREADS_MAX: usize = 4096;

/// The `main` of an app: does what the program's arguments say.
pub fn main(app: App) -> ExitCode {
    celeriac_runtime::print_no_payloads();
    let (mut stdin, mut stdout, mut stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(THREADS_MAX)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let mut io = Io::new(&mut stdin, &mut stdout, &mut stderr);
            io.complain(&format!("the async runtime does not start: {error}"));
            return Exit::Internal.into();
        }
    };
    let io = Io::process(&mut stdin, &mut stdout, &mut stderr);
    let exit = runtime.block_on(run(&app, std::env::args_os(), io));
    // After a timeout or Ctrl-C blocking tasks may still run; nobody waits for them.
    runtime.shutdown_background();
    exit.into()
}

/// Does what `args` say, the program's name first, with these streams.
///
/// Call it inside a tokio runtime with time and I/O enabled.
pub async fn run(app: &App, args: impl IntoIterator<Item = OsString>, mut io: Io<'_>) -> Exit {
    let done = match Cli::try_parse_from(args) {
        Ok(cli) => obey(app, cli, &mut io).await,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            io.print(&error.to_string())
        }
        Err(error) => {
            io.say(&backend::without_users(&error.to_string()));
            Ok(Exit::Usage)
        }
    };
    done.unwrap_or_else(|Stop { exit, message }| {
        io.complain(&message);
        exit
    })
}

async fn obey(app: &App, Cli { mut global, command }: Cli, io: &mut Io<'_>) -> Result<Exit, Stop> {
    global.read_url()?;
    let global = &global;
    // Tests bring their own streams, and share the process.
    if io.is_process() {
        logs::start(global, command.is_process())?;
    }
    match &command {
        Command::Run(args) => run::run(app, global, args, io).await,
        Command::Plan(args) => plan::plan(app, args, io),
        Command::Tasks => tasks::tasks(app, io),
        Command::Worker(args) => process::worker(app, global, args, io).await,
        Command::Coordinator(args) => process::coordinator(app, global, args, io).await,
        Command::Up(args) => process::up(app, global, args, io).await,
        Command::Submit(args) => submit::submit(app, global, args, io).await,
        Command::Wait(args) => wait::wait(app, global, args, io).await,
        Command::Result(args) => wait::result(app, global, args, io).await,
        Command::Ls(args) => ls::ls(app, global, args, io).await,
        Command::Show(args) => show::show(app, global, args, io).await,
        Command::Graph(args) => show::graph(app, global, args, io).await,
        Command::Forget(args) => forget::forget(app, global, args, io).await,
        Command::Dead(args) => dead::dead(app, global, args, io).await,
        Command::Health(args) => health::health(args, io).await,
        Command::Acl(args) => acl::acl(global, args, io),
    }
}
