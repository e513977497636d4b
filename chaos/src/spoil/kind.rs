//! The kinds of keys, as `backends/redis/src/keys.rs` lists them; a test reads that list, so that a kind
//! which is new there is one here, too.

use super::deed::Type;
use super::scene::Scene;

/// What all keys start with.
pub(crate) const PREFIX: &str = "celeriac";

/// One kind of key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// As it stands in the list.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds them against the list"))]
    pub(crate) listed: &'static str,
    pub(crate) of: Of,
    /// What stands after the braces and a colon; a star stands for something that has no braces.
    pub(crate) place: &'static str,
    pub(crate) holds: Type,
    /// What is under way when such a key is there.
    pub(crate) scene: Scene,
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Run,
    Queue,
    /// Everybody's.
    App,
    /// No key: what is published there is heard by whoever listens.
    Channel,
}

macro_rules! kinds {
    ($($listed:literal $of:ident $place:literal $holds:ident $scene:ident)*) => {
        /// All of them.
        pub(crate) const KINDS: &[Kind] = &[$(Kind {
            listed: $listed,
            of: Of::$of,
            place: $place,
            holds: Type::$holds,
            scene: Scene::$scene,
        }),*];
    };
}

kinds! {
    "{<run>}:run" Run "run" Hash Small
    "{<run>}:states" Run "states" String Wide
    "{<run>}:plan" Run "plan" String Wide
    "{<run>}:segments" Run "segments" Hash Growing
    "{<run>}:literals" Run "literals" Hash Large
    "{<run>}:texts" Run "texts" Set Large
    "{<run>}:text:<name>" Run "text:*" Hash Large
    "{<run>}:…:stage:…" Run "*:stage:*" Hash Wide
    "{q:<name>}:stream" Queue "stream" Stream Small
    "{q:<name>}:again" Queue "again" List Small
    "{q:<name>}:apart" Queue "apart" List Small
    "{q:<name>}:delayed" Queue "delayed" Zset Timed
    "{q:<name>}:expiring" Queue "expiring" Zset Timed
    "{q:<name>}:l<place>:…" Queue "l*:stream" Stream Urgent
    "{q:<name>}:l<place>:…" Queue "l*:again" List Urgent
    "{q:<name>}:l<place>:…" Queue "l*:apart" List Urgent
    "{q:<name>}:l<place>:…" Queue "l*:delayed" Zset Urgent
    "{q:<name>}:l<place>:…" Queue "l*:expiring" Zset Urgent
    "{q:<name>}:gone" Queue "gone" Zset Forgotten
    "{q:<name>}:idle" Queue "idle" Zset Small
    "{q:<name>}:done:…" Queue "done:stream" Stream Small
    "{q:<name>}:done:…" Queue "done:again" List Small
    "{q:<name>}:done:…" Queue "done:apart" List Small
    "{q:<name>}:done:bulk:…" Queue "done:bulk:stream" Stream Wide
    "{q:<name>}:done:bulk:…" Queue "done:bulk:again" List Wide
    "{q:<name>}:done:bulk:…" Queue "done:bulk:apart" List Wide
    "{q:<name>}:…:aside:<ms>" Queue "*:aside:*" String Small
    "{events}:…" App "stream" Stream Small
    "{events}:…" App "again" List Small
    "{events}:…" App "apart" List Small
    "{events}:names" App "names" Zset Small
    "{events}:lanes" App "lanes" Set Urgent
    "{events}:reports" App "reports" Zset Small
    "{events}:timers" App "timers" Zset Timed
    "{events}:runs" App "runs" Zset Small
    "{events}:ended" App "ended" Zset Small
    "{events}:gone" App "gone" Set Forgotten
    "{events}:dead" App "dead" Stream Small
    "{events}:intents" App "intents" Zset Small
    "{events}:…:aside:<ms>" App "*:aside:*" String Small
    "" Channel "" Channel Small
}

impl Kind {
    /// Whether this key is one of them.
    pub(crate) fn has(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(":{")) else {
            return false;
        };
        let Some((braces, place)) = rest.split_once("}:") else { return false };
        let of = match braces {
            "events" => Of::App,
            queue if queue.starts_with("q:") => Of::Queue,
            _ => Of::Run,
        };
        of == self.of && fits(place, self.place)
    }

    /// A key of this kind, of this run or queue, for where there is none.
    pub(crate) fn made_up(&self, run: &str, queue: &str) -> String {
        let braces = match self.of {
            Of::Run => run.to_owned(),
            Of::Queue => format!("q:{queue}"),
            Of::App | Of::Channel => "events".to_owned(),
        };
        let place = match self.place {
            "*:stage:*" => "run:stage:00".to_owned(),
            place if place.starts_with("l*") => place.replace('*', "0"),
            place => place.replace('*', "00"),
        };
        format!("{PREFIX}:{{{braces}}}:{place}")
    }
}

/// Whether a text is what a pattern says; each star stands for any text.
fn fits(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| fits(&text[at..], rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::deed::deeds;
    use super::*;

    const LIST: &str = include_str!("../../../backends/redis/src/keys.rs");

    #[test]
    fn every_key_that_there_is_has_a_kind_and_faults() {
        let listed = LIST.lines().filter_map(|line| line.strip_prefix("//! celeriac:"));
        let listed: BTreeSet<&str> = listed.map(|line| line.split(' ').next().unwrap()).collect();
        let known: BTreeSet<&str> =
            KINDS.iter().filter(|kind| kind.of != Of::Channel).map(|kind| kind.listed).collect();
        assert!(listed.len() > 20, "the list is read");
        assert_eq!(listed, known);
        assert!(KINDS.iter().all(|kind| deeds(kind.holds).len() >= 4));
    }

    #[test]
    fn a_key_is_of_one_kind() {
        let run = "0193a1b2-0000-7000-8000-000000000000";
        for kind in KINDS.iter().filter(|kind| kind.of != Of::Channel) {
            let key = kind.made_up(run, "v1");
            let of: Vec<&str> = KINDS.iter().filter(|kind| kind.has(&key)).map(|kind| kind.place).collect();
            assert_eq!(of, [kind.place], "{key}");
        }
        assert!(!KINDS.iter().any(|kind| kind.has("celeriac:{events}:other")));
        assert!(KINDS.iter().any(|kind| kind.has("celeriac:{q:mail}:l12:stream")));
    }
}
