//! The tasks of an app, by name.

use std::collections::BTreeMap;

use celeriac_dsl::TaskDef;
use celeriac_engine::text::Names;
use celeriac_primitives::TaskName;

/// The tasks an app has.
#[derive(Debug, Default)]
pub struct Registry {
    tasks: BTreeMap<TaskName, TaskDef>,
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Their names, to resolve what people write: a full name, or a short one that only one task has.
    pub fn names(&self) -> Names {
        self.tasks.keys().cloned().collect()
    }
}
