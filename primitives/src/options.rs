//! Calling options of a signature or canvas.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::callbacks::Callbacks;
use crate::leaf_options::Compression;
use crate::{Canvas, Json, JsonError, OnFailure, RetryPolicy, When};

/// What `apply_async` takes besides arguments: queue, priority, countdown, callbacks, …
///
/// Kept as Celery keeps them, a dictionary by option name, so that options of which celeriac knows nothing
/// survive a round trip unchanged. Callbacks (`link`), error callbacks (`link_error`) and what runs in either
/// case (`finally`) are canvases and stand apart. Empty options take two words of memory.
#[derive(Clone, Debug, Default)]
pub struct Options {
    fields: Option<Box<Fields>>,
    declared: Option<&'static Options>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Fields {
    link: Callbacks,
    link_error: Callbacks,
    finally: Callbacks,
    values: BTreeMap<String, Json>,
}

/// An option whose value has the wrong type or range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option {name} takes {expected}, not {value}")]
pub struct OptionError {
    /// The option, in Celery's spelling.
    pub name: String,
    /// What to write instead.
    pub expected: &'static str,
    /// What stood there, cut to 80 characters.
    pub value: String,
}

/// An option whose type is checked: its name, what it takes, and the check.
type Known = (&'static str, &'static str, fn(&Json) -> bool);

const KNOWN: &[Known] = &[
    ("acks_late", "true or false", is::<bool>),
    ("compression", "\"gzip\" or \"zstd\"", is_compression),
    ("countdown", "a number of seconds, not negative", is_seconds),
    ("eta", "a date and time such as \"2026-11-25T08:00:00+01:00\"", is_time),
    (
        "expires",
        "a number of seconds, not negative, or a date and time such as \"2026-11-25T08:00:00+01:00\"",
        is_expiry,
    ),
    ("headers", "an object", is::<BTreeMap<String, Json>>),
    ("heartbeat", "a number of seconds, not negative", is_seconds),
    ("ignore_result", "true or false", is::<bool>),
    ("on_failure", "\"fail\", \"drop\" or \"collect\"", is::<OnFailure>),
    ("priority", "a whole number from 0 to 9", is_priority),
    ("queue", "the name of a queue", is_queue),
    (
        "retry",
        "an object with max_retries, delay, backoff, backoff_max, jitter, autoretry_for and dont_autoretry_for, all of \
         them optional: numbers of seconds, type names of errors",
        is_retry,
    ),
    ("serializer", "\"json\" or \"msgpack\"", is_serializer),
    ("shadow", "a name", is::<String>),
    ("soft_time_limit", "a number of seconds, not negative", is_seconds),
    ("stamped_headers", "a list of names", is::<Vec<String>>),
    ("task_id", "a string of 1 to 255 characters", is_id),
    ("time_limit", "a number of seconds, not negative", is_seconds),
];

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// The options with which the task was declared, when the canvas was written with the task itself:
    /// `add.s((2, 2))`. They count where nothing else is set, and are no part of the canvas: they are neither
    /// written nor compared.
    pub fn declared(&self) -> Option<&'static Options> {
        self.declared
    }

    /// These options of a task that was declared with those.
    #[must_use]
    pub fn with_declared(self, declared: &'static Options) -> Self {
        Self { declared: Some(declared), ..self }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.fields.as_deref().is_none_or(|fields| *fields == Fields::default())
    }

    /// The callbacks, in the order in which they were added.
    pub fn link(&self) -> &[Canvas] {
        self.fields.as_deref().map_or(&[], |fields| fields.link.as_slice())
    }

    /// The error callbacks, in the order in which they were added.
    pub fn link_error(&self) -> &[Canvas] {
        self.fields.as_deref().map_or(&[], |fields| fields.link_error.as_slice())
    }

    /// What runs when the canvas has ended, either way, in the order in which it was added.
    pub fn finally(&self) -> &[Canvas] {
        self.fields.as_deref().map_or(&[], |fields| fields.finally.as_slice())
    }

    /// Adds a callback, unless an equal one is there (Celery's `append_to_list_option`).
    pub fn add_link(&mut self, callback: Canvas) {
        self.fields().link.add(callback);
    }

    /// Adds an error callback, unless an equal one is there.
    pub fn add_link_error(&mut self, errback: Canvas) {
        self.fields().link_error.add(errback);
    }

    /// Adds what runs when the canvas has ended, unless an equal one is there.
    pub fn add_finally(&mut self, last: Canvas) {
        self.fields().finally.add(last);
    }

    /// The canvases among the options.
    pub(crate) fn callbacks(&self) -> impl Iterator<Item = &Canvas> {
        self.link().iter().chain(self.link_error()).chain(self.finally())
    }

    /// A clone with other callbacks.
    pub(crate) fn map_callbacks(&self, map: fn(&[Canvas]) -> Vec<Canvas>) -> Options {
        let fields = self.fields.as_deref().map(|Fields { link, link_error, finally, values }| {
            let map = |callbacks: &Callbacks| map(callbacks.as_slice()).into();
            let (link, link_error, finally) = (map(link), map(link_error), map(finally));
            Box::new(Fields { link, link_error, finally, values: values.clone() })
        });
        Options { fields, declared: self.declared }
    }

    /// Whether the two differ at most in their callbacks, of which they have as many of each kind.
    pub(crate) fn is_alike(&self, other: &Options) -> bool {
        self.link().len() == other.link().len()
            && self.link_error().len() == other.link_error().len()
            && self.finally().len() == other.finally().len()
            && self.values().eq(other.values())
    }

    /// The canvases among the options, to change them.
    pub(crate) fn callbacks_mut(&mut self) -> impl Iterator<Item = &mut Canvas> {
        self.fields.as_deref_mut().into_iter().flat_map(|Fields { link, link_error, finally, .. }| {
            link.iter_mut().chain(link_error.iter_mut()).chain(finally.iter_mut())
        })
    }

    /// The value of one option; callbacks are not among them.
    pub fn value(&self, name: &str) -> Option<&Json> {
        self.fields.as_deref().and_then(|fields| fields.values.get(name))
    }

    /// All options but the callbacks, by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.fields.iter().flat_map(|fields| fields.values.iter().map(|(name, value)| (name.as_str(), value)))
    }

    /// Sets an option by its Celery name, checking the type of those that celeriac knows.
    ///
    /// # Errors
    /// [`OptionError`] when the value does not fit. `link`, `link_error` and `finally` are refused: see
    /// [`Options::add_link`]; and so is `immutable`, which belongs to the signature or chain.
    pub fn set(&mut self, name: &str, value: Json) -> Result<(), OptionError> {
        check(name, &value)?;
        self.fields().values.insert(name.to_owned(), value);
        Ok(())
    }

    /// Takes options as they came from outside; [`Options::check`] finds what does not fit.
    pub(crate) fn insert_unchecked(&mut self, name: String, value: Json) {
        self.fields().values.insert(name, value);
    }

    /// Checks the type of every known option.
    ///
    /// # Errors
    /// The first that does not fit.
    pub fn check(&self) -> Result<(), OptionError> {
        self.values().try_for_each(|(name, value)| check(name, value))
    }

    /// The options of a call laid over these: the call wins, callbacks of both are kept.
    pub fn merge(&mut self, call: &Options) {
        for (name, value) in call.values() {
            self.fields().values.insert(name.to_owned(), value.clone());
        }
        for callback in call.link() {
            self.add_link(callback.clone());
        }
        for errback in call.link_error() {
            self.add_link_error(errback.clone());
        }
        for last in call.finally() {
            self.add_finally(last.clone());
        }
    }

    /// The queue, when one is set.
    pub fn queue(&self) -> Option<String> {
        self.value("queue").and_then(|value| value.to().ok())
    }

    /// What becomes of a group or chord when a member fails, when that is set.
    pub fn on_failure(&self) -> Option<OnFailure> {
        self.value("on_failure").and_then(|value| value.to().ok())
    }

    /// These options with what becomes of a group or chord when a member fails.
    #[must_use]
    pub fn with_on_failure(mut self, policy: OnFailure) -> Self {
        self.fields().values.insert("on_failure".to_owned(), Json::string(policy.as_str()));
        self
    }

    /// These options with a queue.
    ///
    /// # Errors
    /// When the name is empty, longer than 255 characters or holds control characters or braces.
    pub fn with_queue(mut self, queue: &str) -> Result<Self, OptionError> {
        self.set("queue", Json::string(queue))?;
        Ok(self)
    }

    /// These options with a priority, 0 to 9.
    ///
    /// # Errors
    /// When the priority is above 9.
    pub fn with_priority(mut self, priority: u8) -> Result<Self, OptionError> {
        self.set("priority", Json::from_compact(priority.to_string()))?;
        Ok(self)
    }

    /// These options with a countdown: how long after its release the task may start.
    #[must_use]
    pub fn with_countdown(self, countdown: Duration) -> Self {
        self.with("countdown", seconds(countdown))
    }

    /// These options with a moment before which the task does not start.
    #[must_use]
    pub fn with_eta(self, eta: SystemTime) -> Self {
        self.with("eta", time(eta))
    }

    /// These options with a time, counted from when the task is queued, after which it does not start any
    /// more.
    #[must_use]
    pub fn with_expires(self, expires: Duration) -> Self {
        self.with("expires", seconds(expires))
    }

    /// These options with a moment after which the task does not start any more.
    #[must_use]
    pub fn with_expires_at(self, expires: SystemTime) -> Self {
        self.with("expires", time(expires))
    }

    /// These options with attempts besides the first.
    #[must_use]
    pub fn with_retry(self, policy: &RetryPolicy) -> Self {
        self.with("retry", policy.to_json())
    }

    /// These options with a time after which the task is cut off.
    #[must_use]
    pub fn with_time_limit(self, limit: Duration) -> Self {
        self.with("time_limit", seconds(limit))
    }

    /// These options with a time after which the task is told to stop, by its cancellation token.
    #[must_use]
    pub fn with_soft_time_limit(self, limit: Duration) -> Self {
        self.with("soft_time_limit", seconds(limit))
    }

    /// These options with a time after which a task that has not been heard of (`TaskContext::heartbeat`) has
    /// failed.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Duration) -> Self {
        self.with("heartbeat", seconds(heartbeat))
    }

    /// These options with `acks_late`: true for at least once, which is the default, false for at most once.
    #[must_use]
    pub fn with_acks_late(self, acks_late: bool) -> Self {
        self.with("acks_late", Json::new(&acks_late).expect("a flag has a JSON form"))
    }

    /// These options with `ignore_result`: when nothing takes the task's value, it is not kept.
    #[must_use]
    pub fn with_ignore_result(self, ignore_result: bool) -> Self {
        self.with("ignore_result", Json::new(&ignore_result).expect("a flag has a JSON form"))
    }

    /// These options with a compression of the task's message on its way to the worker, where the backend
    /// keeps it as bytes. Worth it for arguments of many kilobytes.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        self.with("compression", Json::new(&compression).expect("a name has a JSON form"))
    }

    /// These options with a name under which the run is known; see `App::submit`.
    ///
    /// # Errors
    /// When it is empty or longer than 255 characters.
    pub fn with_task_id(mut self, id: &str) -> Result<Self, OptionError> {
        self.set("task_id", Json::string(id))?;
        Ok(self)
    }

    /// These options with a name that stands for the task's in logs.
    #[must_use]
    pub fn with_shadow(self, shadow: &str) -> Self {
        self.with("shadow", Json::string(shadow))
    }

    /// These options with one more header for the task to read.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn with_header(self, name: &str, value: &impl Serialize) -> Result<Self, JsonError> {
        let value = Json::new(value)?;
        let mut headers: BTreeMap<String, Json> =
            self.value("headers").and_then(|headers| headers.to().ok()).unwrap_or_default();
        headers.insert(name.to_owned(), value);
        let headers = Json::object(headers.iter().map(|(name, value)| (name.as_str(), value)));
        Ok(self.with("headers", headers))
    }

    /// These options with one more stamp: a value that the task and those who look at it see (Celery's
    /// `stamp`).
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn with_stamp(self, name: &str, value: &impl Serialize) -> Result<Self, JsonError> {
        let value = Json::new(value)?;
        Ok(self.stamped(name, value))
    }

    fn stamped(self, name: &str, value: Json) -> Self {
        let mut names: Vec<String> =
            self.value("stamped_headers").and_then(|names| names.to().ok()).unwrap_or_default();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        let names = Json::new(&names).expect("texts have a JSON form");
        self.with("stamped_headers", names).with(name, value)
    }

    /// Adds a stamp, unless there is one of this name.
    pub(crate) fn add_stamp(&mut self, name: &str, value: &Json) {
        let names: Vec<String> =
            self.value("stamped_headers").and_then(|names| names.to().ok()).unwrap_or_default();
        if !names.iter().any(|known| known == name) {
            *self = std::mem::take(self).stamped(name, value.clone());
        }
    }

    fn with(mut self, name: &str, value: Json) -> Self {
        self.fields().values.insert(name.to_owned(), value);
        self
    }

    fn fields(&mut self) -> &mut Fields {
        self.fields.get_or_insert_default()
    }
}

impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        self.link() == other.link()
            && self.link_error() == other.link_error()
            && self.finally() == other.finally()
            && self.values().eq(other.values())
    }
}

fn check(name: &str, value: &Json) -> Result<(), OptionError> {
    let refuse = |expected| {
        let value = value.as_str().chars().take(80).collect();
        Err(OptionError { name: name.to_owned(), expected, value })
    };
    if matches!(name, "link" | "link_error" | "finally") {
        return refuse("a signature or a list of signatures");
    }
    // Written as an option it would be read back as the signature's own key.
    if name == "immutable" {
        return refuse("nothing (a signature is immutable by its own key, beside the options)");
    }
    match KNOWN.iter().find(|(known, ..)| *known == name) {
        // Celery drops options that are None in a call.
        Some((_, expected, fits)) if value.as_str() != "null" && !fits(value) => refuse(expected),
        _ => Ok(()),
    }
}

fn seconds(duration: Duration) -> Json {
    Json::new(&duration.as_secs_f64()).expect("a duration is a finite number")
}

fn time(time: SystemTime) -> Json {
    // What is beyond the calendar is as far away as its end.
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    Json::string(&time.to_string())
}

fn is_time(value: &Json) -> bool {
    value.to::<String>().is_ok_and(|text| When::read_time(&text).is_some())
}

fn is_expiry(value: &Json) -> bool {
    is_seconds(value) || is_time(value)
}

fn is_compression(value: &Json) -> bool {
    value.to::<Compression>().is_ok()
}

fn is_serializer(value: &Json) -> bool {
    value.to::<String>().is_ok_and(|name| matches!(name.as_str(), "json" | "msgpack"))
}

fn is_retry(value: &Json) -> bool {
    RetryPolicy::read(value).is_ok()
}

fn is<T: serde::de::DeserializeOwned>(value: &Json) -> bool {
    value.to::<T>().is_ok()
}

fn is_seconds(value: &Json) -> bool {
    value.to::<f64>().is_ok_and(|seconds| seconds.is_finite() && seconds >= 0.0)
}

fn is_priority(value: &Json) -> bool {
    value.to::<u8>().is_ok_and(|priority| priority <= 9)
}

fn is_id(value: &Json) -> bool {
    value.to::<String>().is_ok_and(|id| (1..=255).contains(&id.chars().count()))
}

fn is_queue(value: &Json) -> bool {
    let fits = |c: char| !c.is_control() && !matches!(c, '{' | '}');
    value
        .to::<String>()
        .is_ok_and(|queue| (1..=255).contains(&queue.chars().count()) && queue.chars().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_are_checked_and_unknown_ones_kept() {
        let mut options = Options::new();
        assert!(options.set("priority", Json::parse("10").unwrap()).is_err());
        assert!(options.set("countdown", Json::parse("-1").unwrap()).is_err());
        assert!(options.set("queue", Json::string("a{b}")).is_err());
        assert!(options.set("link", Json::null()).is_err());
        assert!(options.set("finally", Json::null()).is_err());
        assert!(options.set("on_failure", Json::string("ignore")).is_err());
        assert!(options.set("task_id", Json::string(&"x".repeat(256))).is_err());
        assert!(options.set("immutable", Json::parse("true").unwrap()).is_err());
        assert!(options.is_empty());
        options.set("tenant", Json::string("acme")).unwrap();
        options.set("priority", Json::parse("9").unwrap()).unwrap();
        assert_eq!(options.value("tenant").unwrap().as_str(), "\"acme\"");
        let error = options.set("time_limit", Json::string("soon")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "option time_limit takes a number of seconds, not negative, not \"soon\""
        );
    }

    #[test]
    fn the_call_wins_over_the_signature() {
        let mut options = Options::new().with_queue("a").unwrap().with_priority(1).unwrap();
        options.merge(&Options::new().with_queue("b").unwrap());
        assert_eq!(options.queue().as_deref(), Some("b"));
        assert_eq!(options.value("priority").unwrap().as_str(), "1");
    }
}
