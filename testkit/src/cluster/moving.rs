//! A slot on its way from one node to another.
//!
//! ```text
//! begin ── IMPORTING, MIGRATING ──► key by key: MIGRATE ──► finish ── NODE ──► all
//!            the first has         what has gone: ASK        MOVED
//!            what is there         a part of several: TRYAGAIN
//! ```

use std::time::Duration;

use redis::RedisResult;

use super::{Cluster, slots};
use crate::Server;

/// For one key; on loopback it takes much less.
const MIGRATE_WITHIN: Duration = Duration::from_secs(10);

/// So many keys move at once.
const KEYS_AT_ONCE: usize = 100;

/// A slot that moves, until it is [finished](Self::finish). When this is dropped before, it stays between
/// the two.
#[derive(Debug)]
#[must_use = "a slot that is not moved to its end stays between two nodes"]
pub struct Moving<'c> {
    cluster: &'c Cluster,
    slot: u16,
    from: &'c Server,
    to: &'c Server,
}

impl<'c> Moving<'c> {
    pub(super) fn begin(cluster: &'c Cluster, slot: u16, to: &Server) -> RedisResult<Self> {
        let to = cluster.nodes.iter().find(|node| node.port() == to.port());
        let to = to.expect("the other node is of this cluster, too");
        let from = cluster.node_of_slot(slot);
        let moving = Self { cluster, slot, from, to };
        if !moving.is_there() {
            moving.set(to, "IMPORTING", &slots::id_of(from))?;
            moving.set(from, "MIGRATING", &slots::id_of(to))?;
        }
        Ok(moving)
    }

    /// The keys that have not moved.
    ///
    /// # Errors
    ///
    /// When the node does not answer.
    pub fn keys(&self) -> RedisResult<Vec<String>> {
        self.some_keys(10_000)
    }

    /// Moves these keys; those that are not there are passed over.
    ///
    /// # Errors
    ///
    /// When one of the two nodes refuses or does not answer.
    pub fn migrate(&self, keys: &[String]) -> RedisResult<()> {
        if keys.is_empty() || self.is_there() {
            return Ok(());
        }
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(self.to.port()).arg("").arg(0).arg(MIGRATE_WITHIN.as_millis() as u64);
        // What a node that died meanwhile has left at the other one is older.
        migrate.arg("REPLACE").arg("KEYS").arg(keys);
        migrate.exec(&mut self.from.try_connection()?)
    }

    /// Moves all that is left, and gives the slot to the other node.
    ///
    /// # Errors
    ///
    /// When one of the two nodes refuses or does not answer: then the slot is still between them.
    pub fn finish(self) -> RedisResult<()> {
        if self.is_there() {
            return Ok(());
        }
        loop {
            let keys = self.some_keys(KEYS_AT_ONCE)?;
            if keys.is_empty() {
                break;
            }
            self.migrate(&keys)?;
        }
        let to = slots::id_of(self.to);
        // The new owner first: with the old one first, nobody would have it for a moment.
        self.set(self.to, "NODE", &to)?;
        self.set(self.from, "NODE", &to)?;
        for node in self.cluster.masters() {
            // The others hear of it from these two anyway.
            let _ = self.set(node, "NODE", &to);
        }
        Ok(())
    }

    /// Whether there is nothing to move.
    fn is_there(&self) -> bool {
        self.from.port() == self.to.port()
    }

    fn some_keys(&self, count: usize) -> RedisResult<Vec<String>> {
        let mut keys = redis::cmd("CLUSTER");
        keys.arg("GETKEYSINSLOT").arg(self.slot).arg(count);
        keys.query(&mut self.from.try_connection()?)
    }

    fn set(&self, node: &Server, how: &str, id: &str) -> RedisResult<()> {
        let mut set = redis::cmd("CLUSTER");
        set.arg("SETSLOT").arg(self.slot).arg(how).arg(id).exec(&mut node.try_connection()?)
    }
}
