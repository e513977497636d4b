//! Apps, clients, coordinators and workers.
//!
//! An [`App`] is a name, a list of tasks and a backend. It submits canvases and hands out a [`Handle`] for
//! each run. Coordinators and workers take their duty from the backend, any number of each, in this process
//! or in others; they keep nothing that another could not take over.
//!
//! ```
//! use celeriac_dsl::{task, tasks};
//! use celeriac_runtime::App;
//!
//! #[task(crate = celeriac_dsl, name = "proj.tasks.add")]
//! async fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::embedded().tasks(tasks![add]).build()?;
//! let run = app.submit(add.s((4, 4)) | add.s(8)).await?;
//! assert_eq!(run.get().await?, 16);
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!  App::submit ──► backend ──► Coordinator: settle, compose, dispatch ──► backend ──► Worker: run the leaf
//!  Handle::get ◄──────┘              ▲                                                     │
//!                                    └───────────────────── completion ◄──────────────────-┘
//! ```

mod app;
mod coordinator;
mod declared;
mod handle;
mod large;
mod listing;
mod members;
mod panics;
mod patience;
mod registry;
mod submission;
mod vitals;
mod worker;

pub use app::{App, AppBuilder, BuildError, SubmitError};
pub use coordinator::{Coordinator, CoordinatorOptions};
pub use handle::{GetError, Handle, NodeReport};
pub use listing::{RunReport, UnreadableRun};
pub use panics::print_no_payloads;
pub use registry::Registry;
pub use submission::{Apply, Compiled, Submission};
pub use vitals::Vitals;
pub use worker::{Stopper, Worker, WorkerOptions};
