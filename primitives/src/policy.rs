//! What becomes of a group or chord when one of its members fails.

use serde::{Deserialize, Serialize};

use crate::{Failure, Json};

/// What becomes of a group, or of a chord because of its header, when a member fails: the option `on_failure`.
///
/// A member is what the list has an entry for. Groups directly in a group or header are flattened; their members follow
/// the policy of the group around them, unless their own group sets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It fails.
    #[default]
    Fail,
    /// The list holds the values of those members only that have succeeded, in the order written.
    Drop,
    /// The list holds an [`Entry`] for each member.
    Collect,
}

impl OnFailure {
    /// As the option has it: `fail`, `drop` or `collect`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Drop => "drop",
            Self::Collect => "collect",
        }
    }

    /// Whether the failure of a member ends with the member.
    pub fn tolerates(self) -> bool {
        self != Self::Fail
    }
}

/// How a part of a canvas has ended: in JSON `{"ok": value}` or `{"error": failure}`.
///
/// Lists of groups that collect hold these, and a canvas in `finally` is called with one.
///
/// ```
/// use celeriac_primitives::Entry;
///
/// let entries: Vec<Entry<i64>> = serde_json::from_str(r#"[{"ok": 4}]"#)?;
/// assert_eq!(entries[0].ok(), Some(&4));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry<T> {
    /// It has succeeded, with this value.
    Ok(T),
    /// It has failed, because this leaf has.
    Error(Box<Failure>),
}

impl<T> Entry<T> {
    /// The value, of a part that has succeeded.
    pub fn ok(&self) -> Option<&T> {
        match self {
            Self::Ok(value) => Some(value),
            Self::Error(_) => None,
        }
    }

    /// The failure, of a part that has failed.
    pub fn error(&self) -> Option<&Failure> {
        match self {
            Self::Ok(_) => None,
            Self::Error(failure) => Some(failure),
        }
    }

    /// The same as a `Result`.
    ///
    /// # Errors
    /// The failure, of a part that has failed.
    pub fn into_result(self) -> Result<T, Box<Failure>> {
        match self {
            Self::Ok(value) => Ok(value),
            Self::Error(failure) => Err(failure),
        }
    }
}

impl Entry<Json> {
    /// How the text of an entry begins whose part has succeeded; its value follows, and a brace.
    pub const OK: &str = "{\"ok\":";

    /// Writes the text of the entry.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Ok(value) => {
                out.push_str(Self::OK);
                out.push_str(value.as_str());
            }
            Self::Error(failure) => {
                out.push_str("{\"error\":");
                out.push_str(Json::new(failure).expect("a failure has a JSON form").as_str());
            }
        }
        out.push('}');
    }
}

impl<T> From<Entry<T>> for Result<T, Box<Failure>> {
    fn from(entry: Entry<T>) -> Self {
        entry.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TaskError, TaskId, TaskName, TaskState};

    #[test]
    fn policies_are_words() {
        for policy in [OnFailure::Fail, OnFailure::Drop, OnFailure::Collect] {
            assert_eq!(Json::new(&policy).unwrap(), Json::string(policy.as_str()));
            assert_eq!(Json::string(policy.as_str()).to::<OnFailure>().unwrap(), policy);
        }
    }

    #[test]
    fn entries_are_objects_with_one_key() {
        let failure = Failure {
            task_id: "0197d5a1-7c1e-7000-8000-000000000001".parse::<TaskId>().unwrap(),
            node: "group[1]".to_owned(),
            task: TaskName::new("add").unwrap(),
            state: TaskState::Failure,
            error: TaskError::new("ValueError", "boom"),
        };
        let ok = Entry::Ok(vec![4]);
        let error: Entry<Vec<i64>> = Entry::Error(Box::new(failure.clone()));
        for entry in [&ok, &error] {
            assert_eq!(Json::new(entry).unwrap().to::<Entry<Vec<i64>>>().unwrap(), *entry);
        }
        assert_eq!(Json::new(&ok).unwrap().as_str(), r#"{"ok":[4]}"#);
        assert!(Json::new(&error).unwrap().as_str().starts_with(r#"{"error":{"task_id":"#));
        for entry in [&Entry::Ok(Json::new(&[4]).unwrap()), &Entry::Error(Box::new(failure.clone()))] {
            let mut text = String::new();
            entry.write(&mut text);
            assert_eq!(text, Json::new(entry).unwrap().as_str());
        }
        assert_eq!((ok.ok(), ok.error()), (Some(&vec![4]), None));
        assert_eq!((error.ok(), error.error()), (None, Some(&failure)));
        assert_eq!(error.into_result(), Err(Box::new(failure)));
    }
}
