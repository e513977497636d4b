//! The CLI as a process: the exit code the shell sees, closed pipes, Ctrl-C, and leaving while a task
//! blocks; workers and coordinators on a Redis, and how they stop.
//!
//! This program is both sides: called with `PLAY_APP` set it is the app, else it calls itself and looks.

#[path = "../cli/app.rs"]
mod app;
mod workers;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const PLAY_APP: &str = "CELERIAC_TEST_PLAYS_APP";

fn main() -> ExitCode {
    if std::env::var_os(PLAY_APP).is_some() {
        return celeriac_cli::main(app::app(Default::default()));
    }
    let cases: &[(&str, fn())] = &[
        ("the_shell_sees_the_exit_code", the_shell_sees_the_exit_code),
        ("a_closed_pipe_is_no_panic", a_closed_pipe_is_no_panic),
        ("a_task_that_blocks_does_not_hold_up_the_end", a_task_that_blocks_does_not_hold_up_the_end),
        ("ctrl_c_ends_with_130", ctrl_c_ends_with_130),
        ("the_panic_of_a_task_is_said_once", the_panic_of_a_task_is_said_once),
        ("a_thread_of_a_task_that_panics_prints_its_place", a_thread_of_a_task_that_panics_prints_its_place),
    ];
    let cases = cases.iter().chain(workers::CASES);
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    for (name, case) in cases.filter(|(name, _)| name.contains(&filter)) {
        println!("test {name} ...");
        case();
    }
    println!("ok");
    ExitCode::SUCCESS
}

fn start(args: &[&str]) -> Child {
    command(args).spawn().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(args)
        .env(PLAY_APP, "1")
        .env_remove("RUST_BACKTRACE")
        .env_remove("CELERIAC_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Sends a signal such as `-TERM`.
fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// The exit code, stdout and stderr.
fn finish(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), stdout, stderr)
}

fn the_shell_sees_the_exit_code() {
    assert_eq!(finish(start(&["run", "add.s(4, 4) | mul.s(8)"])), (Some(0), "64\n".into(), "".into()));
    for (args, code) in [
        (&["run", "fail.s()"][..], 4),
        (&["run", "fail.s("], 2),
        (&["run", "-f", "no/such/file"], 3),
        (&["run", "sleep.s(600)", "--timeout", "50ms"], 6),
    ] {
        let (exit, stdout, stderr) = finish(start(args));
        assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{args:?}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
}

fn a_closed_pipe_is_no_panic() {
    // More than a pipe holds, so that the writer is still at it when the reader goes.
    let mut child = start(&["plan", "group(add.s(i, i) for i in range(20000))", "--all"]);
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "group\n");
    assert_eq!(finish(child), (Some(0), "".into(), "".into()));
}

fn a_task_that_blocks_does_not_hold_up_the_end() {
    let started = Instant::now();
    let (exit, ..) = finish(start(&["run", "block.s()", "--timeout", "50ms"]));
    assert_eq!(exit, Some(6));
    assert!(started.elapsed() < Duration::from_secs(60), "the task blocks for ten minutes");
}

/// As the failure, where hidden characters are escaped; the log names the place.
fn the_panic_of_a_task_is_said_once() {
    let (exit, _, stderr) = finish(start(&["run", "panics.s()"]));
    assert_eq!((exit, stderr.lines().count()), (Some(4), 1), "{stderr}");
    assert!(stderr.ends_with("failed: Panic: out of luck\n"), "{stderr}");
    let (_, _, stderr) = finish(start(&["run", "panics.s()", "--log", "error"]));
    assert!(
        stderr.contains("cli/tests/process/../cli/app.rs:") && !stderr.contains("panicked at"),
        "{stderr}"
    );
    assert!(stderr.contains("task=\"proj.tasks.panics\""), "{stderr}");
    assert_eq!(stderr.matches("out of luck").count(), 1, "{stderr}");
}

/// Nobody's failure has the text of a thread that a task starts.
fn a_thread_of_a_task_that_panics_prints_its_place() {
    let (exit, stdout, stderr) = finish(start(&["run", "panics_beside.s()"]));
    assert_eq!((exit, stdout.as_str()), (Some(0), "\"all went wrong\"\n"), "{stderr}");
    let place = "panicked at cli/tests/process/../cli/app.rs:";
    assert_eq!((stderr.matches(place).count(), stderr.lines().count()), (2, 2), "{stderr}");
    assert!(!stderr.contains("card number") && !stderr.contains('\u{1b}'), "{stderr}");
    let (.., stderr) = finish(start(&["run", "panics_beside.s()", "--log", "debug"]));
    assert_eq!(stderr.matches("a card number").count(), 2, "{stderr}");
}

#[cfg(unix)]
fn ctrl_c_ends_with_130() {
    // The result is printed while the callback sleeps: then the program is known to be waiting.
    let mut child = start(&["run", "add.s(1, 1).link(sleep.si(600))"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "2\n");
    signal(&child, "-INT");
    let (exit, _, stderr) = finish(child);
    assert_eq!(exit, Some(130), "{stderr}");
    assert!(stderr.starts_with("error: interrupted"), "{stderr}");
}

#[cfg(not(unix))]
fn ctrl_c_ends_with_130() {}
