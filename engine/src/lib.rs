//! The pure core: what a canvas means.
//!
//! [`Plan::compile`] turns a canvas into a DAG of nodes with a tree of scopes; [`RunState::settle`] is the one
//! transition by which a run moves. Nothing here does I/O, reads a clock or draws a random number: completions go
//! in, releases come out, and the same input gives the same output on every machine.
//!
//! ```
//! use celeriac_engine::{Plan, RunState};
//! use celeriac_primitives::{Canvas, Completion, Incarnation, Json, Outcome, RunId, Signature};
//!
//! let canvas = Canvas::from(Signature::new("add")?.arg(4)?.arg(4)?).then(Signature::new("mul")?.arg(8)?);
//! let plan = Plan::compile(&canvas)?;
//! let (mut state, first) = RunState::start(&plan);
//! let add = first[0].node;
//!
//! let run = RunId::from_parts(0, 0).incarnation(Incarnation::new(1));
//! let outcome = Outcome::Success(Json::new(&8)?);
//! let settled = state.settle(&plan, [Completion { task_id: run.task(add), attempt: 1, outcome, incarnation: run.incarnation }]);
//! let message = plan.message(run, settled.released[0], &state).unwrap();
//! assert_eq!((message.task.as_str(), message.args.as_str()), ("mul", "[8,8]"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!  Canvas ──lower──► Plan ──start──► RunState ──settle(completion)──► released nodes ──message──► leaves
//! ```

pub mod advance;
pub mod eager;
pub mod plan;
pub mod render;
pub mod text;
pub mod view;

pub use advance::{Release, RunOutcome, RunState, Settled, Verdict};
pub use plan::{CompileError, Plan};
