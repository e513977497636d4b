//! Which lines of reports may have something.
//!
//! Every queue has a line of reports, and one of those on leaves in bulk, which come after all others.
//! Most have nothing most of the time. Who reports hints at the line, and on one server notes it in an
//! index in the same step. A coordinator takes from the lines it has heard of, in turns; the index tells
//! it of others. On a Cluster, where an index would be in another slot, it goes round all queues slowly
//! instead, faster while there are no hints.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, LaneOrder};
use tokio::time::Instant;

use crate::RedisBackend;
use crate::connection::{GROUP, Link, line_keys};
use crate::hints::POLL;
use crate::keys::{Line, ReportsOf};
use crate::queues::Named;
use crate::scripts::QUIET;

/// So many lines are taken from in one step.
const LINES_AT_ONCE: usize = 100;

/// Who always finds something looks for others this often, and leaves those alone that have nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// On a Cluster so many lines of which nothing was heard are looked at with every poll; without hints, a
/// tenth of all.
const ROUND: usize = 4;

/// On a Cluster the list of queues is read again after so long.
const NAMES_FOR: Duration = Duration::from_secs(5);

/// The lines of reports this process knows of.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Numbers of lines from which reports were taken: 1, 2, 3, … One that comes again has another.
    numbers: HashMap<ReportsOf, u32>,
    names: HashMap<u32, ReportsOf>,
    last: u32,
    /// Lines that may have something.
    active: BTreeSet<ReportsOf>,
    /// Where the next turn begins.
    turn: usize,
    /// How often there were both, reports in bulk and others.
    mixed: u64,
    looked: Option<Instant>,
    round: Round,
}

/// On a Cluster, the way round all queues.
#[derive(Debug, Default)]
struct Round {
    names: BTreeSet<ReportsOf>,
    read: Option<Instant>,
    last: Option<ReportsOf>,
    went: Option<Instant>,
}

/// Where to take events from: the number of each line, 0 for the submissions, and whether it has reports
/// on leaves in bulk.
pub(crate) struct Sources {
    pub(crate) numbers: Vec<u32>,
    pub(crate) are_bulk: Vec<bool>,
    pub(crate) lines: Arc<[Line]>,
}

impl Reports {
    /// That there may be such reports.
    pub(crate) fn hear(&self, names: impl IntoIterator<Item = ReportsOf>) {
        self.state().active.extend(names);
    }

    /// Whether there is one among these that was not known to have any.
    fn hear_new(&self, names: impl IntoIterator<Item = ReportsOf>) -> bool {
        let (mut state, mut is_new) = (self.state(), false);
        for name in names {
            is_new |= state.active.insert(name);
        }
        is_new
    }

    /// Forgets a queue that is gone.
    pub(crate) fn forget(&self, queue: &Arc<str>) {
        let mut state = self.state();
        for name in ReportsOf::both(queue) {
            state.active.remove(&name);
            state.round.names.remove(&name);
            if let Some(number) = state.numbers.remove(&name) {
                state.names.remove(&number);
            }
        }
    }

    /// Those of one queue after the other, each time beginning with another one: none waits for another
    /// that never empties. Reports in bulk come after the others, and now and then before them.
    fn sources(&self, link: &Link) -> Sources {
        let mut state = self.state();
        let mut names: Vec<Option<ReportsOf>> = Vec::with_capacity(state.active.len() + 1);
        names.push(None);
        names.extend(state.active.iter().cloned().map(Some));
        let ordinary = names.partition_point(|name| name.as_ref().is_none_or(|name| !name.is_bulk));
        let turn = state.turn;
        state.turn = turn.wrapping_add(1);
        let (first, bulk) = names.split_at_mut(ordinary);
        first.rotate_left(turn % first.len());
        if !bulk.is_empty() {
            bulk.rotate_left(turn % bulk.len());
            if LaneOrder::of(state.mixed) == LaneOrder::LastFirst {
                names.rotate_left(ordinary);
            }
            state.mixed = state.mixed.wrapping_add(1);
        }
        names.truncate(LINES_AT_ONCE);
        if !names.contains(&None) {
            names.push(None);
        }
        let number = |name: &Option<ReportsOf>| name.as_ref().map_or(0, |name| state.number(name));
        let numbers = names.iter().map(number).collect();
        let line = |name: &Option<ReportsOf>| match name {
            None => link.keys.submissions(),
            Some(name) => link.keys.reports(name),
        };
        let is_bulk = |name: &Option<ReportsOf>| name.as_ref().is_some_and(|name| name.is_bulk);
        let are_bulk = names.iter().map(is_bulk).collect();
        Sources { numbers, are_bulk, lines: names.iter().map(line).collect() }
    }

    /// The number of a line; there may be something.
    pub(crate) fn number(&self, name: &ReportsOf) -> u32 {
        self.state().number(name)
    }

    /// What has a number; `None` for the submissions, and for a queue that is gone with all its reports.
    fn name(&self, number: u32) -> Option<ReportsOf> {
        self.state().names.get(&number).cloned()
    }

    fn is_time(&self) -> bool {
        self.state().looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self, name: &ReportsOf) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(name.clone(), self.last);
        self.names.insert(self.last, name.clone());
        self.last
    }
}

impl RedisBackend {
    /// Where to take events from now.
    pub(crate) async fn sources_now(&self) -> Result<Sources, BackendError> {
        let link = self.link();
        let told = link.hints.take_reports();
        self.reports().hear(told.iter().filter_map(|stream| link.keys.reports_of(stream)));
        if link.is_cluster() {
            self.go_round().await?;
        } else if self.reports().is_time() {
            self.look_at_index(&[]).await?;
        }
        Ok(self.reports().sources(link))
    }

    /// Notes that all was taken from these lines, and that these had nothing; whether others may have
    /// something.
    pub(crate) async fn emptied(
        &self,
        sources: &Sources,
        nothing: impl Fn(u32) -> bool,
        is_idle: bool,
    ) -> Result<bool, BackendError> {
        let link = self.link();
        if link.is_cluster() {
            let mut state = self.reports().state();
            for number in &sources.numbers {
                let name = state.names.get(number).cloned();
                if let Some(name) = name {
                    state.active.remove(&name);
                }
            }
            return Ok(!state.active.is_empty());
        }
        if !is_idle && !self.reports().is_time() {
            return Ok(false);
        }
        let numbered = sources.numbers.iter().zip(sources.lines.iter());
        let nothing: Vec<(u32, &Line)> = numbered
            .filter(|(number, _)| **number > 0 && nothing(**number))
            .map(|(n, line)| (*n, line))
            .collect();
        self.look_at_index(&nothing).await
    }

    /// Asks the index which lines may have something, and takes off it those that have nothing.
    async fn look_at_index(&self, nothing: &[(u32, &Line)]) -> Result<bool, BackendError> {
        let (link, width) = (self.link(), Line::WIDTH);
        let there: Vec<Vec<u8>> = link
            .run("events", &QUIET, |script| {
                script.key(link.keys.report_index());
                line_keys(script, nothing.iter().map(|(_, line)| *line));
                script.arg(GROUP).arg(width).arg(LINES_AT_ONCE);
            })
            .await?;
        {
            let mut state = self.reports().state();
            state.looked = Some(Instant::now());
            for (number, _) in nothing {
                let name = state.names.get(number).cloned();
                if let Some(name) = name {
                    state.active.remove(&name);
                }
            }
        }
        let name = |stream: &Vec<u8>| link.keys.reports_of(std::str::from_utf8(stream).ok()?);
        let strange: Vec<&Vec<u8>> = there.iter().filter(|stream| name(stream).is_none()).collect();
        if !strange.is_empty() {
            // Nothing of this program's; many would hide what is.
            link.ask::<()>("events", redis::cmd("ZREM").arg(link.keys.report_index()).arg(strange)).await?;
        }
        Ok(self.reports().hear_new(there.iter().filter_map(name)))
    }

    /// On a Cluster: looks at some queues of which nothing was heard.
    async fn go_round(&self) -> Result<(), BackendError> {
        let link = self.link();
        let has_hints = link.hints.count([link.keys.submission_stream().as_str()]).is_some();
        let (is_time, is_old) = {
            let round = &self.reports().state().round;
            let age = |time: Option<Instant>| time.map_or(Duration::MAX, |time| time.elapsed());
            (age(round.went) >= POLL, age(round.read) >= if has_hints { NAMES_FOR } else { POLL })
        };
        if !is_time {
            return Ok(());
        }
        let names = match is_old.then_some(self.queues().all(link, "events")) {
            None => None,
            Some(names) => match names.await {
                Ok(names) => Some(names),
                // Where the names are is away: those that were known stay, and the others are hinted at.
                Err(error) if error.may_retry() => None,
                Err(error) => return Err(error),
            },
        };
        let mut state = self.reports().state();
        let state = &mut *state;
        let round = &mut state.round;
        if let Some(names) = names {
            round.names = names.iter().flat_map(Named::reports).collect();
            round.read = Some(Instant::now());
        }
        round.went = Some(Instant::now());
        let count = if has_hints { ROUND } else { ROUND.max(round.names.len() / 10) };
        let after = (round.last.take()).and_then(|last| round.names.range(last..).nth(1).cloned());
        let rest: Vec<ReportsOf> = match &after {
            Some(after) => round.names.range(after.clone()..).take(count).cloned().collect(),
            None => round.names.iter().take(count).cloned().collect(),
        };
        round.last = rest.last().cloned();
        state.active.extend(rest);
        Ok(())
    }

    /// The line of an event's source; `None` when its queue is gone with all its reports.
    pub(crate) fn line_of(&self, source: u32) -> Option<Line> {
        match source {
            0 => Some(self.link().keys.submissions()),
            number => self.reports().name(number).map(|name| self.link().keys.reports(&name)),
        }
    }
}
