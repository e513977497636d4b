//! The processes: a client, and coordinator and workers as the command line of an app starts them.
//!
//! All are this program, and say by a variable of their environment what they are. Everyone ends when its input ends:
//! however the soak goes away, nobody stays.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use celeriac::prelude::*;

use crate::tasks::{self, Call, Ledger};
use crate::{Options, client, mix};

/// Where a worker, or the client, writes its part of the ledger.
const LEDGER: &str = "CELERIAC_SOAK_LEDGER";

/// Of the client: which Redis to use.
const CLIENT: &str = "CELERIAC_SOAK_CLIENT";

/// How long an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(40);

/// Everybody.
pub(crate) struct Crew {
    url: String,
    directory: PathBuf,
    timeout: Duration,
    client: Member,
    answers: Receiver<String>,
    coordinator: Member,
    workers: Vec<Member>,
    /// How much of each part of the ledger was read.
    read: HashMap<String, u64>,
}

/// One process. It is killed when this is dropped.
pub(crate) struct Member {
    pub(crate) name: String,
    child: Child,
    input: ChildStdin,
}

/// What this process does when the soak has started it; `None` when nobody has.
pub(crate) fn play() -> Option<ExitCode> {
    let ledger = PathBuf::from(std::env::var_os(LEDGER)?);
    if let Ok(url) = std::env::var(CLIENT) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the async runtime starts");
        return Some(match runtime.block_on(client::serve(&url, &ledger)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the client: {error}");
                ExitCode::FAILURE
            }
        });
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(99);
    });
    let ledger = Arc::new(Ledger::create(&ledger).expect("the ledger can be written"));
    let app = App::builder("soak").tasks(tasks::all()).state(ledger).build();
    Some(celeriac::cli::main(app.expect("the tasks have different names")))
}

impl Crew {
    pub(crate) fn start(url: &str, options: &Options) -> Result<Self, Box<dyn Error>> {
        let directory = std::env::temp_dir().join(format!("celeriac-soak-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let member = |name: &str, args: &[&str]| Member::start(name, url, &directory, args);
        let coordinator = member("coordinator", &["coordinator"])?;
        let names = (1..=options.workers).map(|number| format!("worker-{number}"));
        let workers: Result<_, _> = names.map(|name| member(&name, &["worker"])).collect();
        let mut client = member("client", &[])?;
        let crew = Self {
            url: url.to_owned(),
            timeout: Duration::from_secs(options.timeout),
            answers: listen(client.child.stdout.take().expect("it was asked for")),
            client,
            coordinator,
            workers: workers?,
            read: HashMap::new(),
            directory,
        };
        match &*crew.answer()? {
            "ready" => Ok(crew),
            other => Err(format!("the client says {other:?}").into()),
        }
    }

    /// Has one part of the leaves called, some of them by a worker that is there for this part alone; returns how many
    /// calls there were.
    pub(crate) fn part(&mut self, part: usize, leaves: usize) -> Result<usize, Box<dyn Error>> {
        let (name, queues) = (format!("visitor-{part}"), mix::queues(part).join(","));
        let mut visitor = Member::start(&name, &self.url, &self.directory, &["worker", "--queues", &queues])?;
        writeln!(self.client.input, "{part} {leaves}")?;
        let called = self.answer()?.parse()?;
        visitor.stop()?;
        let mut expected = self.calls("client")?;
        let mut seen = self.calls(&name)?;
        for worker in 1..=self.workers.len() {
            seen.extend(self.calls(&format!("worker-{worker}"))?);
        }
        std::fs::remove_file(self.directory.join(&name))?;
        self.read.remove(&name);
        expected.sort_unstable();
        seen.sort_unstable();
        if seen != expected {
            let what = difference(&seen, &expected);
            return Err(format!("{} calls, not {}: {what}", seen.len(), expected.len()).into());
        }
        Ok(called)
    }

    /// Who is there all the time.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        [&self.client, &self.coordinator].into_iter().chain(&self.workers)
    }

    /// Asks coordinator and workers to stop.
    pub(crate) fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        self.workers.iter_mut().chain([&mut self.coordinator]).try_for_each(Member::stop)
    }

    fn answer(&self) -> Result<String, Box<dyn Error>> {
        let answer = self.answers.recv_timeout(self.timeout);
        answer.map_err(|_| format!("the client has no answer after {:?}", self.timeout).into())
    }

    /// What was added to a part of the ledger since it was read last.
    fn calls(&mut self, name: &str) -> Result<Vec<Call>, Box<dyn Error>> {
        let mut file = File::open(self.directory.join(name))?;
        let read = self.read.entry(name.to_owned()).or_default();
        file.seek(SeekFrom::Start(*read))?;
        let mut bytes = Vec::new();
        *read += file.read_to_end(&mut bytes)? as u64;
        let (calls, torn) = bytes.as_chunks();
        if torn.is_empty() { Ok(calls.to_vec()) } else { Err(format!("the ledger of {name} is torn").into()) }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Member {
    fn start(name: &str, url: &str, directory: &Path, args: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(args)
            .env(LEDGER, directory.join(name))
            .env("CELERIAC_URL", url)
            .env("CELERIAC_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if args.is_empty() {
            command.env(CLIENT, url);
        }
        let mut child = command.spawn()?;
        let input = child.stdin.take().expect("it was asked for");
        Ok(Self { name: name.to_owned(), child, input })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        Command::new("kill").arg(self.pid().to_string()).status()?;
        let began = Instant::now();
        while began.elapsed() < STOP_MAX {
            if let Some(status) = self.child.try_wait()? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(format!("{} ended with {status}", self.name).into()),
                };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("{} has not stopped after {STOP_MAX:?}", self.name).into())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a process says.
fn listen(output: ChildStdout) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.take_while(|line| send.send(line.clone()).is_ok()).for_each(drop);
    });
    lines
}

/// The first call that was made more often than it should be, or less.
fn difference(seen: &[Call], expected: &[Call]) -> String {
    let count = |calls: &[Call], call: &Call| calls.iter().filter(|other| *other == call).count();
    let place = seen.iter().zip(expected).position(|(seen, expected)| seen != expected);
    let first = match place {
        Some(place) => seen[place].min(expected[place]),
        None => *seen.get(expected.len()).or(expected.get(seen.len())).expect("they differ"),
    };
    let id: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{id} {} times, not {}", count(seen, &first), count(expected, &first))
}
