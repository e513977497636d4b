//! Options for leaves that do not set their own.

use std::sync::LazyLock;

use celeriac_primitives::{LeafOptions, OptionError, Options, TaskName};
use serde::{Deserialize, Serialize};

/// Where a leaf's options come from when they are set neither on it nor on a canvas around it.
#[derive(Clone, Copy)]
pub struct Defaults<'d> {
    /// Of the run: its queue, priority and expiry are for all leaves, its countdown and eta for
    /// those that start it.
    pub run: &'d RunOptions,
    /// Of a task: what it was declared with, and where it is routed to. With the declaration that
    /// the canvas brings along, if any.
    pub task: &'d OfTask<'d>,
}

/// The options of a task, of which the canvas brings this declaration along.
pub type OfTask<'d> = dyn Fn(&TaskName, Option<&Options>) -> RunOptions + 'd;

/// A queue and leaf options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOptions {
    /// The queue.
    pub queue: Option<String>,
    /// All else.
    pub leaf: LeafOptions,
}

impl Defaults<'_> {
    /// None.
    pub fn none() -> Self {
        static NONE: LazyLock<RunOptions> = LazyLock::new(RunOptions::default);
        Self { run: &NONE, task: &|_, _| RunOptions::default() }
    }
}

impl RunOptions {
    /// Reads options.
    ///
    /// # Errors
    /// The first that does not fit.
    pub fn of(options: &Options) -> Result<Self, OptionError> {
        Ok(Self { queue: options.queue(), leaf: LeafOptions::of(options)? })
    }

    /// These, and of `around` what is not set here.
    #[must_use]
    pub fn or(self, around: &Self) -> Self {
        Self { queue: self.queue.or_else(|| around.queue.clone()), leaf: self.leaf.or(&around.leaf) }
    }
}

impl std::fmt::Debug for Defaults<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Defaults").field("run", &self.run).finish_non_exhaustive()
    }
}
