//! The binary form of messages and completions: one version byte, then MessagePack.
//!
//! Arguments and results stay the JSON text they are; decoding does not look inside them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Completion, TaskMessage};

const VERSION: u8 = 1;

/// Bytes that are no message or completion.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Nothing at all.
    #[error("no bytes")]
    Empty,
    /// Written by another version.
    #[error("the format is version {0}, this program reads version {VERSION}")]
    Version(u8),
    /// Broken.
    #[error("broken bytes: {0}")]
    Broken(#[from] rmp_serde::decode::Error),
    /// More bytes than there should be.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

impl TaskMessage {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are no message of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode(bytes)
    }
}

impl Completion {
    /// The completion as bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a completion.
    ///
    /// # Errors
    /// When the bytes are no completion of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write(&mut bytes, value).expect("messages and completions have a MessagePack form");
    bytes
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (version, mut rest) = bytes.split_first().ok_or(WireError::Empty)?;
    if *version != VERSION {
        return Err(WireError::Version(*version));
    }
    let value = rmp_serde::from_read(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Addition, Apart, Asked, Call, Failure, Item, Json, Members, NodeNo, Outcome, Own, Piece, Retry, Rope,
        RunId, Stored, TaskError, TaskName, TaskState,
    };

    fn message(args: &str) -> TaskMessage {
        let leaf = RunId::from_parts(7, 7).task(NodeNo::from_index(0));
        let task = TaskName::new("proj.tasks.add").unwrap();
        let [args, kwargs] = [args, "{}"].map(|text| Json::parse(text).unwrap());
        TaskMessage::new(leaf, 1, task, Call::Once, args, kwargs)
    }

    #[test]
    fn messages_and_completions_come_back_as_they_were() {
        let message = message("[4,\"ü\",1180591620717411303424]");
        assert_eq!(TaskMessage::decode(&message.encode()).unwrap(), message);
        let value = || Json::parse("[1]").unwrap();
        let failure = Failure {
            task_id: message.task_id,
            node: "replacement.added[0]".to_owned(),
            task: message.task.clone(),
            state: TaskState::Failure,
            error: TaskError::new("ValueError", "boom"),
        };
        let name = uuid::Uuid::from_u128(7);
        let stored = Stored { run: message.run(), name, bytes: 1 << 40, of_plan: false };
        let pieces = vec![Piece::Text("[".into()), Piece::Of(stored.run, Box::new(Piece::Stored(stored)))];
        let rope = Rope { bytes: 9, pieces };
        let added = vec![Item::Value(value()), Item::Failure(Box::new(failure.clone()))];
        for outcome in [
            Outcome::Success(Json::parse("[1]").unwrap()),
            Outcome::Ignored,
            Outcome::Failed(TaskError::new("ValueError", "boom")),
            Outcome::retry(TaskError::new("IOError", "again")),
            Outcome::Rejected("no".into()),
            Outcome::Revoked("revoked".into()),
            Outcome::Expired,
            Outcome::TimedOut { limit_ms: 5 },
            Outcome::WorkerLost { deliveries: 3 },
            Outcome::UnknownTask,
            Outcome::Undecodable("x".into()),
            Outcome::Replace(value()),
            Outcome::ReplacementFailed(Box::new(failure)),
            Outcome::Add(Box::new(Addition { own: Own::Value(value()), added: vec![value()] })),
            Outcome::Add(Box::new(Addition { own: Own::Canvas(value()), added: vec![] })),
            Outcome::Members(Box::new(Members { value: value(), added })),
            Outcome::stored(stored),
            Outcome::Apart(Box::new(Apart { value: rope.clone(), added: Some(rope) })),
            Outcome::Asked(Box::new(Asked { stored, adds: true })),
            Outcome::Retry(Box::new(Retry {
                stored: Some(Box::new((stored, stored))),
                ..Retry::new(TaskError::new("IOError", "again"))
            })),
            Outcome::Add(Box::new(Addition { own: Own::Apart(stored), added: vec![value()] })),
        ] {
            let completion = Completion { attempt: 2, ..message.completion(outcome) };
            assert_eq!(Completion::decode(&completion.encode()).unwrap(), completion);
        }
    }

    #[test]
    fn a_leaf_message_adds_less_than_a_kibibyte_to_its_arguments() {
        let args = format!("[\"{}\"]", "x".repeat(5000));
        assert!(message(&args).encode().len() < args.len() + 1024);
    }

    #[test]
    fn broken_bytes_are_refused() {
        assert!(matches!(TaskMessage::decode(&[]), Err(WireError::Empty)));
        assert!(matches!(TaskMessage::decode(&[9, 1]), Err(WireError::Version(9))));
        let mut bytes = message("[]").encode();
        bytes.push(0);
        assert!(matches!(TaskMessage::decode(&bytes), Err(WireError::Trailing(1))));
        for cut in 1..bytes.len() - 1 {
            assert!(TaskMessage::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
