//! Who has which slot.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redis::RedisResult;

use crate::Server;

/// The slots that the keys of a cluster are spread over.
pub(super) const SLOTS: usize = 16_384;

/// The slots of each node, by its port, and how new its claim is.
#[derive(Debug, Default)]
pub(super) struct Shards(BTreeMap<u16, Claim>);

#[derive(Debug, Default)]
struct Claim {
    epoch: u64,
    slots: Vec<RangeInclusive<u16>>,
}

impl Shards {
    /// As one node knows it.
    pub(super) fn known_to(node: &Server) -> RedisResult<Self> {
        let mut nodes = redis::cmd("CLUSTER");
        let nodes: String = nodes.arg("NODES").query(&mut node.try_connection()?)?;
        Ok(Self(nodes.lines().filter_map(claim).collect()))
    }

    /// Of two views, the newer one of each node.
    pub(super) fn and(mut self, other: Self) -> Self {
        for (port, claim) in other.0 {
            let known = self.0.entry(port).or_default();
            if known.slots.is_empty() || claim.epoch > known.epoch {
                *known = claim;
            }
        }
        self
    }

    /// The port of the node that has a slot: the newest claim counts.
    pub(super) fn owner(&self, slot: u16) -> Option<u16> {
        let has = |claim: &Claim| claim.slots.iter().any(|slots| slots.contains(&slot));
        let claims = self.0.iter().filter(|(_, claim)| has(claim));
        claims.max_by_key(|(_, claim)| claim.epoch).map(|(port, _)| *port)
    }

    /// Whether a node has slots that no newer claim takes from it.
    pub(super) fn has_slots(&self, node: &Server) -> bool {
        let claim = self.0.get(&node.port());
        claim.is_some_and(|claim| {
            claim.slots.iter().any(|slots| self.owner(*slots.start()) == Some(node.port()))
        })
    }
}

/// Reads `id ip:port@bus,host flags master ping pong epoch link slot slot-slot [slot->-id] …`.
fn claim(line: &str) -> Option<(u16, Claim)> {
    let words: Vec<&str> = line.split(' ').collect();
    let port = words.get(1)?.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let range = |word: &&str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let slots = words.get(8..)?.iter().filter_map(range).collect();
    Some((port, Claim { epoch: words.get(6)?.parse().ok()?, slots }))
}

/// What the others call a node.
pub(super) fn id_of(node: &Server) -> String {
    let mut id = redis::cmd("CLUSTER");
    id.arg("MYID").query(&mut node.connection()).expect("the node answers")
}

/// Whether a replica has what its master has, or a master is followed by so many.
pub(super) fn is_in_step(node: &Server, replicas: usize) -> Result<(), String> {
    let mut info = redis::cmd("INFO");
    let info: String =
        info.arg("replication").query(&mut node.connection()).map_err(|error| error.to_string())?;
    let is_up = info.lines().any(|line| line == "master_link_status:up");
    let online = info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online"));
    match is_up || info.lines().any(|line| line == "role:master") && online.count() >= replicas {
        true => Ok(()),
        false => Err(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_claim_to_a_slot_counts() {
        let view = "a 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-9 12 [13->-b]\n\
                    b 127.0.0.1:7002@17002,host slave,fail - 0 0 7 connected 8-9";
        let shards = Shards(view.lines().filter_map(claim).collect());
        assert_eq!([0, 8, 12, 13].map(|slot| shards.owner(slot)), [Some(7001), Some(7002), Some(7001), None]);
    }
}
