//! Coordinators and workers as processes of their own, so that memory and CPU time can be told apart.
//!
//! A member is this program with `--role`. It says `ready` when it has started, a worker answers `ledger` with the ids
//! of the leaves that it has called since it was asked last, and everyone ends when its input ends: however the bench
//! goes away, nobody stays.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use celeriac::prelude::*;
use celeriac::primitives::TaskId;
use celeriac_redis::RedisBackend;

use crate::tasks::{self, Ledger};
use crate::{Options, Role};

/// What ends an answer.
const END: &str = ".";

/// All members.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) coordinators: Vec<Member>,
    pub(crate) workers: Vec<Member>,
}

/// One process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Crew {
    pub(crate) fn start(url: &str, options: &Options) -> Result<Self, Box<dyn Error>> {
        let start = |role, count| (0..count).map(|_| Member::start(role, url, options)).collect();
        let coordinators: Result<_, Box<dyn Error>> = start("coordinator", options.coordinators);
        Ok(Self { coordinators: coordinators?, workers: start("worker", options.workers)? })
    }

    /// How often each leaf was called since this was asked last.
    pub(crate) fn calls(&mut self) -> Result<HashMap<TaskId, usize>, Box<dyn Error>> {
        let mut calls = HashMap::new();
        for worker in &mut self.workers {
            writeln!(worker.input, "ledger")?;
            loop {
                match &*worker.line()? {
                    END => break,
                    id => *calls.entry(id.parse()?).or_default() += 1,
                }
            }
        }
        Ok(calls)
    }
}

impl Member {
    fn start(role: &str, url: &str, options: &Options) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role, "--url", url]);
        if let Some(concurrency) = options.concurrency {
            command.args(["--concurrency", &concurrency.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut member = Self {
            child,
            input: input.expect("it was asked for"),
            output: BufReader::new(output.expect("it was asked for")),
        };
        match &*member.line()? {
            "ready" => Ok(member),
            other => Err(format!("the {role} says {other:?}").into()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a process of the bench has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An app on this Redis, with the tasks of the bench.
pub(crate) async fn app(url: &str, ledger: Arc<Ledger>) -> Result<App, Box<dyn Error>> {
    let backend = RedisBackend::connect(url).await?;
    Ok(App::builder("bench").tasks(tasks::all()).state(ledger).backend(backend).build()?)
}

/// What a member does.
pub(crate) async fn serve(role: Role, url: &str, concurrency: Option<usize>) -> Result<(), Box<dyn Error>> {
    let ledger = Arc::new(Ledger::default());
    let app = app(url, ledger.clone()).await?;
    let (_coordinator, _worker) = match role {
        Role::Coordinator => (Some(app.coordinator(CoordinatorOptions::default())), None),
        Role::Worker => {
            let options = WorkerOptions::default();
            let options = concurrency.map_or(options.clone(), |lanes| options.concurrency(lanes));
            (None, Some(app.worker(options)))
        }
    };
    println!("ready");
    tokio::task::spawn_blocking(move || answer(&ledger)).await??;
    Ok(())
}

/// Answers until nobody is left to ask.
fn answer(ledger: &Ledger) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for _ in std::io::stdin().lock().lines() {
        let mut text: String = ledger.take().iter().map(|id| format!("{id}\n")).collect();
        text.push_str(END);
        writeln!(out, "{text}")?;
    }
    Ok(())
}
