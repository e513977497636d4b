//! Which queues a sweep looks at, and which go away.
//!
//! A queue that was used lately, or of which something is held, is looked at by every sweep. One that only
//! keeps leaves that nobody takes is looked at now and then, a few at a time: it may be that somebody has
//! taken one and died, having been stopped for long just before. One that holds nothing and was not used
//! for a while is removed with its keys and its name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind, Lane};
use tokio::time::Instant;

use crate::RedisBackend;
use crate::connection::{GROUP, line_keys};
use crate::error::First;
use crate::keys::{Line, ReportsOf};

use crate::queues::{Named, write};
use crate::scripts::{DROP, UNNOTE};

/// A sweep looks at so many of those that it need not look at.
const ROUND: usize = 10;

/// So many are removed at the same time.
const AT_ONCE: usize = 16;

/// The queues of which nothing is held, when each was used last as that was seen, and whether it kept
/// something.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    quiet: HashMap<Arc<str>, (u64, bool)>,
    /// When each was used last as that was seen, and since when it is seen so. By our clock: that of the
    /// store may be set.
    unused: HashMap<Arc<str>, (u64, Instant)>,
    /// Where the next round begins.
    last: Option<Arc<str>>,
}

impl Quiet {
    /// Those to be looked at now. One that keeps nothing is to be removed when it was not used for so long.
    pub(crate) fn choose(&self, all: &[Named], kept_for: Duration) -> Vec<Named> {
        let mut state = self.state();
        let now = Instant::now();
        let unused = |named: &Named| match state.unused.get(&named.name) {
            Some((used_ms, since)) if *used_ms == named.used_ms => (named.name.clone(), (*used_ms, *since)),
            _ => (named.name.clone(), (named.used_ms, now)),
        };
        state.unused = all.iter().map(unused).collect();
        let is_quiet = |named: &&Named| {
            let seen = state.quiet.get(&named.name);
            seen.is_some_and(|(used, keeps)| {
                *used == named.used_ms && (*keeps || !state.is_unused(named, kept_for))
            })
        };
        let (quiet, mut chosen): (Vec<&Named>, Vec<&Named>) = all.iter().partition(is_quiet);
        let after = quiet.iter().position(|named| Some(&named.name) > state.last.as_ref()).unwrap_or(0);
        let round = quiet[after..].iter().chain(&quiet[..after]).take(ROUND);
        let round: Vec<&Named> = round.copied().collect();
        if let Some(last) = round.last() {
            state.last = Some(last.name.clone());
        }
        chosen.extend(round);
        if state.quiet.len() > all.len() {
            let there: HashMap<&Arc<str>, u64> =
                all.iter().map(|named| (&named.name, named.used_ms)).collect();
            state.quiet.retain(|name, (used_ms, _)| there.get(name) == Some(used_ms));
        }
        chosen.into_iter().cloned().collect()
    }

    /// Whether it was not used for so long, as far as was seen here.
    fn is_unused(&self, named: &Named, kept_for: Duration) -> bool {
        self.state().is_unused(named, kept_for)
    }

    fn note(&self, named: &Named, keeps: bool) {
        self.state().quiet.insert(named.name.clone(), (named.used_ms, keeps));
    }

    fn forget(&self, name: &Arc<str>) {
        self.state().quiet.remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_unused(&self, named: &Named, kept_for: Duration) -> bool {
        let unused = self.unused.get(&named.name);
        unused.is_some_and(|(used_ms, since)| *used_ms == named.used_ms && since.elapsed() >= kept_for)
    }
}

impl RedisBackend {
    /// Removes those of these queues that hold nothing and were not used for a while.
    pub(crate) async fn drop_unused(&self, queues: &[Named]) -> Result<(), BackendError> {
        let (now_ms, mut first) = (self.now_ms().await?, First::default());
        // Whoever uses it after that has noted it again. When the clock was set on, they are looked at a
        // little early.
        let noted_for = self.queues().noted_for();
        let was_used = |named: &Named| named.used_ms.saturating_add(noted_for.as_millis() as u64) >= now_ms;
        let is_old = |named: &&Named| !was_used(named) || self.quiet().is_unused(named, noted_for);
        let old: Vec<Named> = queues.iter().filter(is_old).cloned().collect();
        for some in old.chunks(AT_ONCE) {
            let dropped = futures::future::join_all(some.iter().map(|named| self.drop_one(named))).await;
            for (named, dropped) in some.iter().zip(dropped) {
                match dropped {
                    // It holds up no other queue, and nothing else that a sweep does.
                    Err(error) if error.kind == ErrorKind::Corrupt => {
                        let stream = self.link().keys.stream(&named.name, Lane::default());
                        self.link().broken.note(&stream, format!("a key of its queue: {error}"));
                    }
                    dropped => first.of(dropped),
                }
            }
        }
        first.into_result()
    }

    async fn drop_one(&self, named: &Named) -> Result<(), BackendError> {
        let (link, is_unused) = (self.link(), self.quiet().is_unused(named, self.queues().kept_for()));
        let reports = ReportsOf::both(&named.name).map(|reports| link.keys.reports(&reports));
        let lanes: Vec<String> = named.places().skip(1).map(|place| write(&place)).collect();
        let lines: Vec<(Line, [String; 2])> = named
            .places()
            .map(|(queue, lane)| (link.keys.queue(&queue, lane), link.keys.timers(&queue, lane)))
            .collect();
        let answer: u8 = link
            .run("sweep", &DROP, |script| {
                line_keys(script, &reports);
                for (line, timers) in &lines {
                    line_keys(script, [line]);
                    script.key(&timers[..]);
                }
                if !link.is_cluster() {
                    script.key(link.keys.names()).key(link.keys.lanes());
                    script.key(link.keys.report_index()).key(link.keys.timer_index());
                }
                script.arg(GROUP).arg(Line::WIDTH).arg(lines.len()).arg(&*named.name);
                script.arg(if is_unused { named.used_ms } else { 0 }).arg(named.used_ms).arg(&lanes);
            })
            .await?;
        match answer {
            GONE => {
                tracing::debug!(queue = &*named.name, "a queue that holds nothing is removed");
                if link.is_cluster() {
                    self.unnote(named, &lanes).await?;
                }
                self.queues().forget(&named.name);
                self.reports().forget(&named.name);
                self.quiet().forget(&named.name);
            }
            KEEPS => self.quiet().note(named, true),
            KEEPS_NOTHING => self.quiet().note(named, false),
            _ => {}
        }
        Ok(())
    }

    /// On a Cluster the name is in another slot. Whoever used the queue in between has noted it before, or
    /// sees it here.
    async fn unnote(&self, named: &Named, lanes: &[String]) -> Result<(), BackendError> {
        let link = self.link();
        link.run::<()>("sweep", &UNNOTE, |script| {
            script.key(link.keys.names()).key(link.keys.lanes());
            script.arg(&*named.name).arg(named.used_ms).arg(lanes);
        })
        .await?;
        for (queue, lane) in named.places() {
            let mut cmd = redis::cmd("EXISTS");
            cmd.arg(link.keys.stream(&queue, lane)).arg(&link.keys.timers(&queue, lane)[..]);
            if link.ask::<usize>("sweep", &cmd).await? > 0 {
                self.queues().forget(&queue);
                self.queues().note(link, "sweep", [(&queue, lane)], false).await?;
            }
        }
        Ok(())
    }
}

/// What the script says: nothing is held, but something is kept; it is gone; nothing is held or kept, but
/// it was used lately.
const KEEPS: u8 = 1;
const GONE: u8 = 2;
const KEEPS_NOTHING: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(5);

    fn named(number: usize, used_ms: u64) -> Named {
        Named { name: format!("q{number:03}").into(), used_ms, lanes: vec![] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_looks_at_what_was_used_and_goes_round_the_others() {
        let quiet = Quiet::default();
        let mut all: Vec<Named> = (0..100).map(|number| named(number, 1)).collect();
        assert_eq!(quiet.choose(&all, KEPT).len(), 100);
        all.iter().for_each(|named| quiet.note(named, true));
        let mut seen: Vec<Named> = (0..10).flat_map(|_| quiet.choose(&all, KEPT)).collect();
        seen.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(seen, all, "each once in ten rounds");
        all[7] = named(7, 2);
        assert!(quiet.choose(&all, KEPT).contains(&all[7]), "it was used again");
        all.iter().for_each(|named| quiet.note(named, false));
        assert_eq!(quiet.choose(&all, KEPT).len(), 10, "it is not time to remove them");
        tokio::time::advance(KEPT).await;
        assert_eq!(quiet.choose(&all, KEPT).len(), 100, "now it is");
        all.truncate(20);
        quiet.choose(&all, KEPT);
        assert!(quiet.state().quiet.len() <= 20, "what is gone is forgotten");
    }
}
