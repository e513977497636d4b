//! The tasks of an app, by name.

use std::collections::BTreeMap;
use std::fmt;

use celeriac_dsl::TaskDef;
use celeriac_primitives::TaskName;

/// The tasks an app has.
#[derive(Debug, Default)]
pub struct Registry {
    tasks: BTreeMap<TaskName, TaskDef>,
}

/// A name that does not lead to one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskNameError {
    name: String,
    /// The tasks that may have been meant.
    pub candidates: Vec<TaskName>,
}

impl Registry {
    /// Adds a task; gives it back when the name is taken.
    pub(crate) fn add(&mut self, task: TaskDef) -> Result<(), TaskDef> {
        if self.tasks.contains_key(&task.name) {
            return Err(task);
        }
        self.tasks.insert(task.name.clone(), task);
        Ok(())
    }

    /// The task with this full name.
    pub fn task(&self, name: &TaskName) -> Option<&TaskDef> {
        self.tasks.get(name)
    }

    /// All tasks, by name.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskDef> {
        self.tasks.values()
    }

    /// The full name of a task written in full or, when only one has it, by its last word.
    ///
    /// # Errors
    /// When no task or more than one fits.
    pub fn resolve(&self, name: &str) -> Result<TaskName, TaskNameError> {
        if let Some((name, _)) = self.tasks.get_key_value(name) {
            return Ok(name.clone());
        }
        let candidates: Vec<TaskName> =
            self.tasks.keys().filter(|full| full.short() == name).cloned().collect();
        match <[TaskName; 1]>::try_from(candidates) {
            Ok([name]) => Ok(name),
            Err(candidates) => Err(TaskNameError { name: name.to_owned(), candidates }),
        }
    }
}

impl fmt::Display for TaskNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.candidates.is_empty() {
            return write!(f, "this app has no task {}", self.name);
        }
        let candidates: Vec<&str> = self.candidates.iter().map(TaskName::as_str).collect();
        write!(f, "{} may be any of {}; write the full name", self.name, candidates.join(", "))
    }
}

impl std::error::Error for TaskNameError {}
