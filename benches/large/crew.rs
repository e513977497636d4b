//! The coordinator and the worker as processes of their own: this program with `--role`. Each says `ready`, and ends when
//! its input does.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use celeriac::prelude::*;
use celeriac_redis::RedisBackend;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Coordinator,
    Worker,
}

/// One process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    child: Child,
    _input: Option<ChildStdin>,
}

#[task(name = "large.make")]
pub(crate) async fn make(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

#[task(name = "large.measure")]
pub(crate) async fn measure(text: String) -> usize {
    text.len() + 2
}

#[task(name = "large.lengths")]
pub(crate) async fn lengths(texts: Vec<String>) -> usize {
    texts.iter().map(|text| text.len() + 2).sum()
}

impl Member {
    pub(crate) fn start(role: Role, url: &str) -> Result<Self, Box<dyn Error>> {
        let role = if role == Role::Worker { "worker" } else { "coordinator" };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--role", role, "--url", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut line = String::new();
        BufReader::new(output.expect("it was asked for")).read_line(&mut line)?;
        match line.trim_end() {
            "ready" => Ok(Self { child, _input: input }),
            other => Err(format!("the {role} says {other:?}").into()),
        }
    }

    /// The most memory it has had.
    pub(crate) fn peak_kb(&self) -> Result<u64, Box<dyn Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(peak.ok_or("no VmHWM")?.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An app with the tasks of the bench.
pub(crate) async fn app(url: &str) -> Result<App, Box<dyn Error>> {
    let backend = RedisBackend::connect(url).await?;
    Ok(App::builder("large").tasks(tasks![make, measure, lengths]).backend(backend).build()?)
}

/// What a member does, until nobody is left who started it.
pub(crate) async fn serve(role: Role, url: &str) -> Result<(), Box<dyn Error>> {
    let app = app(url).await?;
    let _coordinator = (role == Role::Coordinator).then(|| app.coordinator(CoordinatorOptions::default()));
    let _worker = (role == Role::Worker).then(|| app.worker(WorkerOptions::default()));
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().for_each(drop)).await?;
    Ok(())
}
