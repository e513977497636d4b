//! Which lanes have timers.
//!
//! One server keeps an index of them by the moment at which the next is due, written in the step that sets
//! a timer: whoever looks reads what is due and nothing else. On a Cluster the timers of a queue are in its
//! own slot. There each coordinator knows of the timers it has set and of those that were hinted at, and a
//! sweep looks at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::BackendError;
use celeriac_primitives::Outcome;
use tokio::time::Instant;

use crate::RedisBackend;
use crate::error::{First, corrupt};
use crate::queue::encode;
use crate::queues::Place;
use crate::scripts::{DUE, FIRE, SLICE};

/// The timers of so many lanes are looked at in one step.
const LANES_AT_ONCE: usize = 100;

/// So many steps follow each other before others are let in.
const STEPS_MAX: usize = 100;

/// On a Cluster: lanes that have timers, and when the next is due.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<BTreeMap<Place, Instant>>);

impl Timers {
    /// That these lanes may have timers: they are looked at.
    pub(crate) fn look_at(&self, places: impl IntoIterator<Item = Place>) {
        let now = Instant::now();
        let mut timers = self.timers();
        for place in places {
            timers.insert(place, now);
        }
    }

    fn due(&self) -> Vec<Place> {
        let now = Instant::now();
        self.timers().iter().filter(|(_, due)| **due <= now).map(|(place, _)| place.clone()).collect()
    }

    /// Notes when the next timer of a lane is due, unless one was set since it was looked at.
    fn note(&self, place: &Place, looked: Instant, next: Option<Duration>) {
        let mut timers = self.timers();
        if timers.get(place).is_none_or(|due| *due > looked) {
            return;
        }
        match next {
            Some(next) => drop(timers.insert(place.clone(), Instant::now() + next)),
            None => drop(timers.remove(place)),
        }
    }

    fn next(&self) -> Option<Duration> {
        let next = self.timers().values().min().copied();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    fn timers(&self) -> MutexGuard<'_, BTreeMap<Place, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisBackend {
    /// Fires what is due; how long it is until the next.
    pub(crate) async fn fire_due(&self) -> Result<Option<Duration>, BackendError> {
        if self.link().is_cluster() { self.fire_known().await } else { self.fire_indexed().await }
    }

    async fn fire_indexed(&self) -> Result<Option<Duration>, BackendError> {
        let link = self.link();
        for _ in 0..STEPS_MAX {
            let (now, next, due): (i64, i64, Vec<Vec<u8>>) = link
                .run("fire", &DUE, |script| {
                    script.key(link.keys.timer_index()).arg(LANES_AT_ONCE);
                })
                .await?;
            if due.is_empty() {
                let left = |next: i64| Duration::from_millis((next - now).max(0) as u64);
                return Ok((next >= 0).then(|| left(next)));
            }
            let (places, strange): (Vec<_>, Vec<_>) = due
                .iter()
                .map(|stream| {
                    (stream, std::str::from_utf8(stream).ok().and_then(|name| link.keys.place_of(name)))
                })
                .partition(|(_, place)| place.is_some());
            if !strange.is_empty() {
                // Nothing of this program's.
                let strange: Vec<&Vec<u8>> = strange.into_iter().map(|(stream, _)| stream).collect();
                link.ask::<()>("fire", redis::cmd("ZREM").arg(link.keys.timer_index()).arg(strange)).await?;
            }
            let places: Vec<Place> = places.into_iter().filter_map(|(_, place)| place).collect();
            self.fire_lanes(&places).await?;
        }
        Ok(Some(Duration::ZERO))
    }

    async fn fire_known(&self) -> Result<Option<Duration>, BackendError> {
        let link = self.link();
        let told: BTreeSet<Place> =
            link.hints.take_timers().iter().filter_map(|stream| link.keys.place_of(stream)).collect();
        self.timers().look_at(told);
        let mut first = First::default();
        for place in self.timers().due() {
            let looked = Instant::now();
            match self.fire_lanes(std::slice::from_ref(&place)).await {
                Ok(next) => self.timers().note(&place, looked, next),
                // It stays due, and holds up none of the others.
                Err(error) => first.of(Err(error)),
            }
        }
        first.into_result()?;
        Ok(self.timers().next())
    }

    /// Fires what is due in these lanes; how long it is until the next in any of them.
    pub(crate) async fn fire_lanes(&self, lanes: &[Place]) -> Result<Option<Duration>, BackendError> {
        let link = self.link();
        let (at_once, hints) =
            (if link.is_cluster() { 1 } else { LANES_AT_ONCE }, link.keys.submission_stream());
        let mut next: Option<u64> = None;
        for places in lanes.chunks(at_once) {
            let fired: Vec<redis::Value> = link
                .run("fire", &FIRE, |script| {
                    for (queue, lane) in places {
                        script.key(link.keys.stream(queue, *lane));
                        script
                            .key(&link.keys.timers(queue, *lane)[..])
                            .key(link.keys.report_stream(queue, *lane));
                    }
                    if !link.is_cluster() {
                        script.key(link.keys.report_index()).key(link.keys.timer_index());
                    }
                    script.arg(SLICE).arg(&hints).arg(encode(&Outcome::Expired));
                })
                .await?;
            let mut fired = fired.into_iter();
            let due: i64 = read(fired.next())?;
            while let Some(place) = fired.next() {
                let (place, why): (usize, String) = (read(Some(place))?, read(fired.next())?);
                if let Some((queue, lane)) = places.get(place.saturating_sub(1)) {
                    link.broken.note(&link.keys.stream(queue, *lane), format!("its timers: {why}"));
                }
            }
            next = next.into_iter().chain(u64::try_from(due)).min();
        }
        Ok(next.map(Duration::from_millis))
    }
}

fn read<T: redis::FromRedisValue>(value: Option<redis::Value>) -> Result<T, BackendError> {
    redis::from_redis_value(value.unwrap_or(redis::Value::Nil)).map_err(|error| corrupt("fire", error))
}
