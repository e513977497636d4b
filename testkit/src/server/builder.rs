//! What a server is started with.

use std::fmt::Write;
use std::path::Path;

use super::{Ports, Server};
use crate::Certificates;

/// When Redis asks the system to bring the append-only file to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it replies.
    Always,
    /// Once a second, in the background.
    EverySecond,
    /// When the system wants to.
    No,
}

impl Fsync {
    fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }
}

/// Whether somebody who comes over TLS has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    MayShow,
    MustShow,
}

/// Options of a [`Server`]; see [`Server::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct ServerBuilder {
    fsync: Option<Fsync>,
    unix_socket: bool,
    tls: Option<Clients>,
    cluster: bool,
    sentinel: bool,
    pub(super) clock: bool,
    lines: Vec<String>,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            fsync: Some(Fsync::EverySecond),
            unix_socket: false,
            tls: None,
            cluster: false,
            sentinel: false,
            clock: false,
            lines: Vec::new(),
        }
    }

    /// Keeps an append-only file with this `appendfsync`; once a second unless told otherwise.
    pub fn appendfsync(mut self, fsync: Fsync) -> Self {
        self.fsync = Some(fsync);
        self
    }

    /// Keeps no append-only file: what was stored is gone when the server ends.
    pub fn without_aof(mut self) -> Self {
        self.fsync = None;
        self
    }

    /// Has a wall clock of its own; see [`Server::set_clock`].
    pub fn clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// Listens on a Unix socket as well; see [`Server::unix_url`].
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Asks everybody for this password, one word.
    pub fn requirepass(self, password: &str) -> Self {
        self.option("requirepass", password)
    }

    /// A user, as in `acl("worker on >secret ~* +@read")`; see [`Server::url_as`].
    pub fn acl(self, user: &str) -> Self {
        self.option("user", user)
    }

    /// Listens for TLS as well, with certificates made for this server; see [`Server::tls_url`] and
    /// [`Server::certificates`]. A client need not show one, and if it does, it must be signed by
    /// the same authority.
    pub fn tls(mut self) -> Self {
        self.tls = Some(Clients::MayShow);
        self
    }

    /// Like [`tls`](Self::tls), and a client must show a certificate.
    pub fn tls_mutual(mut self) -> Self {
        self.tls = Some(Clients::MustShow);
        self
    }

    /// What to do when the memory is full, as in `maxmemory_policy("allkeys-lru")`.
    pub fn maxmemory_policy(self, policy: &str) -> Self {
        self.option("maxmemory-policy", policy)
    }

    /// Any other line of `redis.conf`. The log has to stay where it is, its level `notice` or lower:
    /// it tells when the server is ready.
    pub fn option(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.lines.push(format!("{name} {value}"));
        self
    }

    /// Nodes of a cluster that tell clients the ports of the others, and no addresses: who comes by
    /// a way of its own, as by a [`Proxy`](crate::Proxy), finds all of them on it.
    pub fn without_addresses(self) -> Self {
        self.option("cluster-preferred-endpoint-type", "unknown-endpoint")
    }

    /// A node of a cluster.
    pub(crate) fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// A sentinel, which keeps what it learns in its configuration. It watches over the primary of
    /// this name, at a port of loopback, and so many sentinels have to agree that it is down.
    pub fn sentinel_of(mut self, name: &str, port: u16, quorum: usize) -> Self {
        self.sentinel = true;
        self.option("sentinel", format!("monitor {name} 127.0.0.1 {port} {quorum}"))
    }

    pub(super) fn is_sentinel(&self) -> bool {
        self.sentinel
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server`, or when it does not start; its log is then part of the
    /// message.
    pub fn start(self) -> Server {
        Server::launch(self)
    }

    /// Free ports for a server like this.
    pub(super) fn choose_ports(&self) -> Ports {
        use super::port::free;
        Ports { plain: free(), tls: self.tls.map(|_| free()), bus: self.cluster.then(free) }
    }

    /// Certificates, when a server like this needs them.
    pub(super) fn make_certificates(&self, directory: &Path) -> Option<Certificates> {
        self.tls.map(|_| Certificates::make(directory))
    }

    /// Where the Unix socket is, when a server like this has one.
    pub(super) fn socket(&self, directory: &Path) -> Option<std::path::PathBuf> {
        self.unix_socket.then(|| directory.join("socket"))
    }

    /// The text of `redis.conf`.
    pub(super) fn config(
        &self,
        ports: Ports,
        directory: &Path,
        certificates: Option<&Certificates>,
    ) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{name} {value}").expect("a string takes everything");
        };
        line("bind", &"127.0.0.1");
        line("port", &ports.plain);
        line("dir", &directory.display());
        if !self.sentinel {
            line("save", &"\"\"");
            line("appendonly", &if self.fsync.is_some() { "yes" } else { "no" });
            line("appendfsync", &self.fsync.unwrap_or(Fsync::No).word());
        }
        if let Some(socket) = self.socket(directory) {
            line("unixsocket", &socket.display());
        }
        if let (Some(port), Some(files), Some(clients)) = (ports.tls, certificates, self.tls) {
            line("tls-port", &port);
            line("tls-ca-cert-file", &files.ca().display());
            line("tls-cert-file", &files.server_certificate().display());
            line("tls-key-file", &files.server_key().display());
            line("tls-auth-clients", &if clients == Clients::MustShow { "yes" } else { "optional" });
        }
        if let Some(port) = ports.bus {
            line("cluster-enabled", &"yes");
            line("cluster-port", &port);
            line("cluster-announce-ip", &"127.0.0.1");
        }
        for own in &self.lines {
            text.push_str(own);
            text.push('\n');
        }
        text
    }
}
