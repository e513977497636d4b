//! What tasks share with the program around them: connections, clients, configuration.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use foldhash::HashMap;

/// A value of the program that a task asks for by type: `db: State<Pool>`.
///
/// Dereferences to the value; a clone shares it. In a unit test make one with [`State::new`].
pub struct State<T>(Arc<T>);

impl<T> State<T> {
    /// A state of its own, for calling a task's function directly.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.0).finish()
    }
}

/// The program's states, one value per type.
#[derive(Clone, Default)]
pub struct States(HashMap<TypeId, (&'static str, Arc<dyn Any + Send + Sync>)>);

impl States {
    /// No states.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a value in, in place of an earlier one of the same type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> &mut Self {
        self.0.insert(TypeId::of::<T>(), (type_name::<T>(), Arc::new(value)));
        self
    }

    /// The value of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let (_, value) = self.0.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok().map(State)
    }

    /// Whether there is a value of this type.
    pub fn contains(&self, state: &StateType) -> bool {
        self.0.contains_key(&state.id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.0.values().map(|(name, _)| *name).collect();
        names.sort_unstable();
        f.debug_tuple("States").field(&names).finish()
    }
}

/// The type of a state that a task asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateType {
    id: TypeId,
    name: &'static str,
}

impl StateType {
    /// The type `T`.
    pub fn of<T: Send + Sync + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    /// Its full name, as Rust prints it.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_found_by_its_type_and_shared() {
        let mut states = States::new();
        states.insert(7_u8).insert(String::from("first")).insert(String::from("second"));
        assert_eq!(*states.state::<u8>().unwrap(), 7);
        let (one, two) = (states.state::<String>().unwrap(), states.clone().state::<String>().unwrap());
        assert_eq!(*one, "second");
        assert!(std::ptr::eq(&*one, &*two));
        assert!(states.state::<u16>().is_none());
        assert!(states.contains(&StateType::of::<u8>()));
        assert!(!states.contains(&StateType::of::<u16>()));
    }
}
