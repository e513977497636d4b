//! What the engine acts on among the options of a leaf, read once and typed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::{Json, OptionError, Options, TaskError};

/// A moment, by the clock of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum When {
    /// So many milliseconds from now: when a leaf is queued.
    After(u64),
    /// So many milliseconds after 1970.
    At(u64),
}

/// The options of one leaf on which the engine acts, with those it inherits. See [`Options`] for what each is
/// called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeafOptions {
    /// `countdown` and `eta`: the leaf does not start before.
    pub start: Option<When>,
    /// `expires`: the leaf does not start after; it ends as expired instead.
    pub expires: Option<When>,
    /// `priority`, 0 to 9: the higher goes first.
    pub priority: Option<u8>,
    /// `retry`: which errors are worth another attempt, how many, and when.
    pub retry: Option<RetryPolicy>,
    /// `time_limit` in milliseconds: what runs longer is cut off.
    pub time_limit_ms: Option<u64>,
    /// `soft_time_limit` in milliseconds: what runs longer is told so by its cancellation token.
    pub soft_time_limit_ms: Option<u64>,
    /// `heartbeat` in milliseconds: what is not heard of for so long has failed. Ours; Celery has no such
    /// option.
    pub heartbeat_ms: Option<u64>,
    /// `acks_late`: false for at most once.
    pub acks_late: Option<bool>,
    /// `ignore_result`: nobody wants the value.
    pub ignore_result: Option<bool>,
    /// `headers`, an object for the task to read.
    pub headers: Option<Json>,
    /// `compression` of the message.
    pub compression: Option<Compression>,
    /// `shadow`: what the task is called in logs.
    pub shadow: Option<String>,
    /// The values of all names in `stamped_headers`, an object.
    pub stamps: Option<Json>,
}

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip: read everywhere.
    Gzip,
    /// Zstandard: faster, and smaller.
    Zstd,
}

/// When a failed leaf runs again: the option `retry`, in the words of Celery's task options.
///
/// ```
/// use celeriac_primitives::{Options, RetryPolicy, TaskError};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::new(5).backoff(Duration::from_secs(1)).on(["io::Error"]);
/// assert!(policy.allows(1, &TaskError::new("io::Error", "reset")));
/// assert!(!policy.allows(1, &TaskError::new("ValueError", "boom")));
/// assert_eq!(policy.jitter(false).delay(3, 0.0), Duration::from_secs(4));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// `max_retries`: attempts besides the first; none stands for any number.
    max_retries: Option<u32>,
    /// `delay`: before each attempt, when there is no backoff.
    delay_ms: u64,
    /// `backoff`: before the second attempt; twice as long before each further one.
    backoff_ms: Option<u64>,
    /// `backoff_max`.
    backoff_max_ms: u64,
    /// `jitter`: waits a part of the backoff, by chance.
    jitter: bool,
    /// `autoretry_for`: types of errors; none stands for all.
    autoretry_for: Option<Vec<String>>,
    /// `dont_autoretry_for`: types of errors that are final.
    dont_autoretry_for: Vec<String>,
}

impl RetryPolicy {
    /// How many bytes the types of errors have.
    fn weight(&self) -> usize {
        let types = self.autoretry_for.iter().flatten().chain(&self.dont_autoretry_for);
        types.map(String::len).sum()
    }
}

/// The policy as an option's value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "Written::max_retries")]
    max_retries: Option<u32>,
    #[serde(default)]
    delay: f64,
    #[serde(default)]
    backoff: Option<Backoff>,
    #[serde(default = "Written::backoff_max")]
    backoff_max: f64,
    #[serde(default = "Written::jitter")]
    jitter: bool,
    #[serde(default)]
    autoretry_for: Option<Vec<String>>,
    #[serde(default)]
    dont_autoretry_for: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Backoff {
    Switch(bool),
    Seconds(f64),
}

/// Celery's defaults: three retries, backoff up to ten minutes, with jitter.
impl Written {
    fn max_retries() -> Option<u32> {
        Some(3)
    }

    fn backoff_max() -> f64 {
        600.0
    }

    fn jitter() -> bool {
        true
    }
}

impl When {
    /// From now.
    pub fn after(duration: Duration) -> Self {
        Self::After(ms(duration.as_secs_f64()))
    }

    /// The moment itself, when it is now `now_ms` after 1970 or up to a millisecond more: never early.
    pub fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::After(ms) => now_ms.saturating_add(ms).saturating_add(1),
            Self::At(ms) => ms,
        }
    }

    /// Reads a date and time as Celery writes it: ISO 8601, with an offset, or in UTC when it has none.
    pub(crate) fn read_time(text: &str) -> Option<Self> {
        let time = text.parse::<Timestamp>().ok().or_else(|| {
            let time: DateTime = text.parse().ok()?;
            Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
        })?;
        Some(Self::At(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

impl LeafOptions {
    /// About how many bytes it takes to carry them: of what may be long.
    pub fn weight(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let shadow = self.shadow.as_ref().map_or(0, String::len);
        json(&self.headers) + json(&self.stamps) + shadow + self.retry.as_ref().map_or(0, RetryPolicy::weight)
    }

    /// Reads them.
    ///
    /// # Errors
    /// The first option whose value does not fit.
    pub fn of(options: &Options) -> Result<Self, OptionError> {
        options.check()?;
        if options.values().next().is_none() {
            return Ok(Self::default());
        }
        let value = |name: &str| options.value(name).filter(|value| value.as_str() != "null");
        let seconds = |name: &str| value(name).and_then(|value| value.to::<f64>().ok()).map(ms);
        let time = |name: &str| value(name)?.to::<String>().ok().and_then(|text| When::read_time(&text));
        let flag = |name: &str| value(name).and_then(|value| value.to().ok());
        Ok(Self {
            // Celery counts an eta when there is no countdown.
            start: seconds("countdown").map(When::After).or_else(|| time("eta")),
            expires: time("expires").or_else(|| seconds("expires").map(When::After)),
            priority: value("priority").and_then(|value| value.to().ok()),
            retry: value("retry").and_then(|value| RetryPolicy::read(value).ok().flatten()),
            time_limit_ms: seconds("time_limit"),
            soft_time_limit_ms: seconds("soft_time_limit"),
            heartbeat_ms: seconds("heartbeat"),
            acks_late: flag("acks_late"),
            ignore_result: flag("ignore_result"),
            headers: value("headers").cloned(),
            compression: value("compression").and_then(|value| value.to().ok()),
            shadow: value("shadow").and_then(|value| value.to().ok()),
            stamps: stamps(options),
        })
    }

    /// These, and of `around` what is not set here.
    #[must_use]
    pub fn or(&self, around: &Self) -> Self {
        Self {
            start: self.start.or(around.start),
            expires: self.expires.or(around.expires),
            priority: self.priority.or(around.priority),
            retry: self.retry.clone().or_else(|| around.retry.clone()),
            time_limit_ms: self.time_limit_ms.or(around.time_limit_ms),
            soft_time_limit_ms: self.soft_time_limit_ms.or(around.soft_time_limit_ms),
            heartbeat_ms: self.heartbeat_ms.or(around.heartbeat_ms),
            acks_late: self.acks_late.or(around.acks_late),
            ignore_result: self.ignore_result.or(around.ignore_result),
            headers: self.headers.clone().or_else(|| around.headers.clone()),
            compression: self.compression.or(around.compression),
            shadow: self.shadow.clone().or_else(|| around.shadow.clone()),
            stamps: match (&self.stamps, &around.stamps) {
                (Some(own), Some(around)) if own != around => Some(both(own, around)),
                (own, around) => own.clone().or_else(|| around.clone()),
            },
        }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RetryPolicy {
    /// At most so many attempts besides the first, without waiting, whatever the error.
    pub fn new(max_retries: u32) -> Self {
        Self {
            max_retries: Some(max_retries),
            delay_ms: 0,
            backoff_ms: None,
            backoff_max_ms: ms(Written::backoff_max()),
            jitter: Written::jitter(),
            autoretry_for: None,
            dont_autoretry_for: Vec::new(),
        }
    }

    /// As many attempts as it takes.
    pub fn forever() -> Self {
        Self { max_retries: None, ..Self::new(0) }
    }

    /// Waits so long before each further attempt.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay_ms: ms(delay.as_secs_f64()), ..self }
    }

    /// Waits so long before the second attempt, and twice as long before each further one, up to ten minutes.
    #[must_use]
    pub fn backoff(self, first: Duration) -> Self {
        Self { backoff_ms: Some(ms(first.as_secs_f64())), ..self }
    }

    /// No backoff is longer than this.
    #[must_use]
    pub fn cap(self, backoff_max: Duration) -> Self {
        Self { backoff_max_ms: ms(backoff_max.as_secs_f64()), ..self }
    }

    /// Whether to wait only a part of the backoff, by chance, so that what failed together does not come
    /// again together; as Celery, on unless turned off.
    #[must_use]
    pub fn jitter(self, jitter: bool) -> Self {
        Self { jitter, ..self }
    }

    /// Only after errors of these types: the `type` of a [`TaskError`], such as `io::Error`.
    #[must_use]
    pub fn on(self, kinds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { autoretry_for: Some(kinds.into_iter().map(Into::into).collect()), ..self }
    }

    /// Never after errors of these types.
    #[must_use]
    pub fn not_on(self, kinds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { dont_autoretry_for: kinds.into_iter().map(Into::into).collect(), ..self }
    }

    /// Whether another attempt follows when attempt number `attempt` has ended with this error.
    pub fn allows(&self, attempt: u32, error: &TaskError) -> bool {
        let is_one_of = |kinds: &[String]| kinds.contains(&error.kind);
        self.has_left(attempt)
            && !is_one_of(&self.dont_autoretry_for)
            && self.autoretry_for.as_deref().is_none_or(is_one_of)
    }

    /// Whether there is another attempt after this one, whatever it ended with.
    pub fn has_left(&self, attempt: u32) -> bool {
        self.max_retries.is_none_or(|max| attempt <= max)
    }

    /// How long to wait after attempt number `attempt`, for a chance from 0 to 1.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let Some(first) = self.backoff_ms else { return Duration::from_millis(self.delay_ms) };
        let doubled = first.saturating_mul(1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX));
        let most = doubled.min(self.backoff_max_ms);
        Duration::from_millis(if self.jitter { (most as f64 * chance) as u64 } else { most })
    }

    /// The policy as an option's value.
    pub(crate) fn to_json(&self) -> Json {
        let seconds = |ms: u64| Json::new(&(ms as f64 / 1000.0)).expect("a finite number has a JSON form");
        let mut fields = vec![
            ("max_retries", Json::new(&self.max_retries).expect("a number has a JSON form")),
            ("delay", seconds(self.delay_ms)),
            ("backoff", self.backoff_ms.map_or_else(Json::null, seconds)),
            ("backoff_max", seconds(self.backoff_max_ms)),
            ("jitter", Json::new(&self.jitter).expect("a flag has a JSON form")),
            ("dont_autoretry_for", Json::new(&self.dont_autoretry_for).expect("texts have a JSON form")),
        ];
        if let Some(kinds) = &self.autoretry_for {
            fields.push(("autoretry_for", Json::new(kinds).expect("texts have a JSON form")));
        }
        Json::object(fields.iter().map(|(name, value)| (*name, value)))
    }

    /// Reads an option's value. Celery's own `retry`, true or false, is about sending a message: it says
    /// nothing here.
    pub(crate) fn read(value: &Json) -> Result<Option<Self>, ()> {
        if value.to::<bool>().is_ok() {
            return Ok(None);
        }
        let written: Written = value.to().map_err(drop)?;
        let is_time = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        let backoff = match written.backoff {
            None | Some(Backoff::Switch(false)) => None,
            Some(Backoff::Switch(true)) => Some(1.0),
            Some(Backoff::Seconds(seconds)) => Some(seconds),
        };
        if ![written.delay, written.backoff_max, backoff.unwrap_or(0.0)].into_iter().all(is_time) {
            return Err(());
        }
        Ok(Some(Self {
            max_retries: written.max_retries,
            delay_ms: ms(written.delay),
            backoff_ms: backoff.map(ms),
            backoff_max_ms: ms(written.backoff_max),
            jitter: written.jitter,
            autoretry_for: written.autoretry_for,
            dont_autoretry_for: written.dont_autoretry_for,
        }))
    }
}

/// The members of two objects; of the same name that of the first.
fn both(own: &Json, around: &Json) -> Json {
    let read = |object: &Json| object.to::<BTreeMap<String, Json>>().unwrap_or_default();
    let mut members = read(around);
    members.extend(read(own));
    Json::object(members.iter().map(|(name, value)| (name.as_str(), value)))
}

/// Seconds as whole milliseconds, none lost: a timer never fires early.
fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil() as u64
}

fn stamps(options: &Options) -> Option<Json> {
    let names: Vec<String> = options.value("stamped_headers")?.to().ok()?;
    let stamps: BTreeMap<&str, &Json> =
        names.iter().filter_map(|name| Some((name.as_str(), options.value(name)?))).collect();
    (!stamps.is_empty()).then(|| Json::object(stamps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::new();
        for (name, value) in pairs {
            options.set(name, Json::parse(value).unwrap()).unwrap();
        }
        options
    }

    #[test]
    fn options_are_read_in_celerys_words() {
        let read = LeafOptions::of(&options(&[
            ("countdown", "1.5"),
            ("expires", "\"2026-11-25T04:00:00+02:00\""),
            ("priority", "7"),
            ("retry", "{\"max_retries\":2,\"backoff\":true,\"jitter\":false}"),
            ("time_limit", "3"),
            ("acks_late", "false"),
            ("stamped_headers", "[\"tenant\"]"),
            ("tenant", "\"acme\""),
            ("shadow", "null"),
        ]))
        .unwrap();
        let expected = LeafOptions {
            start: Some(When::After(1500)),
            expires: Some(When::At(1_795_572_000_000)),
            priority: Some(7),
            retry: Some(RetryPolicy::new(2).backoff(Duration::from_secs(1)).jitter(false)),
            time_limit_ms: Some(3000),
            acks_late: Some(false),
            stamps: Some(Json::parse("{\"tenant\":\"acme\"}").unwrap()),
            ..LeafOptions::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_time_without_an_offset_is_in_utc() {
        let at = |text: &str| LeafOptions::of(&options(&[("eta", text)])).unwrap().start;
        assert_eq!(at("\"2026-11-25T02:00:00.25\""), Some(When::At(1_795_572_000_250)));
        assert_eq!(at("\"2026-11-25 02:00:00.25Z\""), at("\"2026-11-25T02:00:00.25\""));
    }

    /// A clock that says 1,000 may be at 1,000.999.
    #[test]
    fn a_time_from_now_is_never_early() {
        assert_eq!(When::After(5).at_ms(1000), 1006);
        assert_eq!(When::After(0).at_ms(1000), 1001);
        assert_eq!(When::after(Duration::from_micros(1500)), When::After(2));
        assert_eq!(When::At(7).at_ms(1000), 7);
    }

    #[test]
    fn what_is_set_inside_goes_before_what_is_set_around_it() {
        let inner = LeafOptions { priority: Some(1), ..LeafOptions::default() };
        let outer = LeafOptions { priority: Some(2), time_limit_ms: Some(5), ..LeafOptions::default() };
        assert_eq!(inner.or(&outer), LeafOptions { priority: Some(1), ..outer });
    }

    #[test]
    fn a_policy_comes_back_as_it_was_written() {
        for policy in [
            RetryPolicy::new(3),
            RetryPolicy::forever().after(Duration::from_secs(2)).on(["A", "B"]),
            RetryPolicy::new(1).backoff(Duration::from_millis(250)).cap(Duration::from_secs(9)).not_on(["C"]),
        ] {
            assert_eq!(RetryPolicy::read(&policy.to_json()), Ok(Some(policy)));
        }
    }

    #[test]
    fn the_backoff_doubles_up_to_its_cap() {
        let policy =
            RetryPolicy::forever().backoff(Duration::from_secs(1)).cap(Duration::from_secs(5)).jitter(false);
        let delays: Vec<u64> = [1, 2, 3, 4, 100].map(|attempt| policy.delay(attempt, 0.5).as_secs()).to_vec();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        assert_eq!(policy.jitter(true).delay(2, 0.5), Duration::from_secs(1));
    }
}
