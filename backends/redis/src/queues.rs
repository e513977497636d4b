//! Which queues there are, which lanes they have, and where events come from.
//!
//! Every queue has a line of reports. Whoever first queues a leaf in a lane notes it in Redis; coordinators and workers
//! look there for those they do not know.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, Lane, LaneOrder};
use tokio::time::Instant;

use crate::connection::Link;
use crate::keys::Line;

/// Separates a queue's name, which has no control characters, from the place of a lane.
const LANE: char = '\u{1}';

/// A worker that always finds something looks for new lanes this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A lane of a queue.
pub(crate) type Place = (Arc<str>, Lane);

/// The queues this process knows of.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Lanes that are noted in Redis.
    noted: HashSet<Place>,
    /// The queues whose reports are taken, in the order of their discovery: source 1, 2, 3, …
    sources: Vec<Arc<str>>,
    /// Lanes besides the first of each queue.
    lanes: BTreeSet<Place>,
    /// When workers looked for lanes.
    looked: Option<Instant>,
}

impl Queues {
    /// Notes lanes in Redis, unless this process has done so before.
    pub(crate) async fn note<'n>(
        &self,
        link: &Link,
        operation: &'static str,
        places: impl IntoIterator<Item = (&'n Arc<str>, Lane)>,
    ) -> Result<(), BackendError> {
        let mut new: BTreeSet<Place> = BTreeSet::new();
        {
            let state = self.state();
            for (queue, lane) in places {
                if !state.noted.contains(&(queue.clone(), lane)) {
                    // The queue itself goes with it: that is where its reports come from.
                    new.extend([(queue.clone(), lane), (queue.clone(), Lane::default())]);
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = new.iter().map(write).collect();
        link.write::<()>(operation, "SADD", link.keys.queues(), names).await?;
        self.state().noted.extend(new);
        Ok(())
    }

    /// Looks for queues and lanes in Redis, and notes again there those that somebody removed; all, and whether there are
    /// new ones.
    pub(crate) async fn refresh(
        &self,
        link: &Link,
        operation: &'static str,
    ) -> Result<(Vec<Place>, bool), BackendError> {
        let names: Vec<String> = link.ask(operation, redis::cmd("SMEMBERS").arg(link.keys.queues())).await?;
        let places: BTreeSet<Place> = names.iter().filter_map(|name| read(name)).collect();
        let (all, is_new, lost) = self.add(&places);
        self.note(link, operation, lost.iter().map(|(queue, lane)| (queue, *lane))).await?;
        Ok((all, is_new))
    }

    /// Adds what Redis names; returns all, whether there are new ones, and those that Redis does not name.
    fn add(&self, places: &BTreeSet<Place>) -> (Vec<Place>, bool, Vec<Place>) {
        let mut state = self.state();
        state.noted.retain(|place| places.contains(place));
        let known = state.all();
        for (queue, lane) in places {
            if *lane != Lane::default() {
                state.lanes.insert((queue.clone(), *lane));
            }
            if !state.sources.contains(queue) {
                state.sources.push(queue.clone());
            }
        }
        let all = state.all();
        let is_new = all.len() > known.len();
        (all, is_new, known.into_iter().filter(|place| !places.contains(place)).collect())
    }

    /// Whether it is time to look for lanes that others have begun to use.
    pub(crate) fn is_time_to_look(&self) -> bool {
        let mut state = self.state();
        let is_time = state.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if is_time {
            state.looked = Some(Instant::now());
        }
        is_time
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

    /// Where events come from: the submissions, then the reports of each queue.
    pub(crate) fn sources(&self, link: &Link) -> Vec<Line> {
        let state = self.state();
        let reports = state.sources.iter().map(|name| link.keys.reports(name));
        std::iter::once(link.keys.submissions()).chain(reports).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn all(&self) -> Vec<Place> {
        let first = self.sources.iter().map(|queue| (queue.clone(), Lane::default()));
        first.chain(self.lanes.iter().cloned()).collect()
    }
}

fn first_lane() -> Lane {
    Lane::new(9, false)
}

fn last_lane() -> Lane {
    Lane::new(0, true)
}

fn write((queue, lane): &Place) -> String {
    if *lane == Lane::default() { queue.to_string() } else { format!("{queue}{LANE}{}", lane.place()) }
}

/// A lane that this program does not know is left alone.
fn read(name: &str) -> Option<Place> {
    match name.split_once(LANE) {
        None => Some((name.into(), Lane::default())),
        Some((queue, place)) => Some((queue.into(), Lane::at(place.parse().ok()?)?)),
    }
}
