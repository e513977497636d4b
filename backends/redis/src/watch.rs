//! Whether the store was there all the time.
//!
//! While it is away nobody can renew a lease, so that time does not count against any: leases are taken up
//! by who has watched the store without interruption for as long as the owners need to come back. Where one
//! interruption follows another, so that nobody ever does, it is enough that the store was there for twice
//! the lease in all since somebody heard of the owner. What is watched is a server, or on a Cluster what
//! shares a slot.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Arg, Cmd, RedisError};
use tokio::time::Instant;

use crate::wire::SILENCE;

/// Owners come back within this time.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(5);

/// More than this between a question and its answer, or between two clocks, is an interruption.
pub(crate) const LATE: Duration = SILENCE;

/// So many slots are remembered; after that, those of which nothing was heard for long are not.
const SLOTS_MAX: usize = 10_000;

/// For how long the store was there is noted this often, and so many notes are kept: a quarter of an hour.
const NOTED_EVERY: Duration = Duration::from_millis(250);
const NOTES_MAX: usize = 4096;

/// Notes interruptions. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    is_cluster: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    start: Instant,
    /// When an interruption has ended; `None` as long as no question was answered since.
    interrupted: HashMap<String, Option<Instant>>,
    /// What a server's clock said, and when.
    clocks: HashMap<String, (Instant, u64)>,
    there: HashMap<String, There>,
    /// When a clock was set on by more than [`LATE`], as far as is known.
    set_on: HashMap<String, Instant>,
    /// How often a clock was set back.
    set_back: HashMap<String, u64>,
    /// How often that was when the entries of a line were dated anew.
    dated: HashMap<String, u64>,
}

/// For how long what shares a slot was there, in all.
#[derive(Debug)]
struct There {
    time: Duration,
    /// Up to when that is so.
    until: Instant,
    /// When it had been there for how long.
    notes: VecDeque<(Instant, Duration)>,
}

impl There {
    fn new(start: Instant) -> Self {
        Self { time: Duration::ZERO, until: start, notes: VecDeque::from([(start, Duration::ZERO)]) }
    }

    fn goes_on(&mut self, was_there: bool, now: Instant) {
        if was_there {
            self.time += now - self.until;
        }
        self.until = now;
        if self.notes.back().is_none_or(|(at, _)| now - *at >= NOTED_EVERY) {
            if self.notes.len() >= NOTES_MAX {
                self.notes.pop_front();
            }
            self.notes.push_back((now, self.time));
        }
    }

    /// Since when it was there for so long.
    fn since(&self, time: Duration) -> Option<Instant> {
        let before = self.time.checked_sub(time)?;
        let place = self.notes.partition_point(|(_, noted)| *noted <= before).checked_sub(1)?;
        Some(self.notes[place].0)
    }
}

impl Watch {
    pub(crate) fn new(is_cluster: bool) -> Self {
        let state = State {
            start: Instant::now(),
            interrupted: HashMap::new(),
            clocks: HashMap::new(),
            there: HashMap::new(),
            set_on: HashMap::new(),
            set_back: HashMap::new(),
            dated: HashMap::new(),
        };
        Self { is_cluster, state: Arc::new(Mutex::new(state)) }
    }

    /// Notes what became of a command.
    pub(crate) fn note(&self, cmd: Option<&Cmd>, error: &RedisError) {
        if is_away(error) {
            self.interrupt(cmd.map(key_of).unwrap_or_default());
        }
    }

    /// Notes that what a key is with is away, for nobody knows how long yet.
    pub(crate) fn interrupt(&self, key: impl AsRef<[u8]>) {
        let slot = self.slot(key.as_ref());
        let mut state = self.state();
        if state.interrupted.len() >= SLOTS_MAX {
            state.interrupted.retain(|_, at| at.is_none_or(|at| at.elapsed() <= COMES_BACK_WITHIN));
        }
        state.interrupted.insert(slot, None);
    }

    /// For how long what a key is with has been there without interruption. It was asked then, and has just
    /// answered what its time is.
    pub(crate) fn watched(&self, key: &str, asked: Instant, now_ms: u64) -> Duration {
        let (slot, now) = (self.slot(key.as_bytes()), Instant::now());
        let mut state = self.state();
        if state.clocks.len() >= SLOTS_MAX {
            state.clocks.clear();
        }
        let before = state.clocks.insert(slot.clone(), (now, now_ms));
        // A clock that jumps makes leases older than they are, as does another server in the place of one.
        let has_jumped = before.is_some_and(|(then, then_ms)| {
            now_ms.saturating_sub(then_ms) > (now - then + LATE).as_millis() as u64
        });
        if has_jumped {
            state.set_on.insert(slot.clone(), now);
        }
        // What was taken before is not over until the clock has caught up.
        let is_set_back = before.is_some_and(|(then, then_ms)| {
            now_ms + LATE.as_millis() as u64 <= then_ms + (now - then).as_millis() as u64
        });
        if is_set_back {
            *state.set_back.entry(slot.clone()).or_default() += 1;
        }
        let is_back = state.interrupted.get(&slot) == Some(&None);
        let was_there = !has_jumped && !is_back && now - asked <= LATE;
        if state.there.len() >= SLOTS_MAX {
            state.there.clear();
        }
        let since = state.interrupted.get(&slot).copied().flatten().unwrap_or(state.start).max(state.start);
        state.there.entry(slot.clone()).or_insert_with(|| There::new(since)).goes_on(was_there, now);
        if !was_there {
            state.interrupted.insert(slot, Some(now));
            return Duration::ZERO;
        }
        now - since
    }

    /// Leases of this length may be taken up of owners who were not heard of for so long, by who has
    /// watched for so long without interruption.
    pub(crate) fn silent_for(&self, key: &str, watched: Duration, lease: Duration) -> Option<Duration> {
        // Nobody notices that a clock was set on: owners renew as they do anyway.
        let set_on = self.state().set_on.get(&self.slot(key.as_bytes())).copied();
        if set_on.is_some_and(|set_on| set_on.elapsed() < lease) {
            return None;
        }
        if watched >= lease.min(COMES_BACK_WITHIN) {
            return Some(lease);
        }
        let since = self.state().there.get(&self.slot(key.as_bytes()))?.since(lease.saturating_mul(2))?;
        Some(since.elapsed().max(lease))
    }

    /// Whether the entries of a line are to be dated anew, since its clock may have been set back after
    /// they were taken; as which time, for [`dated`](Self::dated).
    pub(crate) fn is_to_be_dated(&self, line: &str) -> Option<u64> {
        let state = self.state();
        let set_back = state.set_back.get(&self.slot(line.as_bytes())).copied().unwrap_or(0);
        (state.dated.get(line) != Some(&set_back)).then_some(set_back)
    }

    /// That the entries of a line were dated anew.
    pub(crate) fn dated(&self, line: &str, set_back: u64) {
        let mut state = self.state();
        if state.dated.len() >= SLOTS_MAX {
            state.dated.clear();
        }
        state.dated.insert(line.to_owned(), set_back);
    }

    fn slot(&self, key: &[u8]) -> String {
        if !self.is_cluster {
            return String::new();
        }
        let text = String::from_utf8_lossy(key);
        let tag = text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        tag.map_or_else(|| text.to_string(), |(tag, _)| tag.to_owned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first key of a command, or of the script that it runs; empty when it has none.
pub(crate) fn key_of(cmd: &Cmd) -> Vec<u8> {
    let mut args = cmd.args_iter().map(|arg| if let Arg::Simple(bytes) = arg { bytes } else { &b""[..] });
    let name = args.next().unwrap_or_default().to_ascii_uppercase();
    let place = match &name[..] {
        b"EVALSHA" | b"EVAL" => 2,
        b"XINFO" => 1,
        b"CLUSTER" | b"CONFIG" | b"INFO" | b"PING" | b"PUBLISH" | b"PUBSUB" | b"TIME" => return Vec::new(),
        _ => 0,
    };
    args.nth(place).unwrap_or_default().to_vec()
}

/// Whether leases could not have been renewed then. A script that is not loaded, or a refused submission,
/// is no outage.
fn is_away(error: &RedisError) -> bool {
    match error.code() {
        Some("LOADING" | "BUSY" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "MISCONF" | "NOREPLICAS") => {
            true
        }
        Some("NOAUTH" | "WRONGPASS") => true,
        Some(_) => false,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    async fn seconds(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn is_enough(watch: &Watch, now_ms: u64, lease: Duration) -> bool {
        let watched = watch.watched("k", Instant::now(), now_ms);
        watch.silent_for("k", watched, lease).is_some()
    }

    /// Each time the store is there for a second, and then away for three.
    #[tokio::test(start_paused = true)]
    async fn where_one_interruption_follows_another_the_time_between_them_adds_up() {
        let watch = Watch::new(false);
        let (mut now_ms, mut silent) = (0, Vec::new());
        for _ in 0..8 {
            for _ in 0..4 {
                tokio::time::advance(Duration::from_millis(250)).await;
                now_ms += 250;
                let watched = watch.watched("k", Instant::now(), now_ms);
                silent.push(watch.silent_for("k", watched, LEASE));
            }
            watch.interrupt("k");
            seconds(3).await;
            now_ms += 3000;
            let watched = watch.watched("k", Instant::now(), now_ms);
            silent.push(watch.silent_for("k", watched, LEASE));
        }
        let first = silent.iter().position(Option::is_some).expect("it adds up");
        assert_eq!(first, 18, "four seconds, twice the lease: {silent:?}");
        let longest = silent.iter().flatten().max().expect("one");
        assert!((13..=17).contains(&longest.as_secs()), "{longest:?}");
    }

    /// However long it was.
    #[tokio::test(start_paused = true)]
    async fn the_time_of_an_outage_does_not_add_up() {
        let watch = Watch::new(false);
        seconds(1).await;
        assert!(!is_enough(&watch, 1_000, LEASE));
        watch.interrupt("k");
        seconds(3600).await;
        assert!(!is_enough(&watch, 3_601_000, LEASE));
        seconds(1).await;
        assert!(!is_enough(&watch, 3_602_000, LEASE));
        seconds(1).await;
        assert!(is_enough(&watch, 3_603_000, LEASE));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_takes_up_nothing() {
        let watch = Watch::new(false);
        seconds(1).await;
        assert!(!is_enough(&watch, 1_000, LEASE));
        seconds(1).await;
        assert!(is_enough(&watch, 2_000, LEASE));
        assert!(!is_enough(&watch, 2_000, LEASE * 30));
        seconds(3).await;
        assert!(is_enough(&watch, 5_000, LEASE * 30));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_counts_for_what_shares_the_slot() {
        let watch = Watch::new(true);
        seconds(9).await;
        let gone = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg("sha").arg(2).arg("p:{q:mail}:stream").arg("p:{q:mail}:again").arg("{x}");
        watch.note(Some(&cmd), &gone);
        assert_eq!(watch.watched("p:{q:mail}:l0:stream", Instant::now(), 9_000), Duration::ZERO);
        assert_eq!(watch.watched("p:{q:post}:stream", Instant::now(), 9_000), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_and_a_clock_that_jumps_are_interruptions() {
        let watch = Watch::new(false);
        seconds(9).await;
        let asked = Instant::now();
        assert_eq!(watch.watched("k", asked, 1_000_000), Duration::from_secs(9));
        seconds(4).await;
        assert_eq!(watch.watched("k", asked, 1_004_000), Duration::ZERO, "it was asked long ago");
        seconds(4).await;
        assert_eq!(watch.watched("k", Instant::now(), 1_008_000), Duration::from_secs(4));
        seconds(1).await;
        assert_eq!(watch.watched("k", Instant::now(), 1_069_000), Duration::ZERO, "a minute ahead");
        seconds(1).await;
        assert_eq!(watch.watched("k", Instant::now(), 1_010_000), Duration::from_secs(1), "and back");
    }

    /// They renew every ten seconds, and do not know of it.
    #[tokio::test(start_paused = true)]
    async fn after_a_clock_was_set_on_owners_have_a_whole_lease_to_renew() {
        let (watch, lease) = (Watch::new(false), Duration::from_secs(30));
        let mut now_ms = 0;
        for _ in 0..60 {
            seconds(1).await;
            now_ms += 1_000;
            is_enough(&watch, now_ms, lease);
        }
        assert!(is_enough(&watch, now_ms, lease));
        now_ms += 3_600_000;
        assert!(!is_enough(&watch, now_ms, lease));
        for second in 1..35 {
            seconds(1).await;
            now_ms += 1_000;
            assert_eq!(is_enough(&watch, now_ms, lease), second >= 30, "{second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_before_a_clock_was_set_back_is_dated_anew_once() {
        let watch = Watch::new(true);
        let line = "p:{q:mail}:stream";
        let is_dated = |now_ms| {
            watch.watched(line, Instant::now(), now_ms);
            let set_back = watch.is_to_be_dated(line);
            set_back.into_iter().for_each(|set_back| watch.dated(line, set_back));
            set_back.is_some()
        };
        assert!(is_dated(3_600_000), "it may have been before this one came");
        assert!(!is_dated(3_600_000));
        assert!(is_dated(0));
        assert!(!is_dated(10));
        assert!(!is_dated(3_600_000), "forward is no harm");
    }

    /// Errors come before the end of an outage, and none with it.
    #[tokio::test(start_paused = true)]
    async fn an_interruption_lasts_until_a_question_is_answered() {
        let watch = Watch::new(false);
        seconds(9).await;
        watch.interrupt("k");
        seconds(7).await;
        assert_eq!(watch.watched("k", Instant::now(), 1_000), Duration::ZERO);
        seconds(1).await;
        assert_eq!(watch.watched("k", Instant::now(), 2_000), Duration::from_secs(1));
    }

    #[test]
    fn what_is_no_outage_is_no_interruption() {
        let error = |reply: &str| {
            redis::parse_redis_value(format!("-{reply}\r\n").as_bytes())
                .and_then(|value| value.extract_error())
                .expect_err("the reply is an error")
        };
        assert!(is_away(&error("LOADING Redis is loading the dataset in memory")));
        assert!(is_away(&std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        assert!(!is_away(&error("NOSCRIPT No matching script")));
        assert!(!is_away(&error("OOM command not allowed")));
        assert!(!is_away(&error("ERR user_script:7: attempt to index a nil value")));
    }
}
