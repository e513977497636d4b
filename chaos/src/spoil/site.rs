//! The live system: a Redis or a Cluster, and the processes on it.

use std::collections::BTreeMap;
use std::path::Path;

use celeriac_testkit::{Cluster, Server};
use redis::{Connection, RedisResult, cmd};

use super::kind::PREFIX;
use super::process::{Process, Role, cpu_ms};

/// The queues that faults are written into, besides the default one of the canaries.
pub(crate) fn queue(number: usize) -> String {
    format!("v{number}")
}

/// Where it is all stored.
#[derive(Debug)]
pub(crate) enum Store {
    One(Box<Server>),
    Cluster(Cluster),
}

/// The store and who works on it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) processes: Vec<Process>,
}

/// What was used so far.
#[derive(Debug)]
pub(crate) struct Used {
    /// By each process, in ms of a processor.
    cpu_ms: BTreeMap<String, u64>,
    commands: u64,
}

impl Store {
    pub(crate) fn start(cluster: bool) -> Self {
        if cluster { Self::Cluster(Cluster::start()) } else { Self::One(Box::new(Server::start())) }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// A connection to where this key is.
    pub(crate) fn connection(&self, key: &str) -> Connection {
        match self {
            Self::One(server) => server.connection(),
            Self::Cluster(cluster) => cluster.node_of(key).connection(),
        }
    }

    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        match self {
            Self::One(server) => server.keys(pattern),
            Self::Cluster(cluster) => cluster.keys(pattern),
        }
    }

    fn servers(&self) -> &[Server] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// Takes a key away.
    pub(crate) fn delete(&self, key: &str) {
        cmd("DEL").arg(key).exec(&mut self.connection(key)).expect("the server answers");
    }

    /// What a key holds, in Redis' words.
    pub(crate) fn type_of(&self, key: &str) -> String {
        cmd("TYPE").arg(key).query(&mut self.connection(key)).expect("the server answers")
    }

    /// Streams and lists of queues and events that are not empty: key and how many entries.
    ///
    /// # Errors
    /// When a key does not hold what it should.
    pub(crate) fn entries(&self, key: &str) -> RedisResult<u64> {
        let length = match key.rsplit(':').next() {
            Some("stream") => "XLEN",
            Some("again" | "apart") => "LLEN",
            _ => return Ok(0),
        };
        cmd(length).arg(key).query(&mut self.connection(key))
    }

    /// How many commands clients have sent; those in scripts are not counted.
    fn commands(&self) -> u64 {
        let count = |server: &Server| {
            let info: String =
                cmd("INFO").arg("stats").query(&mut server.connection()).expect("the server answers");
            let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
            line.and_then(|count| count.parse::<u64>().ok()).expect("INFO stats has it")
        };
        self.servers().iter().map(count).sum()
    }
}

impl Site {
    /// Two coordinators and two workers that serve so many queues.
    pub(crate) fn start(store: Store, directory: &Path, queues: usize) -> Self {
        let roles = [Role::Coordinator, Role::Coordinator, Role::Worker, Role::Worker];
        let url = store.url();
        let processes = roles.into_iter().enumerate();
        let processes =
            processes.map(|(place, role)| Process::start(role, place, &url, directory, queues)).collect();
        Self { store, processes }
    }

    /// What is wrong with the processes themselves.
    pub(crate) fn dead(&mut self) -> Vec<String> {
        self.processes.iter_mut().filter_map(Process::ended).collect()
    }

    /// Who is not green, and what he says.
    pub(crate) fn red(&self) -> Vec<String> {
        self.processes
            .iter()
            .filter_map(|process| match process.health() {
                Ok(text) if text.starts_with("green") => None,
                Ok(text) => Some(format!("{} is {}", process.name, text.trim())),
                Err(error) => Some(format!("{} does not say how it is: {error}", process.name)),
            })
            .collect()
    }

    pub(crate) fn used(&self) -> Used {
        let mut cpu: BTreeMap<String, u64> =
            self.processes.iter().map(|process| (process.name.clone(), cpu_ms(process.pid()))).collect();
        for (place, server) in self.store.servers().iter().enumerate() {
            cpu.insert(format!("redis-{place}"), cpu_ms(server.pid()));
        }
        Used { cpu_ms: cpu, commands: self.store.commands() }
    }

    /// Whether somebody has written of this in his log.
    pub(crate) fn is_logged(&self, what: &str) -> bool {
        self.processes.iter().any(|process| process.log().contains(what))
    }

    /// Whether a coordinator or a worker has left an entry of this line to a later version.
    pub(crate) fn is_left_to_later(&self, line: &str) -> bool {
        let names = format!("line=\"{line}\"");
        let says = |text: &str| text.contains("later version") && text.contains(&names);
        self.processes.iter().any(|process| process.log().lines().any(says))
    }

    /// All keys of ours.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.store.keys(&format!("{PREFIX}:*"))
    }
}

impl Used {
    /// Who has used how much since, in ms of a processor, and how many commands there were.
    pub(crate) fn since(&self, before: &Self) -> (Vec<(String, u64)>, u64) {
        let used = |(name, ms): (&String, &u64)| {
            (name.clone(), ms.saturating_sub(before.cpu_ms.get(name).copied().unwrap_or(0)))
        };
        (self.cpu_ms.iter().map(used).collect(), self.commands - before.commands)
    }
}
