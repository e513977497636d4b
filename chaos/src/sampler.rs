//! Looks at open runs while everything is being killed: each look is one atomic dump.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use celeriac::primitives::RunId;
use celeriac_conformance::random::Rng;

use crate::checks::i3_counters_are_what_the_states_say;
use crate::client::{Client, Run};
use crate::faults::{Fault, Kind};
use crate::keys::{Dump, Eye};
use crate::ledger::now_us;
use crate::options::{LEASE, Victim};
use crate::place::Place;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) looks: usize,
    pub(crate) wrong: Vec<String>,
    /// Runs that were further when they were looked at before, with the times of both looks and what is wrong
    /// then.
    pub(crate) went_back: Vec<(u64, u64, Vec<String>)>,
    /// When Redis took long to answer.
    pub(crate) stalls: Vec<Fault>,
    last: HashMap<RunId, (u64, Dump)>,
}

/// Looks at one open run after the other until it is told to end.
pub(crate) fn look(place: &Place, client: &Client, end: &Arc<AtomicBool>) -> Seen {
    let (mut seen, mut rng, mut eye) = (Seen::default(), Rng::new(1), Eye::new(place));
    while !end.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
        let Some(run) = client.any_open(&mut rng) else { continue };
        let (asked, asked_us) = (Instant::now(), now_us());
        let answer = eye.dump(run.id);
        if asked.elapsed() > LEASE / 4 {
            seen.stalls.push(Fault {
                kind: Kind::Stall,
                victim: Victim::Redis,
                process: "redis".to_owned(),
                from_us: asked_us,
                until_us: now_us(),
            });
        }
        // Of a run that is gone the client hears as well.
        if let Ok(Some(dump)) = answer {
            seen.take(&run, asked_us, dump);
        }
    }
    seen
}

impl Seen {
    fn take(&mut self, run: &Run, at_us: u64, dump: Dump) {
        self.looks += 1;
        self.compare(run, at_us, &dump);
        self.wrong.extend(i3_counters_are_what_the_states_say(run, &dump));
        self.last.insert(run.id, (at_us, dump));
    }

    /// Holds a later dump against the last one that was seen of this run.
    pub(crate) fn compare(&mut self, run: &Run, at_us: u64, dump: &Dump) {
        let Some((last_us, last)) = self.last.get(&run.id) else { return };
        let wrong = went_back(last, dump);
        if !wrong.is_empty() {
            let wrong = wrong.into_iter().map(|what| format!("{what}: run {}, canvas {}", run.id, run.place));
            self.went_back.push((*last_us, at_us, wrong.collect()));
        }
    }
}

/// What may not have happened between two dumps.
fn went_back(before: &Dump, after: &Dump) -> Vec<String> {
    let mut wrong = Vec::new();
    if after.version < before.version {
        wrong
            .push(format!("I1: what was stored is gone, version {} after {}", after.version, before.version));
    }
    let numbered = |kind: char, dump: &Dump| -> BTreeMap<u32, Vec<u8>> {
        let fields = dump.fields.iter().filter(|((of, _), _)| *of == kind);
        fields.map(|((_, number), value)| (*number, value.clone())).collect()
    };
    let (outcomes, closed) = (numbered('o', after), numbered('x', after));
    let has_ended = |node: u32| matches!(before.states.get(node as usize - 1), Some(b'S' | b'F'));
    for (node, outcome) in numbered('o', before) {
        // That of a leaf that asked to run again is not its last.
        if has_ended(node) && outcomes.get(&node) != Some(&outcome) {
            wrong.push(format!("I2: the outcome of node {node} is another one"));
        }
    }
    for (scope, node) in numbered('x', before) {
        if closed.get(&scope) != Some(&node) {
            wrong.push(format!("I2: scope {scope} is closed by another node"));
        }
    }
    for (node, attempt) in numbered('a', before) {
        let (attempt, now) = (String::from_utf8_lossy(&attempt).parse::<u32>(), after.number('a', node));
        if attempt.is_ok_and(|attempt| attempt > now) {
            wrong.push(format!("I7: the attempt of node {node} is {now} again"));
        }
    }
    let rank = |state: &u8| b"WRDPSF".iter().position(|known| known == state);
    for (i, (was, is)) in before.states.iter().zip(&after.states).enumerate() {
        let ended = matches!(was, b'S' | b'F');
        // A retry brings a leaf from D to R.
        let retried = *was == b'D' && *is == b'R';
        if ended && was != is || !retried && rank(is) < rank(was) {
            let (was, is) = (char::from(*was), char::from(*is));
            wrong.push(format!("I2: node {} went from {was} to {is}", i + 1));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(states: &str, fields: &[(char, u32, &str)]) -> Dump {
        let fields =
            fields.iter().map(|(kind, of, value)| ((*kind, *of), value.as_bytes().to_vec())).collect();
        Dump { states: states.as_bytes().to_vec(), fields, ..Dump::default() }
    }

    #[track_caller]
    fn check(before: &Dump, after: &Dump, expect: &[&str]) {
        assert_eq!(went_back(before, after), expect);
    }

    #[test]
    fn what_ended_stays_as_it_ended() {
        let before = dump("SD", &[('o', 1, "1"), ('a', 2, "2")]);
        check(&before, &dump("SS", &[('o', 1, "1"), ('o', 2, "2"), ('a', 2, "2")]), &[]);
        check(&before, &dump("SR", &[('o', 1, "1"), ('a', 2, "3")]), &[]);
        check(
            &before,
            &dump("SD", &[('o', 1, "9"), ('a', 2, "2")]),
            &["I2: the outcome of node 1 is another one"],
        );
        check(&before, &dump("SD", &[('o', 1, "1")]), &["I7: the attempt of node 2 is 0 again"]);
        check(
            &before,
            &dump("DW", &[('o', 1, "1"), ('a', 2, "2")]),
            &["I2: node 1 went from S to D", "I2: node 2 went from D to W"],
        );
    }
}
