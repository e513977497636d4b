//! Where everything is kept.
//!
//! ```text
//! celeriac:{<run>}:meta      hash    format, id, nodes, parts, open, owed, left, version, failed
//! celeriac:{<run>}:plan      string  the plan as bytes
//! celeriac:{<run>}:st        string  one byte per node: W R D S F; what is R is the outbox
//! celeriac:{<run>}:graph     hash    j<node>, s<scope> → whom a join and a closed scope count down
//! celeriac:{<run>}:counts    hash    node → predecessors that have succeeded, while some have and some have not
//! celeriac:{<run>}:attempts  hash    node → current attempt, where it is not the first
//! celeriac:{<run>}:out       hash    node → outcome
//! celeriac:{<run>}:closed    hash    scope → the node whose failure closed it
//! celeriac:{<run>}:stage:…           parts of a large run before it is visible; they expire
//! celeriac:{q:<name>}:stream stream  leaves: t task id, a attempt, m message
//! celeriac:{q:<name>}:leases zset    entry → when its lease passes, by the clock of Redis, in ms
//! celeriac:{q:<name>}:again  list    entries that were given out before and are to be taken first
//! celeriac:{events}:…                stream, leases and again of the events (t, a, o: a completion; s: a submitted run)
//! celeriac:{events}:owing    zset    runs whose outbox is not empty → since when, in s
//! celeriac:{events}:queues   set     the names of the queues
//! ```
//!
//! What stands in braces decides the slot in a Redis Cluster. Nothing of a live run expires.

use std::sync::Arc;

use celeriac_primitives::RunId;

/// Makes keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<str>);

/// The keys of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunKeys(String);

/// The keys of one line: a stream with its leases. The stream's key is also the channel of its hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stream: String,
    pub(crate) leases: String,
    pub(crate) again: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self(prefix.into())
    }

    pub(crate) fn run(&self, run: RunId) -> RunKeys {
        RunKeys(format!("{}:{{{run}}}:", self.0))
    }

    pub(crate) fn queue(&self, name: &str) -> Line {
        self.line(&format!("q:{name}"))
    }

    pub(crate) fn events(&self) -> Line {
        self.line("events")
    }

    /// Runs that owe a dispatch. One place for all runs: with a Cluster it becomes one per slot.
    pub(crate) fn owing(&self) -> String {
        format!("{}:{{events}}:owing", self.0)
    }

    /// All runs there are, in the order of their ids.
    pub(crate) fn runs(&self) -> String {
        format!("{}:{{events}}:runs", self.0)
    }

    pub(crate) fn queues(&self) -> String {
        format!("{}:{{events}}:queues", self.0)
    }

    fn line(&self, tag: &str) -> Line {
        let key = |what: &str| format!("{}:{{{tag}}}:{what}", self.0);
        Line { stream: key("stream"), leases: key("leases"), again: key("again") }
    }
}

impl RunKeys {
    pub(crate) fn key(&self, what: &str) -> String {
        format!("{}{what}", self.0)
    }

    /// The channel on which changes of the run are hinted at.
    pub(crate) fn channel(&self) -> String {
        self.key("changed")
    }
}

impl Line {
    pub(crate) fn keys(&self) -> [&str; 3] {
        [&self.stream, &self.leases, &self.again]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_run_and_of_a_queue_share_a_slot_each() {
        let keys = Keys::new("app");
        let run = RunId::from_parts(1, 2);
        assert_eq!(keys.run(run).key("meta"), format!("app:{{{run}}}:meta"));
        assert_eq!(
            keys.queue("mail").keys(),
            ["app:{q:mail}:stream", "app:{q:mail}:leases", "app:{q:mail}:again"]
        );
        assert_eq!(
            (keys.events().stream.as_str(), keys.owing().as_str()),
            ("app:{events}:stream", "app:{events}:owing")
        );
    }
}
