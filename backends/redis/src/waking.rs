//! Who is woken for a leaf.
//!
//! A hint on a queue's channel wakes all who wait there, for one leaf. Where many listen, on one server, each
//! who waits has a channel of its own and notes it at its queues, in the very step that found no more
//! (`scripts/take.lua`); who queues leaves wakes as many of those as there are leaves, those who have waited
//! longest first (`scripts/wake.lua`), and all, on the queue's channel, when too few are noted or one of them
//! is not heard.
//!
//! Who is woken and does not look within a moment, since it has something else in hand by now, has another
//! woken in its place. Who is stopped, or is cut off without Redis knowing, cannot: then the leaf waits until
//! another looks without a hint, [`POLL_LIVE`](crate::hints::POLL_LIVE) at most, and it is not woken again. A
//! note that is not renewed is dropped.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use celeriac_backends::BackendError;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::hints::Hints;
use crate::keys::Keys;
use crate::scripts::PASS_ON;
use crate::{RedisBackend, Shared};

/// Who was woken and has not looked after so long lets another be woken.
const MOMENT: Duration = Duration::from_millis(1);

/// Who waits notes so again after this, and finds out whether many listen. A note is good for ten seconds
/// (`scripts/take.lua`).
const AGAIN: Duration = Duration::from_secs(4);

/// Where no more wait in all, all are woken: on the server these are connections, here those who share one.
const FEW: usize = 2;

/// Those of this process who wait for leaves.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(DashMap<Arc<str>, Arc<Sleeper>>);

/// One who waits for leaves, now and then.
#[derive(Debug)]
pub(crate) struct Sleeper {
    channel: String,
    state: Mutex<State>,
    /// How often it was woken, and how often before it looked last.
    woken: AtomicU64,
    looked: AtomicU64,
    wakes: mpsc::UnboundedSender<Wake>,
}

#[derive(Debug)]
struct Wake {
    number: u64,
    at: Instant,
    queue: String,
}

#[derive(Debug, Default)]
struct State {
    /// Whether many listen, and when that was found out.
    learned: Option<(bool, Instant)>,
    /// By the queues' channels.
    notes: HashMap<String, Note>,
}

#[derive(Debug, Default)]
struct Note {
    /// Whether it may be noted there.
    is_listed: bool,
    /// Since when it is noted there, and how many hints to all there were before; not when it may have been
    /// taken off.
    noted: Option<(Instant, u64)>,
    /// How often it was woken from there, or may have been.
    wakes: u64,
}

/// What a take says about who takes.
#[derive(Debug, Default)]
pub(crate) struct Noting {
    args: Vec<String>,
    mode: &'static str,
    before: Vec<Before>,
}

impl Noting {
    /// What a step of the take says; whether one before it has taken what it asked for, and so taken it off.
    pub(crate) fn args(&self, is_again: bool) -> Vec<String> {
        if !is_again || self.args.is_empty() {
            return self.args.clone();
        }
        let queues = self.before.iter().map(|before| format!("+{}", before.queue));
        [self.args[0].clone(), self.mode.to_owned()].into_iter().chain(queues).collect()
    }
}

/// A queue before a take: how many hints to all there were, how often it was woken from there, and its note.
#[derive(Debug)]
struct Before {
    queue: String,
    hints: u64,
    wakes: u64,
    noted: Option<(Instant, u64)>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    No,
    Yes,
    /// Few listen: it need not be.
    Few,
}

impl Note {
    /// It may have been taken off.
    fn doubt(&mut self) {
        self.noted = None;
        self.wakes += 1;
    }
}

impl Sleeper {
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// It was woken from a queue; or it has just begun to listen, and may have missed something.
    pub(crate) fn woken(&self, queue: &[u8]) {
        let mut state = self.state();
        if queue.is_empty() {
            state.notes.values_mut().for_each(Note::doubt);
            return;
        }
        let queue = String::from_utf8_lossy(queue).into_owned();
        if let Some(note) = state.notes.get_mut(&queue) {
            note.doubt();
            note.is_listed = false;
        }
        let number = self.woken.fetch_add(1, Ordering::AcqRel) + 1;
        // Without the understudy others look in the end.
        let _ = self.wakes.send(Wake { number, at: Instant::now(), queue });
    }

    /// What the take says that begins now.
    fn begin(&self, hints: &Hints, queues: &[String], waits: bool, are_many_here: bool) -> Noting {
        self.looked.store(self.woken.load(Ordering::Acquire), Ordering::Release);
        let mode = {
            let state = self.state();
            let mode = match state.learned {
                _ if !waits => "",
                Some((true, at)) if at.elapsed() < AGAIN => "note",
                Some((false, at)) if at.elapsed() < AGAIN => "",
                _ if are_many_here => "all",
                _ => "learn",
            };
            if mode.is_empty() && state.notes.values().all(|note| !note.is_listed) {
                return Noting::default();
            }
            mode
        };
        // Not while the state is locked: who is woken has the channel locked then.
        let counts: Vec<u64> =
            queues.iter().map_while(|queue| hints.count([queue.as_str()]).map(|(_, count)| count)).collect();
        let is_live = counts.len() == queues.len() && hints.count([self.channel.as_str()]).is_some();
        let mode = if is_live { mode } else { "" };
        let mut state = self.state();
        let (mut args, mut before) = (Vec::new(), Vec::with_capacity(queues.len()));
        for (queue, count) in queues.iter().zip(counts) {
            if !state.notes.contains_key(queue) {
                state.notes.insert(queue.clone(), Note::default());
            }
            let note = state.notes.get_mut(queue).expect("it was just added");
            let is_sure = note.noted.is_some_and(|(at, hints)| hints == count && at.elapsed() < AGAIN);
            let flag = match (note.is_listed, is_sure) {
                (false, _) if mode.is_empty() => continue,
                (false, _) => '+',
                (true, true) => '-',
                (true, false) => '*',
            };
            args.push(format!("{flag}{queue}"));
            // Should nobody hear of what the take does, it may be noted, or not any more.
            note.is_listed |= !mode.is_empty();
            let (wakes, noted) = (note.wakes, note.noted.take());
            before.push(Before { queue: queue.clone(), hints: count, wakes, noted });
        }
        if args.is_empty() {
            return Noting::default();
        }
        let is_noted = mode == "note" && args.iter().all(|arg| arg.starts_with('-'));
        args.splice(0..0, [self.channel.clone(), if is_noted { "" } else { mode }.to_owned()]);
        Noting { args, mode, before }
    }

    /// What the take has done; whether it has taken all there was.
    fn end(&self, noting: &Noting, (noted, is_again): (Noted, bool), is_all: bool) {
        let Some(mode) = noting.args.get(1) else { return };
        let mode = if is_again { noting.mode } else { mode };
        let mut state = self.state();
        let now = Instant::now();
        match noted {
            Noted::Yes if mode != "note" => state.learned = Some((true, now)),
            Noted::Few => state.learned = Some((false, now)),
            _ => {}
        }
        let flags = noting.args[2..].iter().map(|arg| if is_again { b'+' } else { arg.as_bytes()[0] });
        for (Before { queue, hints, wakes, noted: was }, flag) in noting.before.iter().zip(flags) {
            let Some(note) = state.notes.get_mut(queue) else { continue };
            let is_same = note.wakes == *wakes;
            if noted == Noted::Yes && (mode != "note" || flag != b'-') {
                // Unless it was woken since.
                if is_same {
                    (note.is_listed, note.noted) = (true, Some((now, *hints)));
                }
            } else if !is_all || noted != Noted::Yes && flag == b'+' {
                // It was taken off, or it never was on.
                (note.is_listed, note.noted) = (false, None);
            } else if is_same && flag == b'-' {
                note.noted = *was;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisBackend {
    /// The one who waits under this name; nobody on a Cluster, where hints may pass by another node than the
    /// queue's.
    pub(crate) fn sleeper(&self, owner: &Arc<str>) -> Option<Arc<Sleeper>> {
        if self.link().is_cluster() {
            return None;
        }
        let sleepers = &self.0.sleepers.0;
        if let Some(sleeper) = sleepers.get(owner) {
            return Some(sleeper.clone());
        }
        match sleepers.entry(owner.clone()) {
            Entry::Occupied(there) => Some(there.get().clone()),
            Entry::Vacant(place) => {
                let (wakes, woken) = mpsc::unbounded_channel();
                let number = RandomState::new().build_hasher().finish();
                let sleeper = Arc::new(Sleeper {
                    channel: self.link().keys.wakes(number),
                    state: Mutex::default(),
                    woken: AtomicU64::new(0),
                    looked: AtomicU64::new(0),
                    wakes,
                });
                self.link().hints.keep_for(&sleeper);
                tokio::spawn(stand_in(Arc::downgrade(&self.0), Arc::downgrade(&sleeper), woken));
                Some(place.insert(sleeper).clone())
            }
        }
    }

    /// A take of his begins; whether he waits when he finds too little.
    pub(crate) fn begin_take(
        &self,
        sleeper: Option<&Arc<Sleeper>>,
        queues: &[String],
        waits: bool,
    ) -> Noting {
        let are_many_here = self.0.sleepers.0.len() > FEW;
        sleeper.map_or_else(Noting::default, |sleeper| {
            sleeper.begin(&self.link().hints, queues, waits, are_many_here)
        })
    }

    /// It has ended.
    pub(crate) fn end_take(
        &self,
        sleeper: Option<&Arc<Sleeper>>,
        noting: &Noting,
        noted: (Noted, bool),
        is_all: bool,
    ) {
        if let Some(sleeper) = sleeper {
            sleeper.end(noting, noted, is_all);
        }
    }

    /// He is gone.
    pub(crate) async fn wake_no_more(&self, owner: &Arc<str>) -> Result<(), BackendError> {
        let Some((_, sleeper)) = self.0.sleepers.0.remove(owner) else { return Ok(()) };
        self.link().hints.leave(&sleeper.channel);
        let listed: Vec<String> = {
            let notes = &sleeper.state().notes;
            notes.iter().filter(|(_, note)| note.is_listed).map(|(queue, _)| queue.clone()).collect()
        };
        for queue in listed {
            self.link().write::<()>("retire", "ZREM", Keys::idle(&queue), &sleeper.channel).await?;
        }
        Ok(())
    }
}

/// Has others woken in the place of one who was woken and does not look.
async fn stand_in(backend: Weak<Shared>, sleeper: Weak<Sleeper>, mut woken: mpsc::UnboundedReceiver<Wake>) {
    while let Some(Wake { number, at, queue }) = woken.recv().await {
        tokio::time::sleep_until(at + MOMENT).await;
        if sleeper.upgrade().is_some_and(|sleeper| sleeper.looked.load(Ordering::Acquire) >= number) {
            continue;
        }
        let Some(shared) = backend.upgrade() else { return };
        let passed = RedisBackend(shared).link().clone();
        let passed = passed.run::<()>("receive", &PASS_ON, |script| {
            script.key(&queue);
        });
        if let Err(error) = passed.await {
            tracing::debug!(%error, "a leaf waits until somebody looks without a hint");
        }
    }
}
