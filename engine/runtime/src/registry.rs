//! The tasks of an app, by name.

use std::collections::BTreeMap;

use celeriac_dsl::TaskDef;
use celeriac_engine::plan::RunOptions;
use celeriac_engine::text::Names;
use celeriac_primitives::{OptionError, Options, TaskName};
use wildmatch::WildMatch;

/// The tasks an app has.
#[derive(Debug, Default)]
pub struct Registry {
    tasks: BTreeMap<TaskName, TaskDef>,
    /// Options with which tasks were declared.
    options: BTreeMap<TaskName, RunOptions>,
    routes: Vec<Route>,
}

/// Options of all tasks whose name fits.
#[derive(Debug)]
struct Route {
    pattern: WildMatch,
    options: RunOptions,
}

/// A task that does not fit into a registry.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its name is taken.
    Duplicate(TaskName),
    /// An option has a value that does not fit.
    Option(TaskName, OptionError),
}

impl Registry {
    /// Adds a task.
    pub(crate) fn add(&mut self, task: TaskDef) -> Result<(), Refused> {
        if self.tasks.contains_key(&task.name) {
            return Err(Refused::Duplicate(task.name));
        }
        let options =
            RunOptions::of(&task.options).map_err(|error| Refused::Option(task.name.clone(), error))?;
        if options != RunOptions::default() {
            self.options.insert(task.name.clone(), options);
        }
        self.tasks.insert(task.name.clone(), task);
        Ok(())
    }

    /// The task with this full name.
    pub fn task(&self, name: &TaskName) -> Option<&TaskDef> {
        self.tasks.get(name)
    }

    /// The options with which a task was declared, when there are any.
    pub(crate) fn options(&self, name: &TaskName) -> Option<&RunOptions> {
        self.options.get(name)
    }

    /// Adds a route for tasks whose names fit, after those that are there.
    pub(crate) fn route(&mut self, pattern: &str, options: RunOptions) {
        self.routes.push(Route { pattern: WildMatch::new(pattern), options });
    }

    /// What is set for a task's leaves that do not set it themselves: with its declaration, then by
    /// the first route that fits its name. The canvas may bring along the declaration of a task that
    /// is not registered.
    ///
    /// # Errors
    /// When an option of that declaration does not fit.
    pub(crate) fn options_of(
        &self,
        name: &TaskName,
        declared: Option<&Options>,
    ) -> Result<RunOptions, OptionError> {
        let declared = match (self.options(name), declared) {
            (Some(options), _) => options.clone(),
            (None, Some(declared)) if !self.tasks.contains_key(name) => RunOptions::of(declared)?,
            (None, _) => RunOptions::default(),
        };
        Ok(match self.route_of(name) {
            Some(route) => declared.or(&route.options),
            None => declared,
        })
    }

    fn route_of(&self, name: &TaskName) -> Option<&Route> {
        self.routes.iter().find(|route| route.pattern.matches(name.as_str()))
    }

    /// Whether it is known where the leaves of a task go to, when nothing around them says so.
    pub(crate) fn knows(&self, name: &TaskName) -> bool {
        self.tasks.contains_key(name)
            || self.route_of(name).is_some_and(|route| route.options.queue.is_some())
    }

    /// Whether anything is set for a task.
    pub(crate) fn has_options(&self) -> bool {
        !self.options.is_empty() || !self.routes.is_empty()
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
