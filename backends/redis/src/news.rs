//! What a hint brings that says a run is decided.
//!
//! Where the step that decides a run applies one leaf's success, and its value is short, the hint brings the
//! run's meta and that outcome along: mostly all that is asked for, so that who waits for the value need not
//! look. What comes so was stored before it was said (`scripts/settle.lua`). A hint that brings nothing says
//! what it always did: look.

use celeriac_backends::{Known, RunStatus};
use celeriac_engine::RunOutcome;
use celeriac_primitives::{NodeNo, Outcome, RunId, RunRef};

use crate::meta::{self, Meta};

/// An id, and how many bytes come with it.
const HEAD: usize = 16 + 2;

/// A hint that has to be followed by a look.
pub(crate) fn nothing(run: RunId) -> [u8; HEAD] {
    let mut hint = [0; HEAD];
    hint[..16].copy_from_slice(run.uuid().as_bytes());
    hint
}

/// Of a hint to those who wait for values, each id and what comes with it.
pub(crate) fn split(mut hint: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = hint.split_at_checked(HEAD)?;
        let (id, bytes) = head.split_at(16);
        let (news, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))?;
        hint = rest;
        Some((id, news))
    })
}

/// A run's status and the outcomes of these nodes, when they came with a hint; else the store is to be asked.
pub(crate) fn read(run: RunRef, nodes: &[NodeNo], news: &[u8]) -> Option<(RunStatus, Known)> {
    let (meta, rest) = news.split_at_checked(meta::SIZE)?;
    let (node, outcome) = rest.split_first_chunk()?;
    let node = NodeNo::new(u32::from_be_bytes(*node))?;
    let meta = Meta::unpack("get", meta).ok()?;
    let status = meta.status();
    let is_all = meta.incarnation == run.incarnation
        && status.outcome == RunOutcome::Succeeded
        && nodes.iter().all(|wanted| *wanted == node);
    if !is_all {
        return None;
    }
    let outcome: Outcome = rmp_serde::from_slice(outcome).ok()?;
    let mut known = Known::default();
    known.outcomes.extend(nodes.first().map(|node| (*node, outcome)));
    Some((status, known))
}

#[cfg(test)]
mod tests {
    use celeriac_primitives::{Incarnation, Json};

    use super::*;
    use crate::meta::Digest;

    const NODE: u32 = 7;

    fn run() -> RunRef {
        let id = "0190a6b0-0000-7000-8000-000000000000".parse::<uuid::Uuid>().unwrap();
        RunId::from_uuid(uuid::Uuid::from_u128(id.as_u128() & !0xffff_ffff))
            .unwrap()
            .incarnation(Incarnation::new(11))
    }

    /// The news of a run that stands so.
    fn news(left: u32, failed: u32) -> Vec<u8> {
        let meta = Meta {
            nodes: 9,
            open: 0,
            owed: 0,
            left,
            failed,
            done: 9,
            expected: 9,
            retried: 0,
            retention_ms: 1,
            version: 10,
            digest: Digest::of(b"plan"),
            incarnation: Incarnation::new(11),
        };
        let outcome = rmp_serde::to_vec(&outcome()).unwrap();
        [&meta.pack()[..], &NODE.to_be_bytes(), &outcome].concat()
    }

    fn outcome() -> Outcome {
        Outcome::Success(Json::from_compact("340"))
    }

    fn node(number: u32) -> NodeNo {
        NodeNo::new(number).unwrap()
    }

    #[test]
    fn news_bring_the_status_and_the_outcome_of_one_node() {
        let (status, known) = read(run(), &[node(NODE)], &news(0, 0)).unwrap();
        assert_eq!((status.outcome, status.done, status.version), (RunOutcome::Succeeded, 9, 10));
        assert_eq!(known.outcomes.into_iter().collect::<Vec<_>>(), [(node(NODE), outcome())]);
        let (_, known) = read(run(), &[], &news(0, 0)).unwrap();
        assert!(known.outcomes.is_empty());
    }

    #[test]
    fn the_store_is_asked_when_news_are_of_another_node_or_run_or_say_too_little() {
        let whole = news(0, 0);
        assert!(read(run(), &[node(NODE), node(8)], &whole).is_none());
        assert!(read(run().id.incarnation(Incarnation::new(12)), &[node(NODE)], &whole).is_none());
        assert!(read(run(), &[node(NODE)], &news(1, 0)).is_none());
        assert!(read(run(), &[node(NODE)], &news(1, NODE)).is_none());
        for len in 0..whole.len() {
            assert!(read(run(), &[node(NODE)], &whole[..len]).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn a_hint_is_split_into_ids_and_what_they_bring() {
        let (id, of) =
            (run().id.uuid().into_bytes(), |news: &[u8]| [&(news.len() as u16).to_be_bytes(), news].concat());
        let hint = [&id[..], &of(b"abc"), &nothing(run().id), &id, &of(b"d")].concat();
        let split: Vec<_> = super::split(&hint).collect();
        assert_eq!(split, [(&id[..], &b"abc"[..]), (&id, b""), (&id, b"d")]);
        // What was cut off, or comes from a program of another version, is left out.
        assert_eq!(super::split(&hint[..hint.len() - 1]).count(), 2);
        assert_eq!(super::split(&id).count(), 0);
    }
}
