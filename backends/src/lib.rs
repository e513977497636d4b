//! What celeriac needs of a store and a queue.
//!
//! Four capabilities, each a trait: [`Store`] keeps runs and takes the one atomic step, [`Queue`]
//! carries leaves to workers and their completions back, [`Events`] carries what has happened to
//! coordinators, and [`DeadLetters`] keeps what nobody can read or handle. A [`Backend`] has all four.
//! All backends share one [`BackendError`], pass the suite in `celeriac-conformance`, and have the same
//! file names: `store.rs`, `queue.rs`, `events.rs`, `dead.rs`.
//!
//! ```text
//!  submit ──► Store ──► Events ──► coordinator ──settle──► Store ──dispatch──► Queue ──► worker
//!                          ▲                                                     │
//!                          └──────────────────── finish ◄────────────────────────┘
//! ```
//!
//! A run may own segments, which run in the place of its leaves: runs of their own with an [`Origin`].
//!
//! Every operation is atomic and may be repeated: a caller that does not know whether an operation
//! happened issues the same operation again.

mod dead;
mod error;
mod events;
mod growth;
mod queue;
mod store;

pub use dead::{DeadLetter, DeadLetters, LetterFrom, LetterId, Requeued};
pub use error::{BackendError, ErrorKind};
pub use events::{Event, EventDelivery, EventId, Events};
pub use growth::{Grown, Origin};
pub use queue::{Begin, Delivery, DeliveryId, Lane, LaneOrder, Queue, Swept, Take, WorkerId};
pub use store::{Advance, Advanced, Dispatch, Known, NewRun, Progress, RunStatus, Store, Submitted};

/// A store, a queue, events and dead letters that work together: what an app runs on.
pub trait Backend: Store + Queue + Events + DeadLetters + std::fmt::Debug + Send + Sync + 'static {}

impl<T: Store + Queue + Events + DeadLetters + std::fmt::Debug + Send + Sync + 'static> Backend for T {}

/// The queue of leaves that name none, as in Celery.
pub const DEFAULT_QUEUE: &str = "celery";
