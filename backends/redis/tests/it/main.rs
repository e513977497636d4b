//! The Redis backend, on a server that the tests start themselves.

mod acl;
mod away;

mod backend;
mod behind;
mod clients;
mod clocks;
mod connect;
mod crash_points;
mod differential;
mod duplicates;
mod early;
mod failover;
mod faults;
mod full;
mod gone;
mod huge;
mod large;
mod later;
mod leases;
mod look;
mod matrix;
mod outages;
mod plans;
mod prefixes;
mod queues;
mod replies;
mod retention;
mod shards;
mod silence;
mod slots;
mod strange;
mod suite;
mod suspects;
mod sweeps;
mod time;
mod twice;
mod waking;
mod whole;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
