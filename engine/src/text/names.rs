//! From a written task name to the full one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use celeriac_primitives::TaskName;

use super::error::{Fault, Result, cut};

/// Says which task a written name means.
pub trait Resolver {
    /// The task that `name` means.
    ///
    /// # Errors
    /// [`UnknownTask`] when it means none, or more than one.
    fn resolve(&self, name: &str) -> std::result::Result<TaskName, UnknownTask>;
}

/// A written name that means no task, or several.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", if *.ambiguous { "the name means several tasks" } else { "no task has this name" })]
pub struct UnknownTask {
    /// Whether the name means every one of the suggestions.
    pub ambiguous: bool,
    /// What may have been meant, the likeliest first.
    pub suggestions: Vec<TaskName>,
}

/// Takes every name as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyName;

impl Resolver for AnyName {
    fn resolve(&self, name: &str) -> std::result::Result<TaskName, UnknownTask> {
        TaskName::new(name).map_err(|_| UnknownTask::default())
    }
}

/// The tasks of an app: written in full, or by their last words as long as these mean one task only.
///
/// ```
/// use celeriac_engine::text::{Names, Resolver};
/// use celeriac_primitives::TaskName;
///
/// let names: Names = ["proj.tasks.add", "proj.tasks.mul"].map(|name| TaskName::new(name).unwrap()).into_iter().collect();
/// assert_eq!(names.resolve("add").unwrap().as_str(), "proj.tasks.add");
/// assert_eq!(names.resolve("ad").unwrap_err().suggestions[0].as_str(), "proj.tasks.add");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Names {
    full: BTreeSet<TaskName>,
    /// From the last words of the names to the tasks that end so.
    endings: BTreeMap<String, Vec<TaskName>>,
}

impl FromIterator<TaskName> for Names {
    fn from_iter<I: IntoIterator<Item = TaskName>>(names: I) -> Self {
        let full: BTreeSet<TaskName> = names.into_iter().collect();
        let mut endings = BTreeMap::<String, Vec<TaskName>>::new();
        for name in &full {
            for (dot, _) in name.as_str().match_indices('.') {
                endings.entry(name.as_str()[dot + 1..].to_owned()).or_default().push(name.clone());
            }
        }
        Self { full, endings }
    }
}

/// How many suggestions an unknown name gets.
const SUGGESTIONS_MAX: usize = 3;

impl Resolver for Names {
    fn resolve(&self, name: &str) -> std::result::Result<TaskName, UnknownTask> {
        if let Some(full) = self.full.get(name) {
            return Ok(full.clone());
        }
        match self.endings.get(name).map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            Some(several) => Err(UnknownTask { ambiguous: true, suggestions: several.to_vec() }),
            None => Err(UnknownTask { ambiguous: false, suggestions: self.nearest(name) }),
        }
    }
}

impl Names {
    fn nearest(&self, name: &str) -> Vec<TaskName> {
        // A long name is measured in full; who writes one word means the last one.
        let near = |full: &TaskName| {
            let whole = distance(name, full.as_str());
            let best = if name.contains('.') { whole } else { whole.min(distance(name, full.short())) };
            (best <= name.chars().count().div_ceil(3)).then(|| (best, full.clone()))
        };
        let mut near: Vec<_> = self.full.iter().filter_map(near).collect();
        near.sort();
        let best = near.first().map_or(0, |(distance, _)| *distance);
        let near = near.into_iter().filter(|(distance, _)| *distance <= best + 1);
        near.take(SUGGESTIONS_MAX).map(|(_, full)| full).collect()
    }
}

/// A resolver that is asked once per name.
pub(super) struct Known<'r> {
    resolver: &'r dyn Resolver,
    known: HashMap<String, TaskName>,
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Known").field(&self.known).finish()
    }
}

impl<'r> Known<'r> {
    pub(super) fn new(resolver: &'r dyn Resolver) -> Self {
        Self { resolver, known: HashMap::new() }
    }

    /// The task that the name at this place means.
    pub(super) fn resolve(&mut self, at: usize, name: &str) -> Result<TaskName> {
        if let Some(task) = self.known.get(name) {
            return Ok(task.clone());
        }
        TaskName::new(name).map_err(|error| {
            let message = error.to_string();
            let (message, help) = message.split_once(": ").unwrap_or((&message, ""));
            Fault::new(at, cut(message, 200), help)
        })?;
        let task = self.resolver.resolve(name).map_err(|unknown| {
            let suggestions: Vec<&str> = unknown.suggestions.iter().map(TaskName::as_str).collect();
            let suggestions = suggestions.join(" or ");
            let name = cut(name, 80);
            if unknown.ambiguous {
                let message = format!("{name:?} means several tasks");
                return Fault::new(at, message, format!("write {suggestions}"));
            }
            let help = match suggestions.as_str() {
                "" => "write the name of a task that the app has".to_owned(),
                some => format!("did you mean {some}?"),
            };
            Fault::new(at, format!("there is no task {name:?}"), help)
        })?;
        self.known.insert(name.to_owned(), task.clone());
        Ok(task)
    }

    /// Whether the name means a task.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.resolver.resolve(name).is_ok()
    }
}

/// The one of `words` that differs from `word` in fewer than half of its letters, if any.
pub(super) fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let measured = words.iter().map(|candidate| (distance(word, candidate), *candidate));
    let (distance, candidate) = measured.min()?;
    (distance * 2 <= word.chars().count() && distance <= 2).then_some(candidate)
}

/// How many letters must be added, left out or replaced to get from one word to the other. Of long words only the
/// beginning counts.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, left) in from.chars().take(256).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        ["proj.tasks.add", "proj.tasks.mul", "other.tasks.mul", "alone"]
            .map(|name| TaskName::new(name).unwrap())
            .into_iter()
            .collect()
    }

    #[track_caller]
    fn check(name: &str, expect: &str) {
        let found = match names().resolve(name) {
            Ok(task) => task.to_string(),
            Err(UnknownTask { ambiguous, suggestions }) => format!("{ambiguous} {suggestions:?}"),
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn a_name_is_full_or_a_unique_ending() {
        check("proj.tasks.add", "proj.tasks.add");
        check("tasks.add", "proj.tasks.add");
        check("add", "proj.tasks.add");
        check("alone", "alone");
        check("mul", "true [other.tasks.mul, proj.tasks.mul]");
        check("other.tasks.mul", "other.tasks.mul");
        check("lone", "false [alone]");
        check("asks.add", "false []");
        check("proj.task.add", "false [proj.tasks.add]");
        check("other.task.sul", "false [other.tasks.mul]");
        check("xyzzy", "false []");
    }

    #[test]
    fn distance_counts_letters() {
        for (from, to, expect) in
            [("", "", 0), ("a", "", 1), ("group", "grop", 1), ("abc", "axc", 1), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), expect, "{from} {to}");
        }
        assert_eq!(nearest("grop", &["chain", "group"]), Some("group"));
        assert_eq!(nearest("x", &["s"]), None);
    }
}
