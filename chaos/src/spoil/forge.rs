//! Entries that look as they should, and are not.

use std::sync::Arc;

use celeriac::primitives::{
    Call, Json, Outcome, Retry, RunId, TaskError, TaskId, TaskMessage, TaskName, When,
};
use celeriac_conformance::random::Rng;

use super::mangle::noise;

/// Such entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forged {
    /// A leaf of the run, or a report on one, or its submission, and nothing behind the head.
    Head,
    /// And bytes of no meaning.
    HeadAndNoise,
    /// Of no run.
    OfNoRun,
    /// Of a node that the run does not have.
    OfNoNode,
    /// Another incarnation.
    OfAnother,
    /// Deep JSON as argument or value.
    Deep,
    /// A value that is no JSON.
    NoJson,
    /// A canvas that is nested deeply, as replacement or argument.
    DeepCanvas,
    /// The header of a chord is an object, and so on.
    DeepHeader,
    /// 100,000 callbacks.
    ManyLinks,
    /// A failure with a text of megabytes.
    LongError,
    /// A leaf that runs again, at the end of time.
    AgainAtTheEnd,
    /// A task that nobody has.
    NoTask,
    /// Many megabytes.
    Large,
    /// A format of tomorrow.
    Tomorrow,
}

impl Forged {
    pub(crate) const ALL: [Self; 15] = [
        Self::Head,
        Self::HeadAndNoise,
        Self::OfNoRun,
        Self::OfNoNode,
        Self::OfAnother,
        Self::Deep,
        Self::NoJson,
        Self::DeepCanvas,
        Self::DeepHeader,
        Self::ManyLinks,
        Self::LongError,
        Self::AgainAtTheEnd,
        Self::NoTask,
        Self::Large,
        Self::Tomorrow,
    ];

    /// The field and the value of such an entry of this stream.
    pub(crate) fn entry(self, stream: &str, head: &[u8; 28], rng: &mut Rng) -> (&'static str, Vec<u8>) {
        let mut head = *head;
        match self {
            Self::OfNoRun => {
                let none = RunId::from_parts(rng.next_u64() >> 20, rng.next_u64());
                head[..12].copy_from_slice(&none.uuid().as_bytes()[..12]);
            }
            Self::OfNoNode => head[12..16].copy_from_slice(&(1_000_000 + rng.below(1000)).to_be_bytes()),
            Self::OfAnother => head[20..].copy_from_slice(&noise(8, rng)),
            _ => {}
        }
        if stream.contains("{events}") {
            // A run is written as its id and its incarnation.
            let mut run = [&head[..12], &[0; 4], &head[20..]].concat();
            match self {
                Self::Head => run.truncate(16),
                Self::HeadAndNoise => run.extend(noise(9, rng)),
                Self::Tomorrow => run = vec![0xc1, 0x80],
                Self::Large => run.resize(4 << 20, b'x'),
                _ => {}
            }
            return ("s", run);
        }
        let is_report = stream.contains(":done:");
        let rest = match self {
            Self::Head => Vec::new(),
            Self::HeadAndNoise => noise(40, rng),
            Self::Tomorrow => [&[0xc1, 0x80][..], &noise(40, rng)].concat(),
            _ if is_report => pack(&self.outcome()),
            _ => self.message(head),
        };
        (if is_report { "c" } else { "m" }, [&head[..], &rest].concat())
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Deep => Outcome::Success(Json::from_compact(deep("[", "1", "]"))),
            Self::NoJson => Outcome::Success(Json::from_compact("}{ \u{1} no JSON")),
            Self::DeepCanvas | Self::DeepHeader | Self::ManyLinks => Outcome::Replace(self.json()),
            Self::LongError => Outcome::Failed(TaskError::new("Long", "e".repeat(3 << 20))),
            Self::AgainAtTheEnd => {
                let start = Some(When::After(u64::MAX));
                Outcome::Retry(Box::new(Retry { start, ..Retry::new(TaskError::new("Busy", "later")) }))
            }
            Self::Large => Outcome::Success(Json::string(&"x".repeat(9 << 20))),
            _ => Outcome::Success(Json::from_compact("1")),
        }
    }

    fn message(self, head: [u8; 28]) -> Vec<u8> {
        let name = if self == Self::NoTask { "of.nobody" } else { "add" };
        let task = TaskName::new(name).expect("it is a good name");
        let id: TaskId = pack_id(&head);
        let argument = match self {
            Self::NoJson => Json::from_compact("}{ no JSON"),
            Self::Large => Json::string(&"x".repeat(9 << 20)),
            _ => self.json(),
        };
        let kwargs = Json::from_compact("{}");
        let message = TaskMessage::new(id, 1, task, Call::Once, Json::list(&[argument]), kwargs);
        pack(&Arc::new(message).as_ref())
    }

    /// A canvas, or what looks like one.
    fn json(self) -> Json {
        let text = match self {
            Self::DeepCanvas => deep(
                r#"{"task":"celery.chain","args":[],"kwargs":{"tasks":["#,
                r#"{"task":"add","args":[1,1],"kwargs":{}}"#,
                "]}}",
            ),
            Self::DeepHeader => {
                deep(r#"{"task":"celery.chord","kwargs":{"header":{"a":"#, "1", r#"},"body":null}}"#)
            }
            Self::ManyLinks => {
                let link = r#"{"task":"add","args":[1],"kwargs":{},"options":{}}"#;
                let links = vec![link; 100_000].join(",");
                format!(r#"{{"task":"add","args":[1,1],"kwargs":{{}},"options":{{"link":[{links}]}}}}"#)
            }
            _ => deep("[", "1", "]"),
        };
        Json::from_compact(text)
    }
}

/// A text in so many others.
fn deep(start: &str, inner: &str, end: &str) -> String {
    const DEEP: usize = 10_000;
    [&start.repeat(DEEP), inner, &end.repeat(DEEP)].concat()
}

fn pack(value: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("it has a MessagePack form")
}

/// The task id that a head starts with.
fn pack_id(head: &[u8; 28]) -> TaskId {
    let id = uuid::Uuid::from_slice(&head[..16]).expect("an id has sixteen bytes");
    TaskId::from_uuid(id).expect("the head is of a leaf")
}
