//! Where everything is kept.
//!
//! ```text
//! celeriac:{<run>}:run       hash    all of one run: see below
//! celeriac:{<run>}:states    string  one byte per node, W R D S F, when there are many nodes
//! celeriac:{<run>}:plan      string  the plan as bytes, when it is large
//! celeriac:{<run>}:segments  hash    of an outermost run: segment's id in bytes → how many nodes it has;
//!                                   n → nodes in all
//! celeriac:{<run>}:literals  hash    large arguments of the canvas: name, colon, place of the piece → piece
//! celeriac:{<run>}:texts     set     the names of the large values that were kept for its leaves
//! celeriac:{<run>}:text:<name> hash  one of them: place of the piece → piece; until it is whole it expires
//! celeriac:{<run>}:…:stage:…         parts of a large run before it is visible; they expire
//! celeriac:{q:<name>}:stream stream  leaves (m: head, message)
//! celeriac:{q:<name>}:again  list    entries that were handed back and are to be taken before new ones
//! celeriac:{q:<name>}:apart  list    entries that have lost their owners: suspects, taken one at a time,
//!                                   before all others
//! celeriac:{q:<name>}:delayed  zset  leaves, as in the stream → when they are to be queued, in ms
//! celeriac:{q:<name>}:expiring zset  the heads of leaves that have not begun → when they expire, in ms
//! celeriac:{q:<name>}:l<place>:…     the same for its other lanes: of another priority, and for what comes
//!                                   in bulk
//! celeriac:{q:<name>}:gone   zset    incarnations of runs that were forgotten while leaves may be queued
//!                                   → since when, in ms
//! celeriac:{q:<name>}:idle   zset    on one server, the channels of those who wait for leaves, when many do
//!                                   → since when, in ms
//! celeriac:{q:<name>}:done:…         stream, again and apart of the reports (c: head, outcome)
//! celeriac:{q:<name>}:done:bulk:…    the same of those on leaves of bulk lanes
//! celeriac:{q:<name>}:…:aside:<ms>   what stood in the place of reports, and is something else or takes no
//!                                   more
//! celeriac:{events}:…                stream, again and apart of the submissions (s: run)
//! celeriac:{events}:names    zset    the names of the queues → when they were noted last, in ms
//! celeriac:{events}:lanes    set     their lanes besides the first: name, ^A, place
//! celeriac:{events}:reports  zset    on one server, the streams of reports that may have something
//! celeriac:{events}:timers   zset    on one server, the streams of lanes that have timers → when the next
//!                                   is due, in ms
//! celeriac:{events}:runs     zset    all runs but segments, in the order of their ids
//! celeriac:{events}:ended    zset    runs that have ended → when they are to be forgotten, in ms
//! celeriac:{events}:gone     set     the names of the queues that were told of runs that are gone
//! celeriac:{events}:dead     stream  dead letters: six fields of ours (`dead.rs`), then those of the entry
//! celeriac:{events}:intents  zset    on a Cluster, runs about to be stored → since when, in ms
//! celeriac:{events}:…:aside:<ms>     what stood in the place of one of these, and is something else
//! ```
//!
//! The hash of a run has these fields:
//!
//! ```text
//! m          what changes with every step, packed (`meta.rs`)
//! s          one byte per node, when there are few: W waits, R released, D dispatched, P replaced,
//!            S succeeded, F failed; what is R is the outbox
//! p          the plan as bytes, when it is small
//! w          whom each leaf counts down, when there are very few: settling such a run takes no plan
//! o<node>    the outcome of a leaf, or, until it has one, of the attempt that asked for another
//! b<node>    which delivery has begun a leaf that runs once at most: attempt, entry, worker
//! g<node>    how far a running leaf is, in its own words
//! c<node>    how many predecessors have succeeded, while some have and some have not
//! a<node>    the current attempt, where it is not the first
//! x<scope>   the node whose failure closed the scope
//! j<node>    whom a join counts down
//! d          on a Cluster, who empties the outbox, and until when nobody else does
//! u          of a segment, the leaf it stands for and the outermost run
//! q          the names of its queues, ^A between them, when there is another than the default one
//! f          instead of m, of a run that is being forgotten, its incarnation
//! e          of such a run, whether it had ended
//! v          the digest of what was given, when the plan has moments that were made of times
//! ```
//!
//! A run is written as its id and its incarnation, 16 and 8 bytes; an attempt at a leaf, which is the head of
//! messages and reports, as task id, attempt and incarnation, 16, 4 and 8 bytes.
//!
//! What stands in braces decides the slot in a Redis Cluster. Nothing of a live run expires.

use std::sync::Arc;

use celeriac_backends::{BackendError, ErrorKind, Lane};
use celeriac_primitives::{Incarnation, RunId, RunRef, Stored};

/// Changes are hinted at on so many channels: a process that waits for some runs hears of a part of the
/// others.
const CHANGE_CHANNELS: u128 = 16;

/// What the numbers of those channels start with on which it is hinted at that runs are decided; also in
/// `scripts/settle.lua`.
pub(crate) const DECISIONS: char = 'd';

/// So many characters a prefix may have.
const PREFIX_MAX: usize = 64;

/// Whether keys may begin so: with braces they would move to other slots of a Cluster, and with stars an ACL
/// would mean others, too.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), BackendError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if (1..=PREFIX_MAX).contains(&prefix.len()) && prefix.chars().all(fits) {
        return Ok(());
    }
    let context =
        format!("the prefix {prefix:?}: write 1 to {PREFIX_MAX} ASCII letters, digits, and any of - _ . : /");
    Err(BackendError::new(ErrorKind::Denied, "connect").context(context))
}

/// The name of a queue has 255 characters at most.
const QUEUE_BYTES_MAX: usize = 4 * 255;

/// Whether a name that is noted somewhere may be a queue's: not one of megabytes, which many keys would have.
pub(crate) fn may_name_queue(name: &str) -> bool {
    (1..=QUEUE_BYTES_MAX).contains(&name.len())
}

/// Makes keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<str>);

/// The keys of one run: what they all start with.
#[derive(Clone, Debug)]
pub(crate) struct RunKeys(String);

impl RunKeys {
    pub(crate) fn hash(&self) -> String {
        self.key("run")
    }

    pub(crate) fn states(&self) -> String {
        self.key("states")
    }

    pub(crate) fn plan(&self) -> String {
        self.key("plan")
    }

    pub(crate) fn segments(&self) -> String {
        self.key("segments")
    }

    pub(crate) fn literals(&self) -> String {
        self.key("literals")
    }

    pub(crate) fn texts(&self) -> String {
        self.key("texts")
    }

    /// What the keys of the texts start with.
    pub(crate) fn text(&self) -> String {
        self.key("text:")
    }

    fn key(&self, what: &str) -> String {
        [&self.0, what].concat()
    }
}

/// A run as bytes: its id and its incarnation.
pub(crate) fn write_run(run: RunRef) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(run.id.uuid().as_bytes());
    bytes[16..].copy_from_slice(&write_incarnation(run.incarnation));
    bytes
}

/// An incarnation as bytes.
pub(crate) fn write_incarnation(incarnation: Incarnation) -> [u8; 8] {
    incarnation.number().to_be_bytes()
}

/// Reads a run.
pub(crate) fn read_run(bytes: &[u8]) -> Option<RunRef> {
    let (id, incarnation) = bytes.split_at_checked(16)?;
    let incarnation = Incarnation::new(u64::from_be_bytes(incarnation.try_into().ok()?));
    Some(RunId::from_uuid(uuid::Uuid::from_slice(id).ok()?).ok()?.incarnation(incarnation))
}

/// The keys of one line: a stream, and what is to be taken before its new entries: what was handed back, and
/// before it what has lost its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stream: String,
    pub(crate) again: String,
    pub(crate) apart: String,
    /// Where it is hinted at.
    pub(crate) channel: String,
    /// What its queue was told of runs that are gone, when it is a queue's.
    pub(crate) gone: Option<String>,
    /// Whether it stays when it is empty: looking brings it about. The lines of queues come and go.
    pub(crate) stays: bool,
}

/// Which reports: those on the leaves of a queue, or on its leaves in bulk, which come after all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ReportsOf {
    pub(crate) is_bulk: bool,
    pub(crate) queue: Arc<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self(prefix.into())
    }

    pub(crate) fn run(&self, run: RunId) -> RunKeys {
        let mut id = uuid::Uuid::encode_buffer();
        RunKeys([&self.0, ":{", run.uuid().hyphenated().encode_lower(&mut id), "}:"].concat())
    }

    /// Where a text is kept.
    pub(crate) fn text(&self, value: &Stored) -> String {
        let keys = self.run(value.run.id);
        if value.of_plan { keys.literals() } else { keys.key(&format!("text:{}", value.name.simple())) }
    }

    /// A lane of a queue. The stream of the lane that most leaves take is also the channel of the queue's
    /// hints.
    pub(crate) fn queue(&self, name: &str, lane: Lane) -> Line {
        let channel = self.stream(name, Lane::default());
        Line { channel, gone: Some(self.gone(name)), ..self.line(&lane_place(name, lane)) }
    }

    /// Only the stream of a lane.
    pub(crate) fn stream(&self, name: &str, lane: Lane) -> String {
        [&self.0, ":", &lane_place(name, lane), "stream"].concat()
    }

    /// Only the stream of the reports on the leaves of a lane.
    pub(crate) fn report_stream(&self, name: &str, lane: Lane) -> String {
        [&self.0, ":", &reports_place(name, lane.is_bulk()), "stream"].concat()
    }

    /// Only the stream of the submissions.
    pub(crate) fn submission_stream(&self) -> String {
        [&self.0, ":{events}:stream"].concat()
    }

    /// The timers of a lane: leaves that wait for their time, and when leaves expire.
    pub(crate) fn timers(&self, name: &str, lane: Lane) -> [String; 2] {
        let place = lane_place(name, lane);
        ["delayed", "expiring"].map(|what| format!("{}:{place}{what}", self.0))
    }

    /// The line of these reports.
    pub(crate) fn reports(&self, ReportsOf { is_bulk, queue }: &ReportsOf) -> Line {
        self.line(&reports_place(queue, *is_bulk))
    }

    /// The stream of the submissions is also the channel of the hints at all events.
    pub(crate) fn submissions(&self) -> Line {
        Line { stays: true, ..self.line("{events}:") }
    }

    pub(crate) fn names(&self) -> String {
        format!("{}:{{events}}:names", self.0)
    }

    pub(crate) fn lanes(&self) -> String {
        format!("{}:{{events}}:lanes", self.0)
    }

    pub(crate) fn report_index(&self) -> String {
        format!("{}:{{events}}:reports", self.0)
    }

    pub(crate) fn timer_index(&self) -> String {
        format!("{}:{{events}}:timers", self.0)
    }

    /// Which reports are in this stream.
    pub(crate) fn reports_of(&self, stream: &str) -> Option<ReportsOf> {
        let (queue, place) = self.after_prefix(stream)?.strip_suffix("stream")?.rsplit_once("}:done:")?;
        let is_bulk = place == "bulk:";
        let is_ours = (is_bulk || place.is_empty()) && may_name_queue(queue);
        is_ours.then(|| ReportsOf { is_bulk, queue: queue.into() })
    }

    /// The lane whose stream this is.
    pub(crate) fn place_of(&self, stream: &str) -> Option<(Arc<str>, Lane)> {
        let (queue, lane) = self.after_prefix(stream)?.strip_suffix(":stream")?.rsplit_once('}')?;
        let lane = match lane.strip_prefix(":l") {
            Some(place) => Lane::at(place.parse().ok()?)?,
            None if lane.is_empty() => Lane::default(),
            None => return None,
        };
        may_name_queue(queue).then(|| (queue.into(), lane))
    }

    /// Matches all keys.
    pub(crate) fn of_slots(&self) -> String {
        format!("{}:{{*", self.0)
    }

    /// The run whose hash this is.
    pub(crate) fn run_of(&self, key: &str) -> Option<RunId> {
        let id = key.strip_prefix(&*self.0)?.strip_prefix(":{")?.strip_suffix("}:run")?;
        RunId::from_uuid(uuid::Uuid::try_parse(id).ok()?).ok()
    }

    /// The lane that has this key, or whose reports are there.
    pub(crate) fn place_beside(&self, key: &str) -> Option<(Arc<str>, Lane)> {
        if let Some(reports) = self.reports_of(key) {
            // Reports on leaves in bulk are looked for where there is a lane for such leaves.
            let of_bulk = || (0..).map_while(Lane::at).find(|lane| lane.is_bulk());
            let lane = if reports.is_bulk { of_bulk()? } else { Lane::default() };
            return Some((reports.queue, lane));
        }
        let (place, what) = key.rsplit_once(':')?;
        ["stream", "delayed", "expiring"]
            .contains(&what)
            .then(|| format!("{place}:stream"))
            .and_then(|stream| self.place_of(&stream))
    }

    fn after_prefix<'s>(&self, stream: &'s str) -> Option<&'s str> {
        stream.strip_prefix(&*self.0)?.strip_prefix(":{q:")
    }

    pub(crate) fn runs(&self) -> String {
        format!("{}:{{events}}:runs", self.0)
    }

    pub(crate) fn ended(&self) -> String {
        format!("{}:{{events}}:ended", self.0)
    }

    /// What a queue was told of runs that are gone.
    pub(crate) fn gone(&self, queue: &str) -> String {
        format!("{}:{{q:{queue}}}:gone", self.0)
    }

    pub(crate) fn gone_index(&self) -> String {
        format!("{}:{{events}}:gone", self.0)
    }

    /// The dead letters.
    pub(crate) fn dead(&self) -> String {
        format!("{}:{{events}}:dead", self.0)
    }

    pub(crate) fn intents(&self) -> String {
        format!("{}:{{events}}:intents", self.0)
    }

    /// Those who wait for leaves of the queue with this channel.
    pub(crate) fn idle(channel: &str) -> String {
        channel.strip_suffix("stream").unwrap_or(channel).to_owned() + "idle"
    }

    /// The channel on which one that waits for leaves is woken.
    pub(crate) fn wakes(&self, number: u64) -> String {
        format!("{}:wake:{number:016x}", self.0)
    }

    /// What the channels of changes start with.
    pub(crate) fn changes(&self) -> String {
        format!("{}:changed:", self.0)
    }

    /// The channel on which changes of a run are hinted at that do not decide it, without its start.
    pub(crate) fn change_channel(run: RunId) -> u128 {
        (run.uuid().as_u128() >> 32) % CHANGE_CHANNELS
    }

    /// The one on which it is hinted at that the run is decided, has ended or was forgotten, without its
    /// start: who waits for a value hears of no step before.
    pub(crate) fn decision_channel(run: RunId) -> String {
        format!("{DECISIONS}{}", Self::change_channel(run))
    }

    fn line(&self, place: &str) -> Line {
        let key = |what: &str| [&self.0, ":", place, what].concat();
        let (stream, again, apart) = (key("stream"), key("again"), key("apart"));
        Line { channel: stream.clone(), stream, again, apart, gone: None, stays: false }
    }
}

fn lane_place(queue: &str, lane: Lane) -> String {
    if lane == Lane::default() {
        format!("{{q:{queue}}}:")
    } else {
        format!("{{q:{queue}}}:l{}:", lane.place())
    }
}

fn reports_place(queue: &str, is_bulk: bool) -> String {
    ["{q:", queue, "}:done:", if is_bulk { "bulk:" } else { "" }].concat()
}

impl ReportsOf {
    /// Both kinds of a queue.
    pub(crate) fn both(queue: &Arc<str>) -> [Self; 2] {
        [false, true].map(|is_bulk| Self { is_bulk, queue: queue.clone() })
    }
}

impl Line {
    /// How many keys a line has.
    pub(crate) const WIDTH: usize = 3;

    pub(crate) fn keys(&self) -> [&str; Self::WIDTH] {
        [&self.stream, &self.again, &self.apart]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_run_and_of_a_queue_share_a_slot_each() {
        let keys = Keys::new("app");
        let run = RunId::from_parts(1, 2);
        assert_eq!(keys.run(run).hash(), format!("app:{{{run}}}:run"));
        let line = keys.queue("mail", Lane::default());
        assert_eq!(line.keys(), ["app:{q:mail}:stream", "app:{q:mail}:again", "app:{q:mail}:apart"]);
        let urgent = keys.queue("mail", Lane::new(9, false));
        assert_eq!((urgent.stream.as_str(), &urgent.channel), ("app:{q:mail}:l0:stream", &line.stream));
        for (reports, place) in ReportsOf::both(&"mail".into()).iter().zip(["done:", "done:bulk:"]) {
            let stream = keys.reports(reports).stream;
            assert_eq!(stream, format!("app:{{q:mail}}:{place}stream"));
            assert_eq!(keys.report_stream("mail", Lane::new(3, reports.is_bulk)), stream);
            assert_eq!(keys.reports_of(&stream).as_ref(), Some(reports));
            assert_eq!(keys.place_of(&stream), None, "it is no lane");
        }
        assert_eq!(keys.reports_of(&line.stream), None);
        let [delayed, expiring] = keys.timers("mail", Lane::new(9, false));
        for key in [&urgent.stream, &delayed, &expiring] {
            assert_eq!(keys.place_beside(key), Some(("mail".into(), Lane::new(9, false))));
        }
        let ordinary = ReportsOf { is_bulk: false, queue: "mail".into() };
        let own = Some(("mail".into(), Lane::default()));
        assert_eq!(keys.place_beside(&keys.reports(&ordinary).stream), own, "no lane is added");
        let bulk = ReportsOf { is_bulk: true, queue: "mail".into() };
        assert!(keys.place_beside(&keys.reports(&bulk).stream).is_some_and(|(_, lane)| lane.is_bulk()));
        assert_eq!(keys.place_beside(&line.again), None);
        assert_eq!(keys.run_of(&keys.run(run).hash()), Some(run));
        assert_eq!(keys.run_of(&keys.run(run).plan()), None);
        for (queue, lane) in [("mail", Lane::default()), ("a}b", Lane::new(9, false))] {
            assert_eq!(keys.place_of(&keys.queue(queue, lane).stream), Some((queue.into(), lane)));
        }
        assert_eq!(
            (keys.submissions().stream.as_str(), keys.runs().as_str()),
            ("app:{events}:stream", "app:{events}:runs")
        );
    }
}
