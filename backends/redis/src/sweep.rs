//! Taking up entries whose owners are gone.
//!
//! A sweep looks what is held of many lines in one step. Where something is, it asks for the consumers, and
//! hands them to the step that takes up a few at a time: however many there are, and whatever they hold, no
//! step takes long.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use celeriac_backends::BackendError;
use futures::stream::{self, StreamExt as _};
use redis::Value;
use tokio::time::Instant;

use crate::connection::{GROUP, Link, line_keys};
use crate::error::corrupt;
use crate::keys::Line;
use crate::scripts::{DATE, GATHER, LOOK, SLICE, SWEEP, TIDY};
use crate::watch::LATE;

/// An entry that was not touched for so long and waits nowhere is taken up.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// So many lines are looked at in one step.
const LINES_AT_ONCE: usize = 100;

/// On a Cluster, where each queue is by itself, so many are swept at the same time.
const SHARDS_AT_ONCE: usize = 16;

/// A sweep takes up at most this many slices of each line; the next sweep goes on.
const SLICES_MAX: usize = 20;

/// A step looks at no more consumers, nor at more entries; who holds more is looked at by itself, in parts.
const CONSUMERS_AT_ONCE: usize = 200;
const HELD_AT_ONCE: usize = 5000;

/// A line, where to report of what is lost from it, and after how many deliveries it is (0: never).
#[derive(Clone, Debug)]
pub(crate) struct Swept {
    pub(crate) line: Line,
    pub(crate) reports: String,
    pub(crate) deliveries_max: u32,
}

/// When lines were last looked at of which nothing is held.
#[derive(Debug, Default)]
pub(crate) struct Tidied(Mutex<Option<Instant>>);

/// Which consumers are removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tidy {
    /// Those that hold nothing and were not heard of for so long. Redis needs long to say who there is when
    /// there are thousands. One that is only idle comes about again with the next leaf that it takes.
    idle: Duration,
    /// Also those of lines of which nothing is held.
    all: bool,
}

impl Tidied {
    /// What is to be done now about consumers that are idle for so long.
    pub(crate) fn now(&self, idle: Duration) -> Tidy {
        let mut tidied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = tidied.is_none_or(|tidied| tidied.elapsed() >= idle);
        if all {
            *tidied = Some(Instant::now());
        }
        Tidy { idle, all }
    }
}

/// Who holds entries of a line, and how many.
struct Consumer {
    name: Vec<u8>,
    held: usize,
    idle_ms: u64,
}

impl Consumer {
    /// Nobody renews what another program has taken under a name of its own.
    fn lease(&self) -> Option<Duration> {
        let name = std::str::from_utf8(&self.name).ok();
        name.and_then(|name| name.rsplit_once('#')?.1.parse().ok()).map(Duration::from_millis)
    }

    fn is_owner(&self) -> bool {
        self.name != b"-" && self.name != b"~"
    }
}

/// Takes up entries whose leases have passed; returns how many go on and how many were delivered too often,
/// and an error when some lines could not be swept. `lost` is the outcome that is reported of those, up to
/// their number. Also removes consumers.
pub(crate) async fn sweep(
    link: &Link,
    lines: &[Swept],
    lost: &[u8],
    tidy: Tidy,
) -> ((usize, usize), Option<BackendError>) {
    // A shard that is away does not hold up the lines of the others.
    let (at_once, together) = if link.is_cluster() { (1, SHARDS_AT_ONCE) } else { (LINES_AT_ONCE, 1) };
    let parts: Vec<_> = lines.chunks(at_once).map(|lines| sweep_some(link, lines, lost, tidy)).collect();
    let parts: Vec<_> = stream::iter(parts).buffer_unordered(together).collect().await;
    let (mut swept, mut failed) = ((0, 0), None);
    for part in parts {
        match part {
            Ok((again, lost)) => swept = (swept.0 + again, swept.1 + lost),
            Err(error) => failed = Some(error),
        }
    }
    (swept, failed)
}

async fn sweep_some(
    link: &Link,
    lines: &[Swept],
    lost: &[u8],
    tidy: Tidy,
) -> Result<(usize, usize), BackendError> {
    let (asked, mut swept) = (Instant::now(), (0, 0));
    let found: Vec<i64> = link
        .run("sweep", &LOOK, |script| {
            line_keys(script, lines.iter().map(|swept| &swept.line));
            script.arg(GROUP);
        })
        .await?;
    let Some((now_ms, found)) = found.split_first() else { return Ok(swept) };
    let now_ms = u64::try_from(*now_ms).unwrap_or(0);
    let watched = link.watch.watched(&lines[0].line.stream, asked, now_ms);
    for (line, found) in lines.iter().zip(found.chunks_exact(5)) {
        let [held, consumers, again, apart, all] = [0, 1, 2, 3, 4].map(|place| usize::try_from(found[place]));
        let (Ok(held), Ok(consumers), Ok(again), Ok(apart), Ok(all)) = (held, consumers, again, apart, all)
        else {
            link.broken.note(&line.line.stream, "a list that belongs to it holds something else");
            continue;
        };
        if line.line.gone.is_some() {
            link.unserved.note(&line.line.stream, all, consumers);
        }
        if held == 0 && (consumers == 0 || !tidy.all) {
            continue;
        }
        if held > 0 {
            date_anew(link, &line.line).await?;
        }
        let silent_for = |consumer: &Consumer| match consumer.lease() {
            Some(lease) => link.watch.silent_for(&lines[0].line.stream, watched, lease),
            None => Some(IDLE),
        };
        let one = sweep_one(link, line, [again, apart], silent_for, lost, (asked, now_ms), tidy.idle);
        match one.await {
            Ok(Some((again, lost))) => swept = (swept.0 + again, swept.1 + lost),
            Ok(None) => break,
            Err(error) if error.may_retry() => return Err(error),
            // It holds up no other.
            Err(error) => link.broken.note(&line.line.stream, error),
        }
    }
    Ok(swept)
}

/// Sweeps a line of which something is held, or on which there are consumers to be removed.
async fn sweep_one(
    link: &Link,
    line: &Swept,
    waiting: [usize; 2],
    silent_for: impl Fn(&Consumer) -> Option<Duration>,
    lost: &[u8],
    (asked, now_ms): (Instant, u64),
    idle: Duration,
) -> Result<Option<(usize, usize)>, BackendError> {
    let consumers = consumers_of(link, &line.line).await?;
    tidy_up(link, &line.line, &consumers, idle).await?;
    let found = gather(link, &line.line, &consumers, waiting).await?;
    let owners = consumers.iter().filter(|consumer| consumer.held > 0 && consumer.is_owner());
    let owners: Vec<(&Consumer, Duration)> =
        owners.filter_map(|consumer| Some((consumer, silent_for(consumer)?))).collect();
    let now_ms = now_ms + asked.elapsed().as_millis() as u64;
    let taken_up = take_up(link, line, &owners, lost, now_ms).await?;
    Ok(taken_up.map(|(again, lost)| (found + again, lost)))
}

/// Takes up what these owners have held for so long; nothing when the store was away meanwhile.
async fn take_up(
    link: &Link,
    line: &Swept,
    owners: &[(&Consumer, Duration)],
    lost: &[u8],
    now_ms: u64,
) -> Result<Option<(usize, usize)>, BackendError> {
    let (asked, mut swept, mut slices) = (Instant::now(), (0, 0), 0);
    let mut rest = owners;
    while !rest.is_empty() && slices < SLICES_MAX {
        let mut held = 0;
        let fits = |(owner, _): &&(&Consumer, Duration)| {
            held += owner.held;
            held <= HELD_AT_ONCE
        };
        let count = rest.iter().take(CONSUMERS_AT_ONCE).take_while(fits).count();
        let (some, mut from) =
            if count == 0 { (&rest[..1], "-".to_owned()) } else { (&rest[..count], String::new()) };
        rest = &rest[some.len()..];
        loop {
            // By the clock of Redis as it was asked, and by ours since then.
            let now_ms = now_ms + asked.elapsed().as_millis() as u64;
            let (again, lost, seen, next): (isize, usize, usize, String) = link
                .run("sweep", &SWEEP, |script| {
                    line_keys(script, [&line.line]);
                    script.key(&line.reports);
                    line.line.gone.iter().for_each(|gone| {
                        script.key(gone);
                    });
                    script.arg(GROUP).arg(link.keys.submission_stream());
                    script.arg(line.deliveries_max).arg(SLICE).arg(lost);
                    script.arg(now_ms).arg(LATE.as_millis() as u64).arg(&from);
                    for (owner, silent) in some {
                        script.arg(&owner.name).arg(silent.as_millis() as u64);
                    }
                })
                .await?;
            let Ok(again) = usize::try_from(again) else {
                link.watch.interrupt(&line.line.stream);
                return Ok(None);
            };
            swept = (swept.0 + again, swept.1 + lost);
            slices += usize::from(seen > 0);
            let is_done = if from.is_empty() { seen < SLICE } else { next.is_empty() };
            if is_done || slices >= SLICES_MAX {
                break;
            }
            from = next;
        }
    }
    Ok(Some(swept))
}

/// Dates what is held of a line anew when its clock was set back.
async fn date_anew(link: &Link, line: &Line) -> Result<(), BackendError> {
    let Some(set_back) = link.watch.is_to_be_dated(&line.stream) else { return Ok(()) };
    let mut from = "-".to_owned();
    while !from.is_empty() {
        from = link
            .run("sweep", &DATE, |script| {
                script.key(&line.stream).arg(GROUP).arg(&from).arg(SLICE);
            })
            .await?;
    }
    link.watch.dated(&line.stream, set_back);
    Ok(())
}

/// The consumers of a line. Not within a script: a script would take several times as long to copy the
/// answer.
async fn consumers_of(link: &Link, line: &Line) -> Result<Vec<Consumer>, BackendError> {
    let mut info = redis::cmd("XINFO");
    info.arg("CONSUMERS").arg(&line.stream).arg(GROUP);
    let answer: Vec<BTreeMap<String, Value>> = link.ask("sweep", &info).await?;
    let consumer = |mut about: BTreeMap<String, Value>| {
        let mut field = |name: &str| about.remove(name).unwrap_or(Value::Nil);
        let (name, held, idle) = (field("name"), field("pending"), field("idle"));
        Ok(Consumer {
            name: redis::from_redis_value(name)?,
            held: redis::from_redis_value(held)?,
            idle_ms: redis::from_redis_value(idle)?,
        })
    };
    let consumers: Result<_, redis::ParsingError> = answer.into_iter().map(consumer).collect();
    consumers.map_err(|error| corrupt("sweep", error))
}

/// Removes consumers that hold nothing and were not heard of for long.
async fn tidy_up(
    link: &Link,
    line: &Line,
    consumers: &[Consumer],
    idle: Duration,
) -> Result<(), BackendError> {
    let is_gone = |consumer: &&Consumer| {
        consumer.held == 0 && consumer.is_owner() && u128::from(consumer.idle_ms) > idle.as_millis()
    };
    let gone: Vec<&Consumer> = consumers.iter().filter(is_gone).collect();
    for slice in gone.chunks(SLICE) {
        link.run::<()>("sweep", &TIDY, |script| {
            script.key(&line.stream).arg(GROUP);
            for consumer in slice {
                script.arg(&consumer.name);
            }
        })
        .await?;
    }
    Ok(())
}

/// Finds entries that nobody holds and that wait nowhere, when fewer wait than do so; returns how many.
async fn gather(
    link: &Link,
    line: &Line,
    consumers: &[Consumer],
    waiting: [usize; 2],
) -> Result<usize, BackendError> {
    let mut found = 0;
    for ((name, list), waiting) in [("-", &line.again), ("~", &line.apart)].into_iter().zip(waiting) {
        let held = consumers.iter().find(|consumer| consumer.name == name.as_bytes());
        if held.is_some_and(|consumer| consumer.held > waiting) {
            let gathered: usize = link
                .run("sweep", &GATHER, |script| {
                    script.key(&line.stream).key(list).arg(GROUP).arg(name);
                    script.arg(IDLE.as_millis() as u64).arg(SLICE);
                })
                .await?;
            found += gathered;
        }
    }
    Ok(found)
}
