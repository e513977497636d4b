//! Which queues there are, and which lanes they have.
//!
//! Whoever is about to queue leaves notes the queue and the lane in Redis, again after a few seconds; so it
//! is known there when a queue was last used, and one that holds nothing and was not used for long is removed
//! (`unused.rs`). Workers look there for lanes of their queues, coordinators for queues.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind, Lane, LaneOrder};
use tokio::time::Instant;

use crate::connection::Link;
use crate::keys::{ReportsOf, may_name_queue};
use crate::scripts::{NOTE, SLICE};

/// Separates a queue's name, which has no control characters, from the place of a lane.
const LANE: char = '\u{1}';

/// A worker that always finds something looks for new lanes this often, when nothing else is said.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A queue that holds nothing is removed when it was not used for so long, when nothing else is said.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(30);

/// So many queues there are at most, when nothing else is said.
pub(crate) const QUEUES_MAX: usize = 10_000;

/// So many noted lanes are remembered before those are dropped that have to be noted again anyway.
const REMEMBERED_MAX: usize = 1_000;

/// A lane of a queue.
pub(crate) type Place = (Arc<str>, Lane);

/// A queue, as it is noted in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    /// When it was noted last, by the clock of Redis, in ms.
    pub(crate) used_ms: u64,
    /// Its lanes, the first included.
    pub(crate) lanes: Vec<Lane>,
}

impl Named {
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.lanes.iter().map(|lane| (self.name.clone(), *lane))
    }

    /// Its lines of reports: one for leaves in bulk when it has a lane for them.
    pub(crate) fn reports(&self) -> impl Iterator<Item = ReportsOf> + use<> {
        let has_bulk = self.lanes.iter().any(|lane| lane.is_bulk());
        ReportsOf::both(&self.name).into_iter().take(1 + usize::from(has_bulk))
    }
}

/// Lanes that one is about to note again, and when they had been noted before: so it was again, unless this
/// is done.
struct Again<'q> {
    queues: &'q Queues,
    before: Vec<(Place, Instant)>,
}

impl<'q> Again<'q> {
    fn begin(queues: &'q Queues, state: &mut State, places: &BTreeSet<Place>, now: Instant) -> Self {
        let mut before = Vec::new();
        for place in places {
            if let Some(noted) = state.noted.get_mut(place)
                && now.duration_since(*noted) < 2 * queues.noted_for()
            {
                before.push((place.clone(), std::mem::replace(noted, now)));
            }
        }
        Self { queues, before }
    }

    fn done(mut self) {
        self.before.clear();
    }
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if !self.before.is_empty() {
            self.queues.state().noted.extend(self.before.drain(..));
        }
    }
}

/// The queues this process knows of.
#[derive(Debug)]
pub(crate) struct Queues {
    state: Mutex<State>,
    max: usize,
    kept_for: Duration,
    look_every: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// Lanes that this process has noted in Redis, and when.
    noted: HashMap<Place, Instant>,
    /// Lanes that are used and could not be noted: that is tried again.
    unnoted: BTreeSet<Place>,
    /// Lanes besides the first of each queue.
    lanes: BTreeSet<Place>,
    /// When workers looked for lanes.
    looked: Option<Instant>,
    /// Whether a worker was hinted at leaves since then, and has taken all that it knew where to find.
    looks_again: bool,
}

impl Queues {
    /// At most so many queues (0 for any number), each kept so long after its last use; those that take look
    /// for lanes this often.
    pub(crate) fn new(max: usize, kept_for: Duration, look_every: Duration) -> Self {
        Self { state: Mutex::default(), max, kept_for: kept_for.max(Duration::from_millis(100)), look_every }
    }

    /// A queue that holds nothing is removed when it was not used for so long.
    pub(crate) fn kept_for(&self) -> Duration {
        self.kept_for
    }

    /// What was noted for so long is noted again when it is used.
    pub(crate) fn noted_for(&self) -> Duration {
        self.kept_for / 6
    }

    /// Who used a queue so long after he had noted it (he was stopped in between) notes it again afterwards.
    fn late(&self) -> Duration {
        self.kept_for / 2
    }

    /// Notes lanes in Redis, unless this process has done so lately. Who accepts a run asks for room: then
    /// there may not be too many queues. Returns what [`again`](Self::note_again) takes.
    pub(crate) async fn note<'n>(
        &self,
        link: &Link,
        operation: &'static str,
        places: impl IntoIterator<Item = (&'n Arc<str>, Lane)>,
        asks_for_room: bool,
    ) -> Result<Option<Instant>, BackendError> {
        let mut new: BTreeSet<Place> = BTreeSet::new();
        let mut oldest: Option<Instant> = None;
        let again;
        {
            let (mut state, mut before) = (self.state(), None);
            let now = Instant::now();
            for (queue, lane) in places {
                if before.replace((queue, lane)) == Some((queue, lane)) {
                    continue;
                }
                match state.noted.get(&(queue.clone(), lane)) {
                    Some(noted) if now.duration_since(*noted) < self.noted_for() => {
                        oldest = Some(oldest.map_or(*noted, |oldest| oldest.min(*noted)));
                    }
                    _ => drop(new.insert((queue.clone(), lane))),
                }
            }
            if state.noted.len() > REMEMBERED_MAX {
                state.noted.retain(|_, noted| now.duration_since(*noted) < self.noted_for());
            }
            // What is old is still good for a while: one notes it again, and the others of a crowd go on.
            again = Again::begin(self, &mut state, &new, now);
        }
        if new.is_empty() {
            return Ok(oldest);
        }
        let noted = Instant::now();
        self.note_now(link, operation, &new, if asks_for_room { self.max } else { 0 }).await?;
        again.done();
        let mut state = self.state();
        for place in new {
            if place.1 != Lane::default() {
                state.lanes.insert(place.clone());
            }
            state.noted.insert(place, noted);
        }
        Ok(Some(oldest.map_or(noted, |oldest| oldest.min(noted))))
    }

    /// These are used, and could not be noted: nobody finds them until they are.
    pub(crate) fn owe<'n>(&self, places: impl IntoIterator<Item = (&'n Arc<str>, Lane)>) {
        self.state().unnoted.extend(places.into_iter().map(|(queue, lane)| (queue.clone(), lane)));
    }

    /// Notes what could not be noted.
    pub(crate) async fn note_owed(&self, link: &Link, operation: &'static str) -> Result<(), BackendError> {
        let owed = std::mem::take(&mut self.state().unnoted);
        let noted = self.note(link, operation, owed.iter().map(|(queue, lane)| (queue, *lane)), false).await;
        if noted.is_err() {
            self.state().unnoted.extend(owed);
        }
        noted.map(|_| ())
    }

    /// What was noted may not be so at the server that is asked now.
    pub(crate) fn forget_noted(&self) {
        self.state().noted.clear();
    }

    /// Whether one of these has to be noted (again).
    pub(crate) fn is_old(&self, places: &[Place]) -> bool {
        let (state, mut before) = (self.state(), None);
        places.iter().any(|place| {
            before.replace(place) != Some(place)
                && state.noted.get(place).is_none_or(|noted| noted.elapsed() >= self.noted_for())
        })
    }

    /// Notes lanes again that were used long after they had been noted: the queue may have been removed in
    /// between.
    pub(crate) async fn note_again<'n>(
        &self,
        link: &Link,
        operation: &'static str,
        places: impl IntoIterator<Item = (&'n Arc<str>, Lane)>,
        noted: Option<Instant>,
    ) -> Result<(), BackendError> {
        if noted.is_some_and(|noted| noted.elapsed() > self.late()) {
            self.note(link, operation, places, false).await?;
        }
        Ok(())
    }

    /// Notes lanes, also those that this process has noted: the list says that they are not.
    pub(crate) async fn note_now(
        &self,
        link: &Link,
        operation: &'static str,
        places: &BTreeSet<Place>,
        max: usize,
    ) -> Result<(), BackendError> {
        let mut queues: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for place in places {
            let lanes = queues.entry(&place.0).or_default();
            if place.1 != Lane::default() {
                lanes.push(write(place));
            }
        }
        let queues: Vec<_> = queues.into_iter().collect();
        for slice in queues.chunks(SLICE / 2) {
            let there: i64 = link
                .run(operation, &NOTE, |script| {
                    script.key(link.keys.names()).key(link.keys.lanes()).arg(max).arg(slice.len());
                    for (name, _) in slice {
                        script.arg(*name);
                    }
                    for lane in slice.iter().flat_map(|(_, lanes)| lanes) {
                        script.arg(lane);
                    }
                })
                .await?;
            if there >= 0 {
                let context = format!(
                    "there are {there} queues, and no more than {max} may be (RedisBuilder::queues_max): use fewer names; those \
                     that hold nothing go away within a minute"
                );
                return Err(BackendError::new(ErrorKind::Full, operation).context(context));
            }
        }
        Ok(())
    }

    /// Looks for lanes of these queues that others have begun to use; whether there are new ones. Lanes that
    /// somebody took off the list although they are there are noted again.
    pub(crate) async fn look(
        &self,
        link: &Link,
        operation: &'static str,
        queues: &[Arc<str>],
    ) -> Result<bool, BackendError> {
        let noted = self.others_noted(link, operation, queues).await?;
        let (mut is_new, mut missing) = (false, Vec::new());
        {
            let mut state = self.state();
            for (place, is_noted) in noted {
                match (is_noted, state.lanes.contains(&place)) {
                    (true, false) => is_new |= state.lanes.insert(place),
                    (false, true) => missing.push(place),
                    _ => {}
                }
            }
        }
        self.note_lost(link, operation, missing).await?;
        Ok(is_new)
    }

    /// The lanes of these queues besides their first, and whether each is noted in Redis.
    async fn others_noted(
        &self,
        link: &Link,
        operation: &'static str,
        queues: &[Arc<str>],
    ) -> Result<Vec<(Place, bool)>, BackendError> {
        let all: Vec<Lane> = (0..).map_while(Lane::at).filter(|lane| *lane != Lane::default()).collect();
        let mut noted = Vec::with_capacity(queues.len() * all.len());
        for slice in queues.chunks(SLICE / all.len()) {
            let places: Vec<Place> =
                slice.iter().flat_map(|queue| all.iter().map(|lane| (queue.clone(), *lane))).collect();
            let mut cmd = redis::cmd("SMISMEMBER");
            cmd.arg(link.keys.lanes()).arg(places.iter().map(write).collect::<Vec<_>>());
            let there: Vec<bool> = link.ask(operation, &cmd).await?;
            noted.extend(places.into_iter().zip(there));
        }
        Ok(noted)
    }

    /// The lanes of these queues that are noted in Redis; the first of each in any case.
    pub(crate) async fn places_there(
        &self,
        link: &Link,
        operation: &'static str,
        queues: &[Arc<str>],
    ) -> Result<Vec<Place>, BackendError> {
        let noted = self.others_noted(link, operation, queues).await?;
        let others = noted.into_iter().filter_map(|(place, is_noted)| is_noted.then_some(place));
        Ok(queues.iter().map(|queue| (queue.clone(), Lane::default())).chain(others).collect())
    }

    /// The lanes of a queue that are noted in Redis; the first in any case.
    pub(crate) async fn lanes_there(
        &self,
        link: &Link,
        operation: &'static str,
        queue: &str,
    ) -> Result<Vec<Lane>, BackendError> {
        let there = self.places_there(link, operation, &[queue.into()]).await?;
        Ok(there.into_iter().map(|(_, lane)| lane).collect())
    }

    /// The lanes of a queue that are noted, and those that are there all the same: they are noted, too.
    pub(crate) async fn lanes_used(
        &self,
        link: &Link,
        operation: &'static str,
        queue: &Arc<str>,
    ) -> Result<Vec<Lane>, BackendError> {
        let mut lanes = self.lanes_there(link, operation, queue).await?;
        let others: Vec<Lane> = (0..).map_while(Lane::at).filter(|lane| !lanes.contains(lane)).collect();
        let are_there = async |these: &[Lane]| {
            let mut cmd = redis::cmd("EXISTS");
            for lane in these {
                cmd.arg(link.keys.stream(queue, *lane)).arg(&link.keys.timers(queue, *lane)[..]);
            }
            link.ask::<usize>(operation, &cmd).await.map(|there| there > 0)
        };
        // As a rule there is none, and one question tells so.
        if others.is_empty() || !are_there(&others).await? {
            return Ok(lanes);
        }
        let looks = others.iter().map(|lane| async {
            let lane = *lane;
            Ok::<_, BackendError>(are_there(&[lane]).await?.then_some(lane))
        });
        let looked = futures::future::try_join_all(looks).await?;
        let unnoted: Vec<Lane> = looked.into_iter().flatten().collect();
        let places = unnoted.iter().map(|lane| (queue.clone(), *lane)).collect();
        self.note_now(link, operation, &places, 0).await?;
        lanes.extend(unnoted);
        Ok(lanes)
    }

    /// Takes members off a list that nobody of this program has put there.
    async fn take_off(
        &self,
        link: &Link,
        operation: &'static str,
        (command, key): (&str, String),
        strange: Vec<&Vec<u8>>,
    ) -> Result<(), BackendError> {
        if strange.is_empty() {
            return Ok(());
        }
        link.ask(operation, redis::cmd(command).arg(key).arg(strange)).await
    }

    /// All queues, as they are noted in Redis.
    pub(crate) async fn all(&self, link: &Link, operation: &'static str) -> Result<Vec<Named>, BackendError> {
        let mut queues: BTreeMap<Arc<str>, Named> = BTreeMap::new();
        for from in (0..).step_by(2 * SLICE) {
            let mut cmd = redis::cmd("ZRANGE");
            cmd.arg(link.keys.names()).arg(from).arg(from + 2 * SLICE - 1).arg("WITHSCORES");
            let slice: Vec<(Vec<u8>, f64)> = link.ask(operation, &cmd).await?;
            let is_last = slice.len() < 2 * SLICE;
            for (name, used_ms) in &slice {
                let Some(name) = queue_of(name) else { continue };
                let named =
                    Named { name: name.clone(), used_ms: *used_ms as u64, lanes: vec![Lane::default()] };
                queues.insert(name, named);
            }
            // Nothing of this program's, and perhaps megabytes that all would read again and again.
            let strange = slice.iter().map(|(name, _)| name).filter(|name| queue_of(name).is_none());
            self.take_off(link, operation, ("ZREM", link.keys.names()), strange.collect()).await?;
            if is_last {
                break;
            }
        }
        let mut cursor = "0".to_owned();
        let mut there: BTreeSet<Place> = BTreeSet::new();
        loop {
            let mut cmd = redis::cmd("SSCAN");
            cmd.arg(link.keys.lanes()).arg(&cursor).arg("COUNT").arg(2 * SLICE);
            let (next, lanes): (String, Vec<Vec<u8>>) = link.ask(operation, &cmd).await?;
            let lane_of = |name: &Vec<u8>| read(std::str::from_utf8(name).ok()?);
            there.extend(lanes.iter().filter_map(lane_of));
            let strange = lanes.iter().filter(|name| lane_of(name).is_none());
            self.take_off(link, operation, ("SREM", link.keys.lanes()), strange.collect()).await?;
            if next == "0" {
                break;
            }
            cursor = next;
        }
        for (queue, lane) in &there {
            // Of a queue whose name somebody removed by hand, when it is alone.
            let alone = || Named { name: queue.clone(), used_ms: 0, lanes: vec![Lane::default()] };
            queues.entry(queue.clone()).or_insert_with(alone).lanes.push(*lane);
        }
        let lost: Vec<Place> = {
            let mut state = self.state();
            let is_there = |(queue, lane): &Place| match queues.get(queue) {
                Some(_) => *lane == Lane::default() || there.contains(&(queue.clone(), *lane)),
                None => false,
            };
            let known = state.lanes.iter().chain(state.noted.keys());
            let lost: BTreeSet<Place> = known.filter(|place| !is_there(place)).cloned().collect();
            state.lanes.extend(there);
            lost.into_iter().collect()
        };
        for (queue, lane) in self.note_lost(link, operation, lost).await? {
            let alone = || Named { name: queue.clone(), used_ms: 0, lanes: vec![Lane::default()] };
            let named = queues.entry(queue.clone()).or_insert_with(alone);
            if !named.lanes.contains(&lane) {
                named.lanes.push(lane);
            }
        }
        Ok(queues.into_values().collect())
    }

    /// Lanes that are known here and not on the list are noted again when they hold something; else they have
    /// been removed.
    async fn note_lost(
        &self,
        link: &Link,
        operation: &'static str,
        places: Vec<Place>,
    ) -> Result<Vec<Place>, BackendError> {
        let mut lost = BTreeSet::new();
        for place in places {
            let line = link.keys.queue(&place.0, place.1);
            let timers = link.keys.timers(&place.0, place.1);
            let mut cmd = redis::cmd("EXISTS");
            cmd.arg(&line.stream).arg(&timers);
            if link.ask::<usize>(operation, &cmd).await? > 0 {
                lost.insert(place);
            } else {
                let mut state = self.state();
                state.noted.remove(&place);
                state.lanes.remove(&place);
            }
        }
        if !lost.is_empty() {
            self.note_now(link, operation, &lost, 0).await?;
        }
        Ok(lost.into_iter().collect())
    }

    /// Forgets a queue that is gone.
    pub(crate) fn forget(&self, queue: &Arc<str>) {
        let mut state = self.state();
        state.noted.retain(|(noted, _), _| noted != queue);
        state.lanes.retain(|(known, _)| known != queue);
    }

    /// Whether it is time to look for lanes that others have begun to use.
    pub(crate) fn is_time_to_look(&self) -> bool {
        let mut state = self.state();
        let is_time = state.looked.is_none_or(|looked| looked.elapsed() >= self.look_every);
        if is_time {
            state.looked = Some(Instant::now());
            state.looks_again = false;
        }
        is_time
    }

    /// Notes that a worker was hinted at leaves and has found some, and that there may be more of them in
    /// lanes that others have begun to use.
    pub(crate) fn has_not_looked(&self) {
        self.state().looks_again = true;
    }

    /// Notes that somebody has begun to use a lane.
    pub(crate) fn has_new_lane(&self) {
        let mut state = self.state();
        (state.looked, state.looks_again) = (None, true);
    }

    /// In how long a worker looks for lanes therefore.
    pub(crate) fn looks_again(&self) -> Option<Duration> {
        let state = self.state();
        let left = |looked: Instant| self.look_every.saturating_sub(looked.elapsed());
        state.looks_again.then(|| state.looked.map_or(Duration::ZERO, left))
    }

    /// Whether it is time for that.
    pub(crate) fn is_time_to_look_again(&self) -> bool {
        self.looks_again().is_some_and(|left| left.is_zero()) && self.is_time_to_look()
    }

    /// The lanes of these queues, one queue after the other, each in this order.
    pub(crate) fn lanes(&self, queues: &[Arc<str>], order: LaneOrder) -> Vec<Place> {
        let state = self.state();
        let mut all = Vec::with_capacity(queues.len());
        for queue in queues {
            let (first, last) = ((queue.clone(), first_lane()), (queue.clone(), last_lane()));
            let mut lanes: Vec<Place> = state.lanes.range(first..=last).cloned().collect();
            lanes.push((queue.clone(), Lane::default()));
            lanes.sort_unstable();
            if order == LaneOrder::LastFirst {
                lanes.reverse();
            }
            all.extend(lanes);
        }
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_lane() -> Lane {
    Lane::new(9, false)
}

fn last_lane() -> Lane {
    Lane::new(0, true)
}

/// What a lane is called in the list.
pub(crate) fn write((queue, lane): &Place) -> String {
    format!("{queue}{LANE}{}", lane.place())
}

/// A lane that this program does not know is left alone.
fn read(name: &str) -> Option<Place> {
    let (queue, place) = name.split_once(LANE)?;
    may_name_queue(queue).then_some(())?;
    Some((queue.into(), Lane::at(place.parse().ok()?)?))
}

/// The queue of this name, if it may be one.
fn queue_of(name: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(name).ok().filter(|name| may_name_queue(name)).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_one_notes_a_queue_again_and_all_do_when_that_fails() {
        let queues = Queues::new(0, KEPT_FOR, LOOK_EVERY);
        let place: Place = ("mail".into(), Lane::default());
        queues.state().noted.insert(place.clone(), Instant::now());
        tokio::time::advance(queues.noted_for()).await;
        let new: BTreeSet<Place> = [place.clone()].into();
        for fails in [true, false] {
            assert!(queues.is_old(std::slice::from_ref(&place)));
            let again = Again::begin(&queues, &mut queues.state(), &new, Instant::now());
            assert!(!queues.is_old(std::slice::from_ref(&place)), "the others go on");
            if fails { drop(again) } else { again.done() }
        }
        assert!(!queues.is_old(std::slice::from_ref(&place)));
        tokio::time::advance(2 * queues.noted_for()).await;
        let again = Again::begin(&queues, &mut queues.state(), &new, Instant::now());
        assert!(queues.is_old(&[place]), "it may be gone by now: all note it");
        drop(again);
    }
}
