//! Segments: canvases that run in the place of leaves.

use celeriac_primitives::{Incarnation, RunId, RunRef, TaskId};
use serde::{Deserialize, Serialize};

/// Where a segment belongs. A segment is a run of its own that stands for a leaf of another run, which may be a segment
/// itself; the outermost run owns them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The leaf.
    pub leaf: TaskId,
    /// The attempt that returned the canvas.
    pub attempt: u32,
    /// The outermost run.
    pub root: RunId,
    /// How many leaves in a row were replaced or added something, this one included.
    pub depth: u32,
    /// Whether the leaf adds something to the list that its value goes into: then the segment yields a list, of the leaf's
    /// own value and of what it adds.
    #[serde(default)]
    pub adds: bool,
    /// Which of the runs that ever had the ids of `leaf` and `root`; the segment's own, too.
    #[serde(default)]
    pub incarnation: Incarnation,
}

/// What became of a segment that was to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grown {
    /// It is noted, now or before.
    Noted,
    /// The run would have too many nodes. Nothing was noted.
    Full,
    /// There is no such run.
    Unknown,
}

impl Origin {
    /// The run of the leaf.
    pub fn around(&self) -> RunRef {
        self.leaf.run().incarnation(self.incarnation)
    }

    /// The segment itself.
    pub fn segment(&self) -> RunRef {
        self.around().segment(self.leaf.node(), self.attempt)
    }

    /// The attempt as which the segment reports to its leaf.
    pub fn reports_as(&self) -> u32 {
        self.attempt + 1
    }
}
