//! Celery's Canvas as a durable workflow engine.
//!
//! ```
//! use celeriac::prelude::*;
//!
//! #[task(name = "proj.tasks.add")]
//! async fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! #[task(name = "proj.tasks.xsum")]
//! async fn xsum(numbers: Vec<i64>) -> i64 {
//!     numbers.iter().sum()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = App::embedded().tasks(tasks![add, xsum]).build()?;
//! let run = app.submit(canvas!(group(add.s(i, i) for i in 0..10) | xsum.s())).await?;
//! assert_eq!(run.get().await?, 90);
//! # Ok(())
//! # }
//! ```
//!
//! A canvas (signature, chain, group, chord, map, starmap, chunks, nested in any way) is data. Submitted, it
//! is compiled into a DAG, the plan, and stored; a coordinator advances it on completion events; workers run
//! leaf tasks and know nothing of graphs.
//!
//! ```text
//! typed Rust   add.s((4, 4)) | mul.s(8) ┐
//! macro        canvas!(add.s(4, 4) | …) ├─► Canvas ──► Plan ──submit──► Run in the store ──► queue
//! text         "add.s(4,4) | mul.s(8)"  │                                  ▲                  │
//! Celery JSON  {"task":"celery.chain",…}┘                                settle ◄── coordinator ◄── worker
//! ```
//!
//! This crate only gathers the others under one name; each says what it is for.

pub use celeriac_backends as backends;
pub use celeriac_cli as cli;
pub use celeriac_dsl as dsl;
pub use celeriac_engine as engine;
pub use celeriac_memory as memory;
pub use celeriac_primitives as primitives;
#[cfg(feature = "redis")]
pub use celeriac_redis as redis;
pub use celeriac_runtime as runtime;

#[doc(hidden)]
pub use celeriac_dsl::__private;
pub use celeriac_dsl::{canvas, task, tasks};
pub use celeriac_primitives::{Canvas, Signature};
pub use celeriac_runtime::{App, Handle};

/// What most programs need: `use celeriac::prelude::*`.
pub mod prelude {
    pub use celeriac_dsl::{
        Flow, Ignore, Reject, Retry, State, Task, TaskContext, canvas, chain, chord, group, task, tasks,
    };
    pub use celeriac_primitives::{
        Canvas, Compression, Entry, Failure, OnFailure, Options, RetryPolicy, Signature, TaskError, TaskState,
    };
    pub use celeriac_runtime::{App, Apply, CoordinatorOptions, GetError, Handle, WorkerOptions};
}

/// The code of the README and of the guide, compiled and run.
#[cfg(doctest)]
mod guide {
    macro_rules! pages {
        ($($name:ident $file:literal)*) => {
            $(#[doc = include_str!(concat!("../", $file))] mod $name {})*
        };
    }
    pages! {
        readme "README.md"
        first_steps "docs/first-steps.md"
        tasks "docs/tasks.md"
        calling "docs/calling.md"
        canvas "docs/canvas.md"
        workers "docs/workers.md"
        routing "docs/routing.md"
        security "docs/security.md"
    }
}
