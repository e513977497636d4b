//! A Redis server of the bench's own, or one that runs already.

use std::error::Error;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How much of what Redis has acknowledged is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Durability {
    /// Nothing: no append-only file.
    None,
    /// All but the last second or two.
    Everysec,
    /// Everything.
    Always,
}

/// Where Redis is. One that was started here stops, and its files are removed, when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    own: Option<(Child, PathBuf)>,
}

impl Server {
    /// One that runs already.
    pub(crate) fn running(url: String) -> Self {
        Self { url, own: None }
    }

    /// Starts one on a free loopback port, and waits until it answers.
    pub(crate) fn start(durability: Durability) -> Result<Self, Box<dyn Error>> {
        let directory = std::env::temp_dir().join(format!("celeriac-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (append, fsync) = match durability {
            Durability::None => ("no", "no"),
            Durability::Everysec => ("yes", "everysec"),
            Durability::Always => ("yes", "always"),
        };
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", append, "--appendfsync", fsync, "--dir"])
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server does not start: {error}; is it installed?"))?;
        let server = Self { url: format!("redis://127.0.0.1:{port}"), own: Some((child, directory)) };
        let client = redis::Client::open(&*server.url)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = client.get_connection() {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, directory)) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
