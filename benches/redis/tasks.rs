//! The tasks of the bench, and the ledger in which they note that they were called.

use std::sync::{Arc, Mutex, PoisonError};

use celeriac::dsl::TaskDef;
use celeriac::prelude::*;
use celeriac::primitives::TaskId;

/// The calls in this process, in memory: sixteen bytes each, written out only when the bench asks between two lines.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<TaskId>>);

impl Ledger {
    fn note(&self, context: &TaskContext) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(context.task_id());
    }

    /// Takes out what was noted.
    pub(crate) fn take(&self) -> Vec<TaskId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[task(name = "bench.add")]
pub(crate) async fn add(x: i64, y: i64, context: TaskContext, ledger: State<Arc<Ledger>>) -> i64 {
    ledger.note(&context);
    x + y
}

#[task(name = "bench.xsum")]
pub(crate) async fn xsum(numbers: Vec<i64>, context: TaskContext, ledger: State<Arc<Ledger>>) -> i64 {
    ledger.note(&context);
    numbers.iter().sum()
}

/// All of them.
pub(crate) fn all() -> Vec<TaskDef> {
    tasks![add, xsum].into_iter().collect()
}
