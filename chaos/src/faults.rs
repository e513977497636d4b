//! What was done to whom, and when.

use std::collections::HashMap;
use std::fmt;

use crate::ledger::Call;
use crate::options::{LEASE, Victim};

/// Who takes its own process down says so before; another thread may begin something until it is gone.
const LAST_MOMENT_US: u64 = 50_000;

/// A process, or Redis, from the moment it could not go on until it could again, in µs.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) victim: Victim,
    /// As the ledger calls the process.
    pub(crate) process: String,
    pub(crate) from_us: u64,
    pub(crate) until_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// SIGTERM.
    Stop,
    /// Another one.
    Cut,
    /// By one of its tasks.
    Abort,
    /// No room.
    Full,
    /// A replica is the master now: what the one before has said last may be lost. On a busy machine it may
    /// have been only slow.
    Takeover,
    /// Nobody did anything to it, and it stood still.
    Stall,
}

/// Why a leaf may run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    WorkerKilled,
    WorkerStoodStill,
    Redis,
}

/// All that was done.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

/// The faults, by whom they can excuse.
#[derive(Debug)]
pub(crate) struct Excuses {
    /// From when on a process was about to go away, and when it had.
    kills: HashMap<String, (u64, u64)>,
    pauses: HashMap<String, Vec<(u64, u64)>>,
    redis: Vec<(u64, u64)>,
    /// Those of them in which Redis was killed.
    redis_kills: Vec<(u64, u64)>,
}

impl Faults {
    pub(crate) fn count(&self, kind: Kind, victim: Option<Victim>) -> usize {
        let counts =
            |fault: &&Fault| fault.kind == kind && victim.is_none_or(|victim| fault.victim == victim);
        self.0.iter().filter(counts).count()
    }

    /// Whether Redis could not answer at some time after this.
    pub(crate) fn redis_failed_since(&self, us: u64) -> bool {
        let redis = |fault: &&Fault| fault.victim == Victim::Redis && fault.kind != Kind::Full;
        self.0.iter().filter(redis).any(|fault| fault.until_us >= us)
    }

    /// Whether one of its tasks has aborted a process.
    pub(crate) fn aborted(&self, process: &str) -> bool {
        self.0.iter().any(|fault| fault.kind == Kind::Abort && fault.process == process)
    }

    /// Whether Redis was full then, or may have seemed so to whoever had asked a moment before.
    pub(crate) fn was_full(&self, us: u64) -> bool {
        let full = self.0.iter().filter(|fault| fault.kind == Kind::Full);
        full.into_iter().any(|fault| (fault.from_us..=fault.until_us.saturating_add(2_000_000)).contains(&us))
    }

    pub(crate) fn excuses(&self) -> Excuses {
        let loses = |fault: &&Fault| matches!(fault.kind, Kind::Kill | Kind::Takeover);
        let redis_kills = self.0.iter().filter(|fault| fault.victim == Victim::Redis).filter(loses);
        let redis_kills = redis_kills.map(|fault| (fault.from_us, fault.until_us)).collect();
        let (kills, pauses, redis) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut excuses = Excuses { kills, pauses, redis, redis_kills };
        for fault in &self.0 {
            match (fault.victim, fault.kind) {
                // What runs is let through.
                (Victim::Redis, Kind::Full) => {}
                (Victim::Redis, _) => excuses.redis.push((fault.from_us, fault.until_us)),
                (_, Kind::Kill | Kind::Cut | Kind::Abort) => {
                    let (from_us, mut until_us) = (fault.from_us, fault.until_us);
                    if fault.kind == Kind::Abort {
                        until_us += LAST_MOMENT_US;
                    }
                    let known = excuses.kills.entry(fault.process.clone()).or_insert((from_us, until_us));
                    *known = (from_us.min(known.0), until_us.min(known.1));
                }
                (_, Kind::Pause | Kind::Stall) => {
                    let pauses = excuses.pauses.entry(fault.process.clone()).or_default();
                    pauses.push((fault.from_us, fault.until_us));
                }
                // Whoever stops in order finishes what it has begun: that excuses nothing.
                (_, Kind::Stop | Kind::Full | Kind::Takeover) => {}
            }
        }
        excuses
    }
}

impl Excuses {
    /// Whether Redis was killed, and started again, at some time between these.
    pub(crate) fn redis_was_killed(&self, from_us: u64, until_us: u64) -> bool {
        self.redis_kills.iter().any(|(killed, up)| *killed <= until_us && *up >= from_us)
    }

    /// From when on the process of a call was about to go away, if it did so after its beginning.
    fn died_in(&self, processes: &[String], call: &Call) -> Option<u64> {
        let (from_us, until_us) = self.kills.get(&processes[call.process])?;
        (*until_us >= call.begun_us).then_some(*from_us)
    }

    /// Whether the process of a call went away, or stood still for long, after the call began: its leaf may
    /// be lost.
    pub(crate) fn may_be_lost(&self, processes: &[String], call: &Call) -> bool {
        let pauses = self.pauses.get(&processes[call.process]);
        self.died_in(processes, call).is_some()
            || pauses.is_some_and(|pauses| pauses.iter().any(|(_, until)| *until >= call.begun_us))
    }

    /// Whether any process went away.
    pub(crate) fn someone_died(&self) -> bool {
        !self.kills.is_empty()
    }

    /// Whether a process stood still at some time between these.
    pub(crate) fn stood_still(&self, process: &str, from_us: u64, until_us: u64) -> bool {
        let pauses = self.pauses.get(process);
        pauses.is_some_and(|pauses| pauses.iter().any(|(paused, on)| *paused <= until_us && *on >= from_us))
    }

    /// Why the second of two calls was made, with the same arguments for the same attempt; `None` when
    /// nothing happened that would let a leaf come again.
    pub(crate) fn cause(&self, processes: &[String], first: &Call, second: &Call) -> Option<Cause> {
        if self.died_in(processes, first).is_some_and(|at| at <= second.begun_us) {
            return Some(Cause::WorkerKilled);
        }
        let lease_us = LEASE.as_micros() as u64;
        // Who stood still with a leaf that it had not begun, begins when it goes on, and the leaf is
        // elsewhere.
        let meets = |from: u64, until: u64| from <= second.begun_us && until + lease_us >= first.begun_us;
        let paused = |call: &Call| {
            let pauses = self.pauses.get(&processes[call.process]);
            pauses.is_some_and(|pauses| pauses.iter().any(|(from, until)| meets(*from, *until)))
        };
        if paused(first) || paused(second) {
            return Some(Cause::WorkerStoodStill);
        }
        // After a restart it takes the workers up to a second to be connected again, and a beat to renew.
        let redis = |(from, until): &(u64, u64)| meets(*from, until + 1_000_000);
        self.redis.iter().any(redis).then_some(Cause::Redis)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, process, from_us, until_us, .. } = self;
        write!(f, "{from_us} {until_us} {kind:?} {process}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        kind: Kind,
        victim: Victim,
        process: &str,
        (from_us, until_us): (u64, u64),
        expect: Option<Cause>,
    ) {
        let faults = Faults(vec![Fault { kind, victim, process: process.to_owned(), from_us, until_us }]);
        let call = |process, begun_us| Call { attempt: 1, hash: 0, begun_us, ended: None, process };
        let processes = ["worker-1.1".to_owned(), "worker-2.1".to_owned()];
        let (first, second) = (call(0, 10_000_000), call(1, 12_000_000));
        assert_eq!(faults.excuses().cause(&processes, &first, &second), expect);
    }

    #[test]
    fn only_what_befell_a_leaf_s_own_worker_or_redis_lets_it_run_again() {
        let at = (11_000_000, 11_300_000);
        check(Kind::Kill, Victim::Workers, "worker-1.1", at, Some(Cause::WorkerKilled));
        check(Kind::Kill, Victim::Workers, "worker-1.1", (9_000_000, 9_100_000), None);
        check(Kind::Kill, Victim::Workers, "worker-2.1", at, None);
        check(Kind::Stop, Victim::Workers, "worker-1.1", at, None);
        check(Kind::Cut, Victim::Workers, "worker-1.1", at, Some(Cause::WorkerKilled));
        check(Kind::Abort, Victim::Workers, "worker-1.1", at, Some(Cause::WorkerKilled));
        check(Kind::Full, Victim::Redis, "redis", at, None);
        check(Kind::Kill, Victim::Coordinators, "coordinator-1.1", at, None);
        check(Kind::Pause, Victim::Workers, "worker-1.1", at, Some(Cause::WorkerStoodStill));
        check(Kind::Kill, Victim::Redis, "redis", at, Some(Cause::Redis));
        check(Kind::Kill, Victim::Redis, "redis", (5_000_000, 5_100_000), None);
    }
}
