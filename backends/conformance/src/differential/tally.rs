//! Counting what has happened: a test that never sees a refusal says nothing of refusals.

use std::collections::BTreeMap;
use std::fmt;

/// What has to have happened besides: the rare ways of the common operations.
const MUST_HAPPEN: &[&str] = &[
    "a run of at most 16 nodes",
    "a run of 17 to 1,024 nodes",
    "a run of more than 1,024 nodes",
    "a run with large arguments",
    "accepted: submission",
    "conflict: submission",
    "existing: submission",
    "an id was taken again by another canvas",
    "an id was taken again by the same canvas",
    "first leaves queued with the submission",
    "prepared leaves queued by the step",
    "events acknowledged by the step",
    "verdict: Accepted",
    "verdict: Retried",
    "verdict: Duplicate",
    "verdict: Stale",
    "verdict: Refused",
    "a run ended",
    "a run was forgotten by the sweep",
    "a lease had passed",
    "begin: Run",
    "begin: Gone",
];

/// The operations that have to have done something and to have found nothing.
const OPERATIONS: &[&str] = &[
    "submit",
    "plan",
    "settle",
    "outbox",
    "owing",
    "known",
    "dispatch",
    "status",
    "changed",
    "phases",
    "list",
    "forget",
    "receive",
    "begin",
    "finish",
    "renew",
    "hand_back",
    "retire",
    "sweep",
    "events",
    "acknowledge",
];

/// How often each operation did something, and how often it was refused or found nothing; and what else has happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    operations: BTreeMap<&'static str, [u64; 2]>,
    events: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn operation(&mut self, kind: &'static str, did_something: bool) {
        self.operations.entry(kind).or_default()[usize::from(!did_something)] += 1;
    }

    pub(super) fn event(&mut self, what: impl Into<String>) {
        *self.events.entry(what.into()).or_default() += 1;
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Tally) {
        for (kind, [did, nothing]) in &other.operations {
            let known = self.operations.entry(kind).or_default();
            *known = [known[0] + did, known[1] + nothing];
        }
        for (what, count) in &other.events {
            *self.events.entry(what.clone()).or_default() += count;
        }
    }

    /// Asserts that every operation has both done something and been refused or found nothing, and that everything
    /// rare has happened.
    ///
    /// # Panics
    /// When that is not so, naming what is missing.
    pub fn check_everything_happened(&self) {
        let both = |kind: &&&str| self.operations.get(**kind).is_some_and(|[did, not]| *did > 0 && *not > 0);
        let one_sided: Vec<_> = OPERATIONS.iter().filter(|kind| !both(kind)).collect();
        let missing: Vec<_> = MUST_HAPPEN.iter().filter(|what| !self.events.contains_key(**what)).collect();
        assert!(one_sided.is_empty() && missing.is_empty(), "missing: {one_sided:?} {missing:?} in\n{self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, [did, nothing]) in &self.operations {
            writeln!(f, "{kind:12} {did:8} did something, {nothing:8} refused or found nothing")?;
        }
        self.events.iter().try_for_each(|(what, count)| writeln!(f, "{count:8} × {what}"))
    }
}
