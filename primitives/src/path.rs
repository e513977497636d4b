//! Where in a canvas a node or an error is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way down from a canvas to a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Segment {
    /// A step of a chain.
    Chain(u32),
    /// A member of a group.
    Group(u32),
    /// A member of a chord's header.
    Header(u32),
    /// A chord's body.
    Body,
    /// One of the chunks that run as starmaps.
    Chunk(u32),
    /// A callback.
    Link(u32),
    /// An error callback.
    LinkError(u32),
    /// The task inside a map, a starmap or chunks.
    Mapped,
    /// What runs when a canvas has ended, either way.
    Finally(u32),
    /// What runs in the place of a leaf that was replaced.
    Replacement,
    /// One of the canvases that a leaf added to the list that its value goes into.
    Added(u32),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(i) => write!(f, "chain[{i}]"),
            Self::Group(i) => write!(f, "group[{i}]"),
            Self::Header(i) => write!(f, "header[{i}]"),
            Self::Body => f.write_str("body"),
            Self::Chunk(i) => write!(f, "chunk[{i}]"),
            Self::Link(i) => write!(f, "link[{i}]"),
            Self::LinkError(i) => write!(f, "link_error[{i}]"),
            Self::Mapped => f.write_str("task"),
            Self::Finally(i) => write!(f, "finally[{i}]"),
            Self::Replacement => f.write_str("replacement"),
            Self::Added(i) => write!(f, "added[{i}]"),
        }
    }
}

/// The way from the outermost canvas to one of its parts, such as `chain[1].header[3]`.
///
/// The outermost canvas itself prints as `canvas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

impl Segment {
    /// Whether what stands below it is called by a canvas and no part of it: a callback, an error callback, or what
    /// runs in either case.
    pub fn is_callback(self) -> bool {
        matches!(self, Self::Link(_) | Self::LinkError(_) | Self::Finally(_))
    }
}

impl Path {
    /// The outermost canvas.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path one step further down.
    #[must_use]
    pub fn child(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// The path of a part of a canvas that stands here.
    #[must_use]
    pub fn join(&self, part: &Path) -> Self {
        self.0.iter().chain(&part.0).copied().collect()
    }

    /// The steps from the top down.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }
}

impl FromIterator<Segment> for Path {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("canvas");
        }
        for (i, segment) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            segment.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_from_the_top_down() {
        let path = Path::root().child(Segment::Chain(1)).child(Segment::Header(3)).child(Segment::Body);
        assert_eq!(path.to_string(), "chain[1].header[3].body");
        assert_eq!(Path::root().to_string(), "canvas");
    }
}
