//! The tasks of the soak, and the ledger in which they note that they were called.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use celeriac::dsl::TaskDef;
use celeriac::prelude::*;
use celeriac::primitives::TaskId;

/// A call: the leaf's id and its attempt, in twenty bytes.
pub(crate) type Call = [u8; 20];

/// The calls of one process, in a file: what is kept in memory would grow.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self(File::options().create(true).append(true).open(path)?))
    }

    /// Notes calls with one write each time.
    pub(crate) fn note(&self, calls: &[Call]) {
        (&self.0).write_all(calls.as_flattened()).expect("the ledger can be written");
    }
}

pub(crate) fn call(task: TaskId, attempt: u32) -> Call {
    let mut call = [0; 20];
    call[..16].copy_from_slice(task.uuid().as_bytes());
    call[16..].copy_from_slice(&attempt.to_be_bytes());
    call
}

fn note(context: &TaskContext, ledger: &Ledger) {
    ledger.note(&[call(context.task_id(), context.attempt())]);
}

#[task(name = "soak.add")]
pub(crate) async fn add(x: i64, y: i64, context: TaskContext, ledger: State<Arc<Ledger>>) -> i64 {
    note(&context, &ledger);
    x + y
}

#[task(name = "soak.xsum")]
pub(crate) async fn xsum(numbers: Vec<i64>, context: TaskContext, ledger: State<Arc<Ledger>>) -> i64 {
    note(&context, &ledger);
    numbers.iter().sum()
}

/// Fails at first.
#[task(name = "soak.flaky")]
pub(crate) async fn flaky(
    x: i64,
    context: TaskContext,
    ledger: State<Arc<Ledger>>,
) -> Result<i64, TaskError> {
    note(&context, &ledger);
    match context.attempt() {
        1 => Err(TaskError::new("Busy", "once more")),
        _ => Ok(x),
    }
}

/// Lets another run in its place.
#[task(name = "soak.replaced")]
pub(crate) async fn replaced(
    x: i64,
    context: TaskContext,
    ledger: State<Arc<Ledger>>,
) -> Result<i64, TaskError> {
    note(&context, &ledger);
    context.replace(add.s((x, 0)))
}

/// Of a run that may be forgotten before: whether it is called nobody counts.
#[task(name = "soak.stray")]
pub(crate) async fn stray(x: i64) -> i64 {
    x
}

/// All of them.
pub(crate) fn all() -> Vec<TaskDef> {
    tasks![add, xsum, flaky, replaced, stray].into_iter().collect()
}
