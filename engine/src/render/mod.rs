//! Pictures of a plan: a tree for the terminal, DOT, Mermaid, JSON.
//!
//! All four draw the same: every node with its call and its path, who waits for whom, and which failure releases
//! which error callback. Given how the nodes of a run stand ([`standings`](crate::view::standings)), they show that
//! too. Texts of the user's are shortened and escaped, so that no argument can break a picture or a terminal.
//!
//! ```
//! use celeriac_engine::{Plan, render, text};
//!
//! let canvas = text::parse("chord([add.s(1, 1), add.s(2, 2) | mul.s(3)], xsum.s())")?;
//! let plan = Plan::compile(&canvas)?;
//! assert_eq!(
//!     render::tree(&plan, None, render::FOLD_ABOVE),
//!     "\
//! chord
//! ├─ header[0] n1 add.s(1, 1)
//! ├─ header[1] chain
//! │  ├─ chain[0] n2 add.s(2, 2)
//! │  └─ chain[1] n3 mul.s(n2, 3)
//! └─ body n4 xsum.s([n1, n3])
//! => n4
//! "
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | | data edge | after edge | errback gate | scope |
//! |---|---|---|---|---|
//! | [`tree`] | `n1` among the arguments | `after n1` | `failure of chain[0]` | |
//! | [`dot`] | solid | dashed | dotted, red, from its scope | a cluster |
//! | [`mermaid`] | solid | dotted | dotted, red, from its scope | a subgraph |
//! | [`json`] | `"kind":"data"` | `"kind":"after"` | the node's `gate` | in `scopes` |

mod dot;
mod json;
mod label;
mod mermaid;
mod scopes;
mod tree;

pub use dot::dot;
pub use json::json;
pub use mermaid::mermaid;
pub use tree::{FOLD_ABOVE, tree};

use celeriac_primitives::NodeNo;

use crate::plan::{Edge, Plan};
use crate::view::Standing;

/// How a node stands, when that is known.
fn standing_of(standings: Option<&[Standing]>, node: NodeNo) -> Option<Standing> {
    standings?.get(node.index()).copied()
}

/// For whom a node waits: what it takes, from left to right, then what it only comes after.
fn edges_into(plan: &Plan, node: NodeNo) -> Vec<(NodeNo, Edge)> {
    let mut edges: Vec<_> = plan.predecessors(node).collect();
    edges.sort_unstable_by_key(|(from, edge)| match edge {
        Edge::Data { slot } | Edge::Part { slot, .. } => (0, *slot),
        Edge::After => (1, from.number()),
    });
    edges
}

#[cfg(test)]
mod tests;
