//! The commands, called in this process: what they print, where, and how they exit.

mod acl;
mod app;
mod dead;
mod payloads;
mod placed;
mod plan;
mod process;
mod run;
mod runs;
mod usage;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use celeriac_cli::{Exit, Io};
use celeriac_memory::Memory;
use celeriac_runtime::App;

use app::{Counter, app};

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq)]
struct Ran {
    exit: Exit,
    stdout: String,
    stderr: String,
    /// How often the task `count` was called.
    counted: usize,
}

impl Ran {
    /// The exit code and stderr of a command that printed no result.
    #[track_caller]
    fn error(&self) -> String {
        assert_eq!(self.stdout, "", "nothing on stdout but a result");
        format!("{} {}", self.exit.code(), self.stderr)
    }
}

fn words(args: &[&str]) -> Vec<OsString> {
    ["proj"].iter().chain(args).map(OsString::from).collect()
}

/// Runs a command with this on stdin. Time is virtual: waiting takes none.
fn with_stdin(stdin: &str, args: &[&str]) -> Ran {
    with(stdin, args, std::future::pending())
}

fn with(stdin: &str, args: &[&str], interrupt: impl Future<Output = ()> + Send) -> Ran {
    let counter = Counter::default();
    let ran = by(|| app(counter.clone()), stdin, args, interrupt);
    Ran { counted: counter.load(Ordering::SeqCst), ..ran }
}

/// Runs a command of this app.
fn by(app: impl Fn() -> App, stdin: &str, args: &[&str], interrupt: impl Future<Output = ()> + Send) -> Ran {
    let (mut stdin, mut stdout, mut stderr) = (stdin.as_bytes(), Vec::new(), Vec::new());
    let exit = block_on(async {
        let io = Io::new(&mut stdin, &mut stdout, &mut stderr).interrupt(interrupt);
        celeriac_cli::run(&app(), words(args), io).await
    });
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Ran { exit, stdout, stderr, counted: 0 }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(future)
}

fn celeriac(args: &[&str]) -> Ran {
    with_stdin("", args)
}

/// The result of a canvas that has one: its line on stdout, and nothing else anywhere.
#[track_caller]
fn check(args: &[&str], expect: &str) {
    let expect = Ran { exit: Exit::Ok, stdout: format!("{expect}\n"), stderr: String::new(), counted: 0 };
    assert_eq!(celeriac(args), expect);
}

/// A file with this content, for one test.
fn file(name: &str, content: impl AsRef<[u8]>) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Calls commands on one backend, on which nobody works yet.
fn on_a_backend(test: impl AsyncFnOnce(App)) {
    block_on(async { test(app(Counter::default()).on(Arc::new(Memory::new()))).await });
}

/// The exit code, stdout, and stderr.
async fn command(app: &App, args: &[&str]) -> String {
    interrupted(app, args, std::future::pending()).await
}

async fn interrupted(app: &App, args: &[&str], interrupt: impl Future<Output = ()> + Send) -> String {
    let (mut stdin, mut stdout, mut stderr) = (&b""[..], Vec::new(), Vec::new());
    let io = Io::new(&mut stdin, &mut stdout, &mut stderr).interrupt(interrupt);
    let exit = celeriac_cli::run(app, words(args), io).await;
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    format!("{} {stdout}{stderr}", exit.code())
}

/// Fails every write with this error.
struct Broken(std::io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Err(self.0.into())
    }
}
