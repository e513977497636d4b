//! One process of the live system.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::app::PLAYS;
use super::options::{DELIVERIES_MAX, LEASE, SWEEP};
use super::site::queue;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Coordinator,
    Worker,
}

/// One that runs, or has run.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
    /// Where it says how it is.
    health: String,
    is_told: bool,
}

/// How long a process may take to begin.
const BEGIN: Duration = Duration::from_secs(30);

impl Process {
    pub(crate) fn start(role: Role, place: usize, url: &str, directory: &Path, queues: usize) -> Self {
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = Command::new(std::env::current_exe().expect("this program has a place"));
        match role {
            Role::Coordinator => {
                let deliveries = DELIVERIES_MAX.to_string();
                command.args(["coordinator", "--sweep", &time(SWEEP), "--deliveries-max", &deliveries]);
            }
            Role::Worker => {
                let queues = std::iter::once("celery".to_owned()).chain((0..queues).map(queue));
                let queues = queues.collect::<Vec<_>>().join(",");
                command.args(["worker", "--concurrency", "64", "-Q", &queues]);
            }
        }
        let name = format!("{role:?}-{place}").to_lowercase();
        let log = directory.join(format!("{name}.log"));
        let child = command
            .args(["--lease", &time(LEASE), "--grace", "2s", "--name", &name, "--health", "127.0.0.1:0"])
            .env(PLAYS, "1")
            .env("CELERIAC_URL", url)
            .env("CELERIAC_LOG", "info")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the directory is writable"))
            .process_group(0)
            .spawn()
            .expect("this program can be started");
        let mut process = Self { name, child, log, health: String::new(), is_told: false };
        let start = Instant::now();
        while process.health.is_empty() {
            assert!(start.elapsed() < BEGIN, "{} does not begin:\n{}", process.name, process.log());
            std::thread::sleep(Duration::from_millis(20));
            process.health = process.address().unwrap_or_default();
        }
        process
    }

    /// Where it says that it answers.
    fn address(&self) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("health is answered"))?;
        let port = line.rsplit("127.0.0.1:").next()?;
        Some(format!("127.0.0.1:{}", port.chars().take_while(char::is_ascii_digit).collect::<String>()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, told once.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("it is a child of this process")?;
        let last: Vec<String> = self.log().lines().rev().take(5).map(str::to_owned).collect();
        let is_new = !std::mem::replace(&mut self.is_told, true);
        is_new.then(|| format!("{} ended with {status}: {last:?}", self.name))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub(crate) fn health(&self) -> std::io::Result<String> {
        let wait = Duration::from_secs(5);
        let address = self.health.parse().map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, wait)?;
        stream.set_read_timeout(Some(wait))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a process has computed so far.
pub(crate) fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may have blanks, and is in brackets. The numbers are hundredths of a second.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let numbers = after.split(' ').skip(11).take(2);
    numbers.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>() * 10
}
