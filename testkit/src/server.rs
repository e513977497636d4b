//! One Redis server. How it is configured is in `builder`, what takes it down with the tests in `guard`.

mod builder;
mod clock;
mod guard;
pub(crate) mod port;

use std::collections::BTreeMap;
use std::fs::{DirEntry, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use self::builder::{Fsync, ServerBuilder};
use self::clock::Clock;
use self::guard::Guard;
use crate::Certificates;

/// Longer than any server takes, also one that reads a big file on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Beside the data. What is wrong with the configuration Redis says on its outputs only, hence they go
/// there.
const LOG: &str = "redis.log";

/// The directory in which Redis keeps the parts of its append-only file.
const APPENDONLY: &str = "appendonlydir";

/// What a sentinel says when it is ready.
const SENTINEL_READY: &str = "Sentinel ID is";

/// A `redis-server` on a free port of loopback, with an append-only file in a directory of its own. It
/// stops, and the directory is removed, when this is dropped or when the process ends in any way.
///
/// What the methods ask the server goes over connections of a user of their own, `kit`, who may do
/// everything whatever the passwords and rules of the others.
#[derive(Debug)]
pub struct Server {
    options: ServerBuilder,
    ports: Ports,
    certificates: Option<Certificates>,
    process: Mutex<Process>,
    directory: TempDir,
}

/// The files of a server at one time, as somebody keeps them in case a disk is lost.
#[derive(Debug, Clone)]
pub struct Backup(Vec<(PathBuf, Vec<u8>)>);

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    plain: u16,
    tls: Option<u16>,
    /// Between the nodes of a cluster.
    bus: Option<u16>,
}

/// The running server, if it runs, and its guard.
#[derive(Debug)]
struct Process {
    child: Option<Child>,
    is_paused: bool,
    guard: Guard,
}

impl Server {
    /// Starts a server as it is by default: with an append-only file that reaches the disk once a second.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server`, or when it does not start.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Options, before it starts.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// The server that the tests of one binary share, each with a prefix or keys of its own.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Server> = LazyLock::new(Server::start);
        &SHARED
    }

    fn launch(options: ServerBuilder) -> Self {
        let directory = tempfile::Builder::new().prefix("celeriac-").tempdir();
        let directory = directory.expect("the temporary directory is writable");
        let process = Process { child: None, is_paused: false, guard: Guard::start(directory.path()) };
        let certificates = options.make_certificates(directory.path());
        if options.clock {
            Clock(directory.path()).make();
        }
        let ports = options.choose_ports();
        let mut server = Self { options, ports, certificates, process: Mutex::new(process), directory };
        // Between the choice of a port and its use another process may take it.
        for _ in 0..20 {
            match server.run() {
                Ok(()) => return server,
                Err(PortTaken) => server.ports = server.options.choose_ports(),
            }
        }
        panic!("redis-server found its port taken twenty times, each time another");
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The URL of a user. Name and password stand in it as they are.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}", self.address())
    }

    /// `rediss://127.0.0.1:port`
    ///
    /// # Panics
    ///
    /// When the server was started without TLS.
    pub fn tls_url(&self) -> String {
        let port = self.ports.tls.expect("the server was built with tls()");
        format!("rediss://127.0.0.1:{port}")
    }

    /// `redis+unix:///path`
    ///
    /// # Panics
    ///
    /// When the server was started without a Unix socket.
    pub fn unix_url(&self) -> String {
        let socket = self.options.socket(self.directory());
        format!("redis+unix://{}", socket.expect("the server was built with unix_socket()").display())
    }

    /// Where it listens, without TLS.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The port without TLS.
    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// The port on which the nodes of a cluster talk to each other.
    pub(crate) fn bus_port(&self) -> Option<u16> {
        self.ports.bus
    }

    /// The certificates, when the server was started with TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Where its files are: data, configuration, log, certificates.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The id of its process; another one after each start.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process().child.as_ref().expect("the server runs").id()
    }

    /// Whether it was started and not killed since.
    pub fn runs(&self) -> bool {
        self.process().child.is_some()
    }

    /// Whether it stands still: [`pause`](Self::pause).
    pub fn is_paused(&self) -> bool {
        self.process().is_paused
    }
}

/// What can happen to it.
impl Server {
    /// Kills it with SIGKILL; what it had written stays. Does nothing when it does not run.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Starts it again, on the same port and on what it had written, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it runs, or when its port stays taken by somebody else.
    pub fn start_again(&self) {
        for _ in 0..50 {
            match self.run() {
                Ok(()) => return,
                Err(PortTaken) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
        panic!("port {} was taken while the server was down", self.port());
    }

    /// Kills it and starts it again on what it had written.
    pub fn crash_and_restart(&self) {
        self.kill();
        self.start_again();
    }

    /// What it has written so far, to go back to: [`restore`](Self::restore).
    ///
    /// # Panics
    ///
    /// When it was started without an append-only file, or just rewrites it.
    pub fn backup(&self) -> Backup {
        let parts = std::fs::read_dir(self.directory().join(APPENDONLY)).expect("it has an append-only file");
        let read = |part: std::io::Result<DirEntry>| {
            let path = part.expect("the directory can be read").path();
            let bytes = std::fs::read(&path).expect("it does not rewrite its file now");
            (path, bytes)
        };
        Backup(parts.map(read).collect())
    }

    /// Kills it and starts it again on what it had written at a time before, as somebody does who has lost
    /// a disk. As a node of a cluster it still knows the others, and who has which slots.
    pub fn restore(&self, backup: &Backup) {
        self.kill();
        let parts = self.directory().join(APPENDONLY);
        std::fs::remove_dir_all(&parts).expect("the directory is writable");
        std::fs::create_dir(&parts).expect("the directory is writable");
        for (path, bytes) in &backup.0 {
            std::fs::write(path, bytes).expect("the directory is writable");
        }
        self.start_again();
    }

    /// Stops it with SIGSTOP: connections stay, and are still made, and nobody answers.
    pub fn pause(&self) {
        self.process().signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    /// Sets its wall clock while it runs, by so many seconds ahead of the true time, behind when there are
    /// less than none.
    ///
    /// # Panics
    ///
    /// When the server was started without a clock of its own.
    pub fn set_clock(&self, seconds_ahead: i64) {
        assert!(self.options.clock, "the server was built with clock()");
        Clock(self.directory()).set(seconds_ahead);
    }

    /// Writes the configuration, starts the server, and waits until it is ready by its own log: an answer on
    /// the port might be another server's.
    fn run(&self) -> Result<(), PortTaken> {
        let mut process = self.process();
        assert!(process.child.is_none(), "the server runs already");
        let config = self.directory().join("redis.conf");
        let kit = format!("user kit on >{} ~* &* +@all\n", self.secret());
        let text = self.options.config(self.ports, self.directory(), self.certificates.as_ref()) + &kit;
        let is_sentinel = self.options.is_sentinel();
        if !is_sentinel || !config.exists() || !self.log().contains(SENTINEL_READY) {
            std::fs::write(&config, text).expect("the directory is writable");
        }
        let seen = self.log().len();
        let mut command = Command::new("redis-server");
        if self.options.clock {
            Clock(self.directory()).load(&mut command);
        }
        let command = command.arg(&config).args(is_sentinel.then_some("--sentinel"));
        process.spawn(command, &self.directory().join(LOG));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended =
                process.child.as_mut().expect("it was just spawned").try_wait().expect("it is our child");
            let log = self.log().split_off(seen);
            if let Some(status) = ended {
                process.kill();
                if log.contains("Address already in use") || log.contains("Failed listening on port") {
                    return Err(PortTaken);
                }
                panic!("redis-server ended with {status}; its log:\n{log}");
            }
            if log.contains(if is_sentinel { SENTINEL_READY } else { "Ready to accept connections" }) {
                return Ok(());
            }
            assert!(
                Instant::now() < deadline,
                "redis-server is not ready after {PATIENCE:?}; its log:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.directory().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The password of the user `kit`: nobody else has it.
    fn secret(&self) -> String {
        let name = self.directory().file_name().expect("a temporary directory has a name");
        name.to_string_lossy().into_owned()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be asked of it.
impl Server {
    /// A connection that may do everything, to look at what is stored and to break it.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub fn connection(&self) -> redis::Connection {
        self.try_connection().expect("the server answers")
    }

    /// The same, when it answers.
    pub(crate) fn try_connection(&self) -> redis::RedisResult<redis::Connection> {
        let client = redis::Client::open(self.url_as("kit", &self.secret()))?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// The keys that match a pattern, in order.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(redis::cmd("KEYS").arg(pattern));
        keys.sort();
        keys
    }

    /// How many keys there are.
    pub fn dbsize(&self) -> u64 {
        self.ask(&redis::cmd("DBSIZE"))
    }

    /// The memory it uses, in bytes.
    pub fn used_memory(&self) -> u64 {
        let info: String = self.ask(redis::cmd("INFO").arg("memory"));
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.and_then(|bytes| bytes.parse().ok()).expect("INFO memory has used_memory")
    }

    /// How often each command was called since the start or [`reset_counts`](Self::reset_counts), from
    /// scripts too. Names are in lower case, those of subcommands as in `config|set`. What this kit asks is
    /// among them.
    pub fn command_counts(&self) -> BTreeMap<String, u64> {
        let info: String = self.ask(redis::cmd("INFO").arg("commandstats"));
        let count = |line: &str| {
            let (name, values) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), values.split(',').next()?.parse().ok()?))
        };
        info.lines().filter_map(count).collect()
    }

    /// Begins to count anew: commands, and the slow ones.
    pub fn reset_counts(&self) {
        self.ask::<()>(redis::cmd("CONFIG").arg("RESETSTAT"));
        self.ask::<()>(redis::cmd("SLOWLOG").arg("RESET"));
    }

    /// How long the slowest commands took that took more than 10 ms, and what they were.
    pub fn slowest(&self) -> Vec<(Duration, String)> {
        type Slow = (u64, u64, u64, Vec<Vec<u8>>, String, String);
        let slow: Vec<Slow> = self.ask(redis::cmd("SLOWLOG").arg("GET").arg(20));
        let mut slow: Vec<(Duration, String)> = slow
            .into_iter()
            .map(|(_, _, took, args, _, _)| {
                let short: Vec<_> = args
                    .iter()
                    .take(4)
                    .map(|arg| String::from_utf8_lossy(&arg[..arg.len().min(60)]))
                    .collect();
                (Duration::from_micros(took), short.join(" "))
            })
            .collect();
        slow.sort();
        slow.reverse();
        slow
    }

    /// Changes an option while it runs; a start resets it.
    pub fn config_set(&self, name: &str, value: impl std::fmt::Display) {
        self.ask::<()>(redis::cmd("CONFIG").arg("SET").arg(name).arg(value.to_string()));
    }

    /// Has it do a command, one word after the other; returns the reply, as the client library shows it.
    ///
    /// # Panics
    ///
    /// When it does not do so.
    pub fn tell(&self, words: &[impl AsRef<str>]) -> String {
        let mut words = words.iter().map(AsRef::as_ref);
        let mut command = redis::cmd(words.next().expect("a command has a name"));
        for word in words {
            command.arg(word);
        }
        format!("{:?}", self.ask::<redis::Value>(&command))
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query(&mut self.connection()).expect("the server answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody else listens on the port.
#[derive(Debug)]
struct PortTaken;

impl Process {
    fn spawn(&mut self, command: &mut Command, log: &Path) {
        let log = File::options().create(true).append(true).open(log).expect("the directory is writable");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("there are free file descriptors"))
            .stderr(log)
            // Ctrl-C is for the tests; the server goes down with them.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need redis-server, and it does not start: {error}"));
        self.guard.watch(child.id());
        self.child = Some(child);
        self.is_paused = false;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is a child of this process");
            self.guard.forget();
            child.wait().expect("what was killed ends");
        }
    }

    fn signal(&mut self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), signal).expect("the server is a child of this process");
        self.is_paused = signal == Signal::STOP;
    }
}
