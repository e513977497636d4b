//! Members that a task adds to the list its value goes into.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Entry, Failure, Json, Stored, TaskError};

/// A task adds to a list, and its value is no item of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the task is no member of a group or of a chord's header, or only an item of a map, so there is no list to add to; to \
     run more in its place, use replace"
)]
pub struct NotAMember;

impl From<NotAMember> for TaskError {
    /// A `ValueError`, as in Celery (`celery/app/task.py`, `Task.add_to_chord`).
    fn from(error: NotAMember) -> Self {
        Self::new("ValueError", error.to_string())
    }
}

/// What a task returned, and the canvases that it adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addition {
    /// What it returned.
    pub own: Own,
    /// The canvases, each in Celery's JSON.
    pub added: Vec<Json>,
}

/// What a task returned that adds members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Own {
    /// A value.
    Value(Json),
    /// A canvas, in Celery's JSON, which runs in its place.
    Canvas(Json),
    /// A value that is kept apart.
    Apart(Stored),
}

/// The value of a leaf, and what it added to the list that the value goes into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The leaf's own value: all that anybody gets but the list.
    pub value: Json,
    /// The items that follow it in the list, in the order in which they were added.
    pub added: Vec<Item>,
}

/// An item of a list, with what the list's policy makes of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// As it stands there: a value, or, where failures are collected, `{"ok": value}`.
    Value(Json),
    /// A failure that is collected: it stands there as `{"error": failure}`.
    Failure(Box<Failure>),
}

impl From<Item> for Json {
    fn from(item: Item) -> Self {
        match item {
            Item::Value(value) => value,
            failure @ Item::Failure(_) => Json::from_compact(failure.text().into_owned()),
        }
    }
}

impl Item {
    /// As it stands in the list.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Value(value) => Cow::Borrowed(value.as_str()),
            failure @ Self::Failure(_) => {
                let mut text = String::new();
                failure.write(&mut text);
                Cow::Owned(text)
            }
        }
    }

    /// Writes it as it stands in the list.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Value(value) => out.push_str(value.as_str()),
            Self::Failure(failure) => Entry::Error(failure.clone()).write(out),
        }
    }
}
