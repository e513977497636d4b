//! Values that are kept apart from whoever carries them.
//!
//! A large value does not travel with reports and messages. It is stored in its run, under a name that no
//! other value has, and what travels is a reference. Values that are put together from such ones are known
//! by their pieces.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Addition, Entry, Json, JsonError, NodeNo, Outcome, Own, RunRef, TaskError};

/// Where a text is stored, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stored {
    /// The run that owns it.
    pub run: RunRef,
    /// Its name there.
    pub name: Uuid,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether it is an argument of the canvas, which is stored with the plan.
    pub of_plan: bool,
}

/// A piece of a value's JSON text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// The text itself.
    Text(std::sync::Arc<str>),
    /// The result of another leaf of the same run.
    Result(NodeNo),
    /// The same as an item of a list, with those that it has added.
    Item(NodeNo),
    /// The same as an item of a list that collects failures.
    Entry(NodeNo),
    /// A text that is stored by itself.
    Stored(Stored),
    /// A piece that belongs to another run.
    Of(RunRef, Box<Piece>),
}

impl fmt::Debug for Piece {
    /// Without the text: that is somebody's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "<{} bytes of JSON>", text.len()),
            Self::Result(node) => write!(f, "Result({node})"),
            Self::Item(node) => write!(f, "Item({node})"),
            Self::Entry(node) => write!(f, "Entry({node})"),
            Self::Stored(stored) => stored.fmt(f),
            Self::Of(run, piece) => f.debug_tuple("Of").field(run).field(piece).finish(),
        }
    }
}

/// A text in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rope {
    /// How many bytes the text has.
    pub bytes: u64,
    /// Its pieces.
    pub pieces: Vec<Piece>,
}

/// A success whose value is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// The value.
    pub value: Rope,
    /// The items that follow it in the list it goes into, with commas between them, when the task had added
    /// some.
    pub added: Option<Rope>,
}

/// What is to run in the place of a leaf, or is added by it, kept apart: the JSON of a canvas, or of an
/// [`Addition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The text.
    pub stored: Stored,
    /// Whether it is an addition.
    pub adds: bool,
}

impl Asked {
    /// The outcome of which this is the text.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(&self, text: Json) -> Result<Outcome, JsonError> {
        Ok(if self.adds { Outcome::Add(text.to()?) } else { Outcome::Replace(text) })
    }
}

/// A part of a text, all references looked through: at hand, or to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// At hand.
    Text(Cow<'t, str>),
    /// To be fetched.
    Stored(Stored),
}

impl Part<'_> {
    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Stored(stored) => stored.bytes,
        }
    }
}

impl Piece {
    /// The leaf whose result it is, and its run; `run` is the one in which the piece stands.
    pub fn leaf(&self, run: RunRef) -> Option<(RunRef, NodeNo)> {
        match self {
            Self::Text(_) | Self::Stored(_) => None,
            Self::Result(node) | Self::Item(node) | Self::Entry(node) => Some((run, *node)),
            Self::Of(run, piece) => piece.leaf(*run),
        }
    }

    /// About how many bytes it takes to carry it.
    pub fn weight(&self) -> usize {
        const REFERENCE: usize = 64;
        if let Self::Text(text) = self { text.len() } else { REFERENCE }
    }

    /// How many bytes it has; `None` when the result is not there.
    pub fn bytes<'r>(&self, result: impl FnOnce(NodeNo) -> Option<&'r Outcome>) -> Option<u64> {
        match self {
            Self::Text(text) => Some(text.len() as u64),
            Self::Stored(stored) => Some(stored.bytes),
            Self::Result(node) => result(*node)?.bytes(),
            Self::Item(node) => result(*node)?.item_bytes(),
            Self::Entry(node) => Some(result(*node)?.item_bytes()? + Entry::OK.len() as u64 + 1),
            Self::Of(..) => None,
        }
    }

    /// Adds its parts; `None` when a result is not there. `run` is the one in which the piece stands.
    pub fn parts<'r>(
        &'r self,
        run: RunRef,
        result: &impl Fn(RunRef, NodeNo) -> Option<&'r Outcome>,
        out: &mut Vec<Part<'r>>,
    ) -> Option<()> {
        match self {
            Self::Text(text) => out.push(Part::Text(Cow::Borrowed(text))),
            Self::Stored(stored) => out.push(Part::Stored(*stored)),
            Self::Result(node) => result(run, *node)?.value_parts(run, result, out)?,
            Self::Item(node) => {
                let outcome = result(run, *node)?;
                outcome.value_parts(run, result, out)?;
                outcome.added_parts(run, result, out)?;
            }
            Self::Entry(node) => {
                let outcome = result(run, *node)?;
                out.push(Part::Text(Cow::Borrowed(Entry::OK)));
                outcome.value_parts(run, result, out)?;
                out.push(Part::Text(Cow::Borrowed("}")));
                outcome.added_parts(run, result, out)?;
            }
            Self::Of(run, piece) => piece.parts(*run, result, out)?,
        }
        Some(())
    }
}

impl Addition {
    /// About how many bytes it takes to carry it.
    pub fn weight(&self) -> usize {
        let own = match &self.own {
            Own::Value(own) | Own::Canvas(own) => own.as_str().len(),
            Own::Apart(_) => 0,
        };
        own + self.added.iter().map(|json| json.as_str().len()).sum::<usize>()
    }
}

impl Rope {
    /// A text that is stored by itself.
    pub fn stored(stored: Stored) -> Self {
        Self { bytes: stored.bytes, pieces: vec![Piece::Stored(stored)] }
    }

    /// Adds its parts; `None` when a result is not there. `run` is the one in which it stands.
    pub fn parts<'r>(
        &'r self,
        run: RunRef,
        result: &impl Fn(RunRef, NodeNo) -> Option<&'r Outcome>,
        out: &mut Vec<Part<'r>>,
    ) -> Option<()> {
        self.pieces.iter().try_for_each(|piece| piece.parts(run, result, out))
    }
}

impl Outcome {
    /// A success whose value is stored by itself.
    pub fn stored(stored: Stored) -> Self {
        Self::Apart(Box::new(Apart { value: Rope::stored(stored), added: None }))
    }

    /// How many bytes the value has; `None` when there is none.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Apart(apart) => Some(apart.value.bytes),
            other => other.text().map(|text| text.len() as u64),
        }
    }

    /// How many bytes an item has, with those that it has added.
    fn item_bytes(&self) -> Option<u64> {
        let added = match self {
            Self::Apart(apart) => apart.added.as_ref().map_or(0, |added| added.bytes + 1),
            Self::Members(members) => members.added.iter().map(|item| item.text().len() as u64 + 1).sum(),
            _ => 0,
        };
        Some(self.bytes()? + added)
    }

    /// About how many bytes it takes to carry it.
    pub fn weight(&self) -> usize {
        let error = |error: &TaskError| {
            error.kind.len() + error.message.len() + error.causes.iter().map(String::len).sum::<usize>()
        };
        match self {
            Self::Success(value) | Self::Replace(value) => value.as_str().len(),
            Self::Members(members) => {
                members.value.as_str().len()
                    + members.added.iter().map(|item| item.text().len()).sum::<usize>()
            }
            Self::Add(addition) => addition.weight(),
            Self::Apart(_) => self.pieces().map(Piece::weight).sum(),
            Self::Failed(failed) => error(failed),
            Self::ReplacementFailed(failure) => error(&failure.error),
            Self::Retry(retry) => {
                let arguments =
                    retry.arguments.iter().map(|(args, kwargs)| args.as_str().len() + kwargs.as_str().len());
                error(&retry.error) + arguments.sum::<usize>()
            }
            Self::Rejected(reason) | Self::Revoked(reason) | Self::Undecodable(reason) => reason.len(),
            Self::Ignored
            | Self::Expired
            | Self::TimedOut { .. }
            | Self::WorkerLost { .. }
            | Self::Asked(_)
            | Self::UnknownTask => 0,
        }
    }

    /// The pieces that it refers to.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let apart = if let Self::Apart(apart) = self { Some(&**apart) } else { None };
        apart.into_iter().flat_map(|apart| {
            apart.value.pieces.iter().chain(apart.added.iter().flat_map(|added| &added.pieces))
        })
    }

    /// The texts that are stored for it.
    pub fn stored_texts(&self) -> Vec<Stored> {
        match self {
            Self::Retry(retry) => {
                return retry.stored.iter().flat_map(|stored| [stored.0, stored.1]).collect();
            }
            Self::Asked(asked) => return vec![asked.stored],
            _ => {}
        }
        let stored = |piece: &Piece| if let Piece::Stored(stored) = piece { Some(*stored) } else { None };
        self.pieces().filter_map(stored).collect()
    }

    /// Adds the parts of the value; `None` when there is none. `run` is that of the leaf.
    pub fn value_parts<'r>(
        &'r self,
        run: RunRef,
        result: &impl Fn(RunRef, NodeNo) -> Option<&'r Outcome>,
        out: &mut Vec<Part<'r>>,
    ) -> Option<()> {
        match self {
            Self::Apart(apart) => apart.value.parts(run, result, out),
            other => {
                out.push(Part::Text(Cow::Borrowed(other.text()?)));
                Some(())
            }
        }
    }

    /// Adds the parts of what was added, each item after a comma.
    fn added_parts<'r>(
        &'r self,
        run: RunRef,
        result: &impl Fn(RunRef, NodeNo) -> Option<&'r Outcome>,
        out: &mut Vec<Part<'r>>,
    ) -> Option<()> {
        let comma = || Part::Text(Cow::Borrowed(","));
        match self {
            Self::Apart(apart) => {
                if let Some(added) = &apart.added {
                    out.push(comma());
                    added.parts(run, result, out)?;
                }
            }
            Self::Members(members) => {
                for item in &members.added {
                    out.push(comma());
                    out.push(Part::Text(item.text()));
                }
            }
            _ => {}
        }
        Some(())
    }
}
