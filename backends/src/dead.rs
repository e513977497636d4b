//! Dead letters: what nobody can read or handle, where a person can see it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{BackendError, Lane};

/// Keeps what was set aside: entries that are no leaf, report or submission, and events that have come
/// too often. There is room for a bounded number of them; then the oldest go.
#[async_trait]
pub trait DeadLetters {
    /// The dead letters after this one, at most so many, the oldest first.
    async fn dead_letters(
        &self,
        after: Option<LetterId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BackendError>;

    /// Puts a dead letter back where it came from, as if it had just come there.
    ///
    /// Repeated when nobody knows whether it was done, it may come twice: the second changes nothing
    /// that the first has done.
    async fn requeue(&self, letter: LetterId) -> Result<Requeued, BackendError>;

    /// Removes a dead letter; whether it was there.
    async fn drop_letter(&self, letter: LetterId) -> Result<bool, BackendError>;
}

/// Names a dead letter: when it was set aside, in ms since 1970, and a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId(pub u64, pub u64);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = || {
            let (ms, sequence) = text.split_once('-')?;
            Some(Self(ms.parse().ok()?, sequence.parse().ok()?))
        };
        id().ok_or_else(|| "the id of a dead letter is two numbers, such as 1764500000000-0".to_owned())
    }
}

/// Something that was set aside.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What to requeue or drop.
    pub id: LetterId,
    /// Where it was; `None` when that cannot be read either.
    pub from: Option<LetterFrom>,
    /// Its id there.
    pub entry: String,
    /// How often it had been delivered.
    pub deliveries: u32,
    /// Why it was set aside.
    pub reason: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether all of it is here. Of what is large only the beginning is kept, and that cannot be
    /// requeued.
    pub is_whole: bool,
    /// Its fields and values, as bytes.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for DeadLetter {
    /// Without the fields: they are somebody's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, from, deliveries, bytes, .. } = self;
        let mut letter = f.debug_struct("DeadLetter");
        letter.field("id", id).field("from", from).field("deliveries", deliveries).field("bytes", bytes);
        letter.finish_non_exhaustive()
    }
}

/// Where a dead letter was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterFrom {
    /// Among the leaves of a queue.
    Leaves(Arc<str>, Lane),
    /// Among the reports on leaves of a queue; whether on those in bulk.
    Reports(Arc<str>, bool),
    /// Among the submissions.
    Submissions,
}

impl fmt::Display for LetterFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaves(queue, _) => write!(f, "queue {queue}"),
            Self::Reports(queue, _) => write!(f, "reports of {queue}"),
            Self::Submissions => f.write_str("submissions"),
        }
    }
}

/// What became of a dead letter that was to be requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requeued {
    /// It is back where it came from.
    Yes,
    /// There is no such letter.
    Unknown,
    /// It is not whole, or does not say where it came from. It is still there.
    Cannot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_letter_is_read_as_it_is_written() {
        let id = LetterId(1_764_500_000_000, 7);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "7", "7-", "-7", "a-b", "1-2-3"] {
            assert!(wrong.parse::<LetterId>().unwrap_err().contains("1764500000000-0"), "{wrong}");
        }
    }
}
