//! What a worker receives.

use serde::{Deserialize, Serialize};

use crate::{Json, TaskId, TaskName};

/// One attempt at one leaf, ready to run: name and arguments, and nothing of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMessage {
    /// The run and node this is a leaf of.
    pub task_id: TaskId,
    /// Which attempt at the leaf this is: 1, 2, 3, …
    pub attempt: u32,
    /// The task to run.
    pub task: TaskName,
    /// How the arguments are to be read.
    pub call: Call,
    /// The positional arguments, a JSON list; for a map the list of items.
    pub args: Json,
    /// The keyword arguments, a JSON object.
    pub kwargs: Json,
}

/// How often a leaf calls its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Call {
    /// Once, with `args` and `kwargs`.
    Once,
    /// Once per item of `args`, with the item as the only argument.
    Map,
    /// Once per item of `args`, with the item as the list of arguments.
    Starmap,
}
