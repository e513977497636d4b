//! Canvas as data.
//!
//! This crate holds the nouns of celeriac: a [`Canvas`] with its [`Signature`]s and [`Options`], the ids, the
//! task states, the [`TaskMessage`] a worker receives and the [`Completion`] it reports. It reads and writes
//! Celery's own JSON form and the operator text that Celery users write. It does no I/O, reads no clock and
//! draws no random number: ids and time are handed in.
//!
//! ```
//! use celeriac_primitives::{Canvas, Signature};
//!
//! let canvas = Canvas::from(Signature::new("proj.tasks.add")?.arg(4)?.arg(4)?)
//!     .then(Signature::new("proj.tasks.mul")?.arg(8)?);
//! assert_eq!(canvas.to_string(), "proj.tasks.add.s(4, 4) | proj.tasks.mul.s(8)");
//!
//! let json = canvas.to_json();
//! assert_eq!(Canvas::from_json(&json)?, canvas);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it leaves to others: what a canvas *means* is the engine's (`celeriac-engine`), how it is written in
//! typed Rust is the DSL's (`celeriac-dsl`).

mod apart;
mod callbacks;
mod canvas;
mod celery;
mod completion;
mod display;
mod id;
mod json;
mod leaf_options;
mod limits;
mod members;
mod message;
mod name;
mod nesting;
mod options;
mod path;
mod policy;
mod signature;
mod state;
mod wire;

pub use apart::{Apart, Asked, Part, Piece, Rope, Stored};
pub use canvas::{Canvas, Chain, Chord, Chunks, Group, Map, MapKind};
pub use celery::CeleryError;
pub use completion::{Completion, Failure, Outcome, Retry, TaskError};
pub use id::{IdError, Incarnation, NodeNo, RunId, RunRef, TaskId};
pub use json::{Json, JsonError};
pub use leaf_options::{Compression, LeafOptions, RetryPolicy, When};
pub use limits::{LimitError, Limits, argument_bytes};
pub use members::{Addition, Item, Members, NotAMember, Own};
pub use message::{Call, TaskMessage};
pub use name::{NameError, TaskName};
pub use options::{OptionError, Options};
pub use path::{Path, Segment};
pub use policy::{Entry, OnFailure};
pub use signature::{Kwargs, Signature};
pub use state::TaskState;
pub use wire::WireError;
