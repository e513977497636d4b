//! What came out of a trial.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::faults::Cause;

/// All counts, and all that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) head: String,
    pub(crate) faults: String,
    pub(crate) runs: usize,
    pub(crate) failed_runs: usize,
    /// Submissions for which there was no room, each time they were tried.
    pub(crate) refused: usize,
    /// Leaves that were begun.
    pub(crate) leaves: usize,
    pub(crate) retried: usize,
    /// Calls that were made again, by what excuses them.
    pub(crate) again: BTreeMap<Cause, usize>,
    /// Leaves that run at most once, and those of them that were lost.
    pub(crate) once: usize,
    pub(crate) lost_once: usize,
    /// Leaves that failed because their workers were killed too often.
    pub(crate) given_up: usize,
    /// Leaves that failed for another.
    pub(crate) innocent: usize,
    /// Runs that were forgotten and their keys used again, and their leaves that began afterwards.
    pub(crate) forgotten: usize,
    pub(crate) forgotten_leaves: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) stuck: usize,
    /// How often a run was not as far as before after Redis was killed, and how many runs were gone, as the
    /// client was told; none with `appendfsync always`, unless a replica took over.
    pub(crate) rolled_back: usize,
    pub(crate) gone: usize,
    pub(crate) looks: usize,
    /// Consumers of processes that were killed: they are removed when they were idle for an hour.
    pub(crate) dead_consumers: usize,
    pub(crate) settled_in: Duration,
    pub(crate) took: Duration,
    pub(crate) wrong: Vec<String>,
}

impl Report {
    pub(crate) fn is_green(&self) -> bool {
        self.lost + self.doubled + self.stuck == 0 && self.wrong.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = |cause| self.again.get(&cause).copied().unwrap_or_default();
        write!(
            f,
            "{}: {}; {} runs ({} failed as written, {} refused), {} leaves, {} retried, {} looks; {} calls made again (worker \
             killed {}, stood still {}, Redis {}); {} at most once ({} lost), {} given up; {} forgotten ({} leaves in \
             hand); {} lost, {} doubled, {} stuck, {} innocent failed, {} rolled back, {} gone with the store; {} dead consumers; settled in {:.1} s; {:.0} s",
            self.head,
            self.faults,
            self.runs,
            self.failed_runs,
            self.refused,
            self.leaves,
            self.retried,
            self.looks,
            self.again.values().sum::<usize>(),
            again(Cause::WorkerKilled),
            again(Cause::WorkerStoodStill),
            again(Cause::Redis),
            self.once,
            self.lost_once,
            self.given_up,
            self.forgotten,
            self.forgotten_leaves,
            self.lost,
            self.doubled,
            self.stuck,
            self.innocent,
            self.rolled_back,
            self.gone,
            self.dead_consumers,
            self.settled_in.as_secs_f64(),
            self.took.as_secs_f64(),
        )
    }
}
