//! A Redis server of the tests' own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use celeriac_redis::RedisBackend;

/// A `redis-server` on a free loopback port, with an append-only file in a temporary directory; it stops, and the
/// directory is removed, when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    directory: PathBuf,
    fsync: &'static str,
    child: Child,
}

impl Server {
    /// Starts a server with this `appendfsync` and waits until it answers.
    pub(crate) fn start(fsync: &'static str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("celeriac-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("there is a free port").port();
        let child = spawn(port, &directory, fsync);
        let server = Self { port, directory, fsync, child };
        server.wait();
        server
    }

    /// The server that the tests of this binary share; each uses a prefix of its own. A guard process takes it down
    /// with the binary, since nothing is dropped then.
    pub(crate) fn shared() -> &'static Server {
        static SHARED: LazyLock<(Server, Child)> = LazyLock::new(|| {
            let server = Server::start("everysec");
            let (test, redis) = (std::process::id(), server.child.id());
            let script = format!(
                "while kill -0 {test} 2>/dev/null; do sleep 0.2; done; kill {redis}; rm -rf '{}'",
                server.directory.display()
            );
            let guard = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn();
            (server, guard.expect("sh starts"))
        });
        &SHARED.0
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A backend that sees nothing of the others.
    pub(crate) async fn backend(&self) -> RedisBackend {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        RedisBackend::builder(self.url()).prefix(prefix).connect().await.expect("the server answers")
    }

    /// A plain connection, to look at what is stored and to break it.
    pub(crate) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("the URL is good");
        client.get_connection().expect("the server answers")
    }

    /// The keys that match a pattern, in order.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            redis::cmd("KEYS").arg(pattern).query(&mut self.connection()).expect("the server answers");
        keys.sort();
        keys
    }

    /// How long the slowest commands took that took more than 10 ms, and what they were.
    pub(crate) fn slowest(&self) -> Vec<(Duration, String)> {
        type Slow = (u64, u64, u64, Vec<Vec<u8>>, String, String);
        let slow: Vec<Slow> = redis::cmd("SLOWLOG")
            .arg("GET")
            .arg(20)
            .query(&mut self.connection())
            .expect("the server answers");
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

    /// Kills the server and starts it again on what it had written.
    pub(crate) fn crash_and_restart(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server ends");
        self.child = spawn(self.port, &self.directory, self.fsync);
        self.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let client = redis::Client::open(self.url()).expect("the URL is good");
        let ping = || client.get_connection().and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
        while let Err(error) = ping() {
            assert!(Instant::now() < deadline, "redis-server does not answer: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(port: u16, directory: &Path, fsync: &str) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", fsync, "--dir"])
        .arg(directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed: the tests of this crate need it")
}
