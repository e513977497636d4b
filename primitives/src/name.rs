//! Task names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::NAME_CHARS_MAX;

/// The full name of a task, such as `proj.tasks.add`: dotted words of letters, digits, `_` and `-`.
///
/// Cheap to clone. Celery allows any string; names with white space, quotes, braces or control characters are refused
/// because they could not be written in operator text, in a Redis key or on a command line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TaskName(Arc<str>);

/// A text that is no task name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing, or an empty word between dots.
    #[error("{0:?} is not a task name: write dotted words, such as proj.tasks.add")]
    EmptyWord(String),
    /// Longer than 255 characters.
    #[error("a task name has at most {NAME_CHARS_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character that names do not have.
    #[error("{name:?} is not a task name: it holds {character:?}; use letters, digits, '_', '-' and dots")]
    Character {
        /// The refused name.
        name: String,
        /// Its first character that is not allowed.
        character: char,
    },
}

impl TaskName {
    /// Checks a name.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, NameError> {
        let name = name.into();
        let chars = name.chars().count();
        if chars > NAME_CHARS_MAX {
            return Err(NameError::TooLong(chars));
        }
        if let Some(character) = name.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
        {
            return Err(NameError::Character { name: name.to_string(), character });
        }
        if name.split('.').any(str::is_empty) {
            return Err(NameError::EmptyWord(name.to_string()));
        }
        Ok(Self(name))
    }

    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last word: `add` of `proj.tasks.add`.
    pub fn short(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for TaskName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for TaskName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dotted_words() {
        assert_eq!(TaskName::new("proj.tasks.add").unwrap().short(), "add");
        assert_eq!(TaskName::new("add").unwrap().short(), "add");
        assert!(TaskName::new("größe.mal-2").is_ok());
        for bad in ["", ".", "a..b", "a.", ".a"] {
            assert!(matches!(TaskName::new(bad), Err(NameError::EmptyWord(_))), "{bad:?}");
        }
        for bad in ["a b", "a\n", "a{b}", "a\"", "a|b", "a\0"] {
            assert!(matches!(TaskName::new(bad), Err(NameError::Character { .. })), "{bad:?}");
        }
        assert!(TaskName::new("a".repeat(255)).is_ok());
        assert_eq!(TaskName::new("a".repeat(256)), Err(NameError::TooLong(256)));
    }
}
