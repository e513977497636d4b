//! A primary that another server takes over from, and the sentinels that see to it.

use std::time::{Duration, Instant};

use crate::{Server, ServerBuilder};

const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the primary in the configuration of the sentinels.
const NAME: &str = "celeriac";

/// Sentinels call a server down when it was silent for so long.
const DOWN_AFTER_MS: u64 = 1000;

/// A primary with two replicas, and three sentinels, two of which have to agree.
///
/// A server that was the primary and is started again begins as a primary, until the sentinels tell it
/// that there is another.
#[derive(Debug)]
pub struct Failover {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Failover {
    /// Starts all, and waits until the sentinels know each other and the replicas.
    ///
    /// # Panics
    ///
    /// When there is no `redis-server`, or when they do not find each other.
    pub fn start() -> Self {
        Self::start_with(Server::builder(), Server::builder(), &[])
    }

    /// Starts servers and sentinels with these options; `monitor` are lines of the sentinels about the
    /// primary, as in `("auth-pass", "secret")`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(servers: ServerBuilder, sentinels: ServerBuilder, monitor: &[(&str, &str)]) -> Self {
        let servers = servers.option("repl-diskless-sync-delay", 0).option("repl-ping-replica-period", 1);
        let primary = servers.clone().start();
        let port = primary.port();
        let replica = || servers.clone().option("replicaof", format!("127.0.0.1 {port}")).start();
        let servers = vec![primary, replica(), replica()];
        let mut sentinel = sentinels
            .sentinel_of(NAME, port, 2)
            .option("sentinel", format!("down-after-milliseconds {NAME} {DOWN_AFTER_MS}"))
            .option("sentinel", format!("failover-timeout {NAME} 4000"));
        for (name, value) in monitor {
            sentinel = sentinel.option("sentinel", format!("{name} {NAME} {value}"));
        }
        let sentinels = (0..3).map(|_| sentinel.clone().start()).collect();
        let failover = Self { servers, sentinels };
        failover.until("all know all", || failover.is_complete());
        failover
    }

    /// `redis-sentinel://127.0.0.1:port,127.0.0.1:port,127.0.0.1:port/celeriac`
    pub fn url(&self) -> String {
        self.url_as("")
    }

    /// The same with a user of the servers, as in `me:secret@`.
    pub fn url_as(&self, user: &str) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|it| it.address().to_string()).collect();
        format!("redis-sentinel://{user}{}/{NAME}", addresses.join(","))
    }

    /// The servers, the first primary first: to kill one, start it again, pause it, look into it.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The server that most of the sentinels that run call the primary.
    ///
    /// # Panics
    ///
    /// When they do not agree for a minute.
    pub fn primary(&self) -> &Server {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let named: Vec<u16> = self.running().map(named).collect();
            let agreed = self.servers.iter().find(|server| {
                named.iter().filter(|port| **port == server.port()).count() * 2 > self.sentinels.len()
            });
            if let Some(server) = agreed {
                return server;
            }
            assert!(Instant::now() < deadline, "the sentinels do not agree: {named:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has the sentinels make another server the primary while this one runs, and returns when they say
    /// so.
    ///
    /// # Panics
    ///
    /// When they do not within a minute.
    pub fn promote(&self) -> &Server {
        let before = self.primary();
        let sentinel = self.running().next().expect("a sentinel runs");
        self.until("a sentinel begins", || {
            redis::cmd("SENTINEL").arg("FAILOVER").arg(NAME).exec(&mut sentinel.connection()).is_ok()
        });
        self.until_promoted(before)
    }

    /// Returns when the sentinels call another server the primary, and it says so itself.
    ///
    /// # Panics
    ///
    /// When they do not within a minute.
    pub fn until_promoted(&self, before: &Server) -> &Server {
        self.until("another server is the primary", || {
            let now = self.primary();
            now.port() != before.port() && role(now).as_deref() == Some("master")
        });
        self.primary()
    }

    /// Returns when a server that was the primary has heard that it is a replica.
    ///
    /// # Panics
    ///
    /// When it has not within a minute.
    pub fn until_demoted(&self, before: &Server) {
        self.until("the primary before is a replica", || role(before).as_deref() == Some("slave"));
    }

    /// Returns when all that the primary has done so far has reached its replicas that run.
    ///
    /// # Panics
    ///
    /// When it has not within a minute.
    pub fn until_replicated(&self) {
        let primary = self.primary();
        let replicas = self.servers.iter().filter(|server| server.runs()).count() - 1;
        let mut connection = primary.connection();
        redis::cmd("PING").exec(&mut connection).expect("the primary answers");
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(PATIENCE.as_millis() as u64);
        let reached: usize = wait.query(&mut connection).expect("the primary answers");
        assert!(reached >= replicas, "{reached} of {replicas} replicas have heard of all");
    }

    fn is_complete(&self) -> bool {
        let follow = self.servers[1..].iter().all(|server| {
            let info: String =
                redis::cmd("INFO").arg("replication").query(&mut server.connection()).expect("it answers");
            info.contains("master_link_status:up")
        });
        let count = |sentinel: &Server, what: &str| {
            let mut known = redis::cmd("SENTINEL");
            let known: Vec<redis::Value> =
                known.arg(what).arg(NAME).query(&mut sentinel.connection()).expect("it answers");
            known.len()
        };
        let know = |sentinel| count(sentinel, "replicas") == 2 && count(sentinel, "sentinels") == 2;
        follow && self.sentinels.iter().all(know)
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.sentinels.iter().filter(|sentinel| sentinel.runs())
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The port of the primary that a sentinel names.
fn named(sentinel: &Server) -> u16 {
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(NAME);
    let (_, port): (String, u16) = question.query(&mut sentinel.connection()).expect("a sentinel answers");
    port
}

/// What a server calls itself; `None` when it does not say, as when a sentinel has just cut all its
/// connections.
fn role(server: &Server) -> Option<String> {
    let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut server.connection()).ok()?;
    match role.into_iter().next()? {
        redis::Value::BulkString(name) => String::from_utf8(name).ok(),
        _ => None,
    }
}
