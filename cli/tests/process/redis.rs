//! A Redis server with a password.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::workers::until;

pub(crate) const PASSWORD: &str = "s3cret";

/// A `redis-server` on a free loopback port, which keeps nothing on disk. It goes when this is dropped.
pub(crate) struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("there is a free port").port();
        Self { port, child: spawn(port) }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Kills the server and all it knew.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts an empty server at the same place.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port);
    }
}

fn spawn(port: u16) -> Child {
    let port_text = port.to_string();
    let options = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD];
    let mut command = Command::new("redis-server");
    command.args(options).current_dir(std::env::temp_dir()).stdout(Stdio::null());
    let child = command.spawn().expect("redis-server is installed: the tests need one");
    until("Redis answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    // It listens a little before it is ready.
    std::thread::sleep(Duration::from_millis(50));
    child
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
