//! Hints that something has come or changed.
//!
//! One connection listens to the channels that somebody in this process is interested in. A hint may get
//! lost, so whoever waits for one looks by itself every now and then: [`POLL`]. Scripts ignore it when the
//! user may not publish.
//!
//! Queues and events have a channel each, and so have those who wait for leaves (`waking.rs`); a hint at
//! events may name where they are. Runs share a few: a hint there is the ids of the runs that have
//! changed, 16 bytes each, and wakes those who wait for one of them. Who waits for a value need not be
//! woken by every step: the runs that are decided are hinted at on other channels, each with what it
//! brings (`news.rs`).

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_primitives::RunId;
use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
use futures::{FutureExt, StreamExt};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::watch::Receiver;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::connection::CONNECTION_TIMEOUT;
use crate::early;
use crate::keys::{DECISIONS, Keys};
use crate::news;
use crate::source::Source;
use crate::store::id_of;
use crate::waking::Sleeper;
use crate::wire::SILENCE;

/// How long one waits for a hint before looking without one.
pub(crate) const POLL: Duration = Duration::from_millis(500);

/// The same for who waits for leaves while hints come. Those of a Cluster pass from node to node, and may
/// get lost there.
pub(crate) const POLL_LIVE: Duration = Duration::from_secs(2);
pub(crate) const POLL_LIVE_CLUSTER: Duration = Duration::from_secs(1);

const RECONNECT: Duration = Duration::from_millis(250);

/// A server that says nothing is asked so often whether it is there.
const PING: Duration = Duration::from_secs(2);

/// So many names are remembered until somebody asks.
const TOLD_MAX: usize = 10_000;

/// On the channel of a queue: somebody has begun to use a lane of it (`scripts/note.lua`).
const LANES: &[u8] = b"l";

/// Longer than anybody waits: keeps sums of instants and durations within their range.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Which channels, as the sum of their marks, and how many hints on them.
pub(crate) type Count = (u64, u64);

/// The channels, and those who wait.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    asks: mpsc::UnboundedSender<Ask>,
    known: Arc<Known>,
}

/// A channel to listen to, or not any more.
#[derive(Debug)]
enum Ask {
    Listen(String),
    Leave(String),
}

#[derive(Debug)]
struct Known {
    /// What the channels of changes start with.
    changes: String,
    /// Whose reports come along: hints of other databases are heard, too.
    database: String,
    channels: DashMap<String, Channel>,
    runs: DashMap<RunId, Interest>,
    told: Mutex<Told>,
    has_lanes: AtomicBool,
}

/// What hints at events named: streams of reports, and streams of lanes that have timers.
#[derive(Debug, Default)]
struct Told {
    reports: HashSet<String>,
    timers: HashSet<String>,
    /// Reports that came along.
    early: early::Told,
}

#[derive(Debug)]
struct Channel {
    /// A number that no other channel of this process has.
    mark: u64,
    notify: Arc<Notify>,
    /// Whether hints come now.
    is_live: bool,
    /// How many there were.
    hints: u64,
    /// Whose own channel it is.
    sleeper: Option<Arc<Sleeper>>,
}

impl Channel {
    fn new(sleeper: Option<Arc<Sleeper>>) -> Self {
        let mark = RandomState::new().build_hasher().finish();
        Self { mark, notify: Arc::default(), is_live: false, hints: 0, sleeper }
    }
}

/// Who is interested in a run.
#[derive(Debug, Default)]
struct Interest {
    changed: Arc<Notify>,
    decided: Arc<Notify>,
    listeners: usize,
    /// Whether there was a hint that the run is decided since somebody is interested.
    is_decided: bool,
    /// What the last such hint brought.
    news: Arc<[u8]>,
}

/// Interest in a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    changed: Arc<Notify>,
    decided: Arc<Notify>,
    run: RunId,
    known: Arc<Known>,
}

impl Hints {
    /// Starts to listen, in a task that ends when the last clone is dropped, at any of these servers; anew
    /// each time that the connection for commands was.
    pub(crate) fn start(
        sources: Vec<Source>,
        connected: Receiver<Instant>,
        changes: String,
        database: String,
    ) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let known = Arc::new(Known {
            changes,
            database,
            channels: DashMap::new(),
            runs: DashMap::new(),
            told: Mutex::default(),
            has_lanes: AtomicBool::default(),
        });
        tokio::spawn(listen(sources, connected, asked, known.clone()));
        Self { asks, known }
    }

    /// Listens to a channel as long as the task runs.
    pub(crate) fn keep(&self, channel: &str) -> Arc<Notify> {
        if let Some(known) = self.known.channels.get(channel) {
            return known.notify.clone();
        }
        let notify = self.known.channels.entry(channel.to_owned());
        let notify = notify.or_insert_with(|| Channel::new(None)).notify.clone();
        // Without the task there are no hints, and the poll behind them does it all.
        let _ = self.asks.send(Ask::Listen(channel.to_owned()));
        notify
    }

    /// Listens to the own channel of one who waits for leaves, until he [leaves](Self::leave).
    pub(crate) fn keep_for(&self, sleeper: &Arc<Sleeper>) {
        let channel = Channel::new(Some(sleeper.clone()));
        self.known.channels.insert(sleeper.channel().to_owned(), channel);
        let _ = self.asks.send(Ask::Listen(sleeper.channel().to_owned()));
    }

    /// Nobody waits there any more.
    pub(crate) fn leave(&self, channel: &str) {
        self.known.channels.remove(channel);
        let _ = self.asks.send(Ask::Leave(channel.to_owned()));
    }

    /// How many hints there were on how many channels; `None` while hints do not come on all of them.
    pub(crate) fn count<'c>(&self, channels: impl IntoIterator<Item = &'c str>) -> Option<Count> {
        channels.into_iter().try_fold((0, 0), |(marks, hints), channel| {
            let channel = self.known.channels.get(channel).filter(|channel| channel.is_live)?;
            Some((channel.mark.wrapping_add(marks), hints + channel.hints))
        })
    }

    /// Hears of any change of a run as long as the listener lives.
    pub(crate) fn listen_to_changes(&self, run: RunId) -> Listener {
        self.keep(&self.channel_of(&Keys::change_channel(run)));
        self.listen(run)
    }

    /// Hears of a run's decision as long as the listener lives.
    pub(crate) fn listen(&self, run: RunId) -> Listener {
        let mut entry = self.known.runs.entry(run).or_default();
        entry.listeners += 1;
        let (changed, decided) = (entry.changed.clone(), entry.decided.clone());
        drop(entry);
        self.keep(&self.channel_of(&Keys::decision_channel(run)));
        Listener { changed, decided, run, known: self.known.clone() }
    }

    /// The same for a run that is about to be submitted, when hints come now: nothing that becomes of it
    /// is missed.
    pub(crate) fn listen_from_the_start(&self, run: RunId) -> Option<Listener> {
        let channel = self.channel_of(&Keys::decision_channel(run));
        let is_live = self.known.channels.get(&channel).is_some_and(|channel| channel.is_live);
        is_live.then(|| self.listen(run))
    }

    /// The streams of reports that were named since the last time.
    pub(crate) fn take_reports(&self) -> HashSet<String> {
        std::mem::take(&mut self.known.told().reports)
    }

    /// The streams of lanes that were named since the last time because they have timers.
    pub(crate) fn take_timers(&self) -> HashSet<String> {
        std::mem::take(&mut self.known.told().timers)
    }

    /// The next report that came with its hint; `Err` when it has to be taken after all.
    pub(crate) fn next_early(&self) -> Option<Result<early::News, ()>> {
        self.known.told().early.next()
    }

    /// Whether there is one.
    pub(crate) fn has_early(&self) -> bool {
        !self.known.told().early.is_empty()
    }

    /// These are taken.
    pub(crate) fn forget_early(&self, which: impl Fn(&early::News) -> bool) {
        self.known.told().early.forget(which);
    }

    /// Whether somebody has begun to use a lane since the last time.
    pub(crate) fn take_lanes(&self) -> bool {
        self.known.has_lanes.load(Ordering::Relaxed) && self.known.has_lanes.swap(false, Ordering::Relaxed)
    }

    fn channel_of(&self, channel: &impl Display) -> String {
        format!("{}{channel}", self.known.changes)
    }
}

impl Listener {
    /// Hints at any change.
    pub(crate) fn changed(&self) -> &Arc<Notify> {
        &self.changed
    }

    /// Hints that the run is decided, has ended or was forgotten.
    pub(crate) fn decided(&self) -> &Arc<Notify> {
        &self.decided
    }

    /// Whether there was such a hint already.
    pub(crate) fn is_decided(&self) -> bool {
        self.known.runs.get(&self.run).is_none_or(|interest| interest.is_decided)
    }

    /// What the last such hint brought; empty when there was none, or the store is to be asked.
    pub(crate) fn news(&self) -> Arc<[u8]> {
        self.known.runs.get(&self.run).map(|interest| interest.news.clone()).unwrap_or_default()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(mut entry) = self.known.runs.get_mut(&self.run) {
            entry.listeners -= 1;
        }
        self.known.runs.remove_if(&self.run, |_, interest| interest.listeners == 0);
    }
}

impl Interest {
    fn is_decided(&mut self, news: &[u8]) {
        self.is_decided = true;
        self.news = news.into();
        self.changed.notify_waiters();
        self.decided.notify_waiters();
    }
}

impl Told {
    /// What nobody asks for does not pile up: those behind find it without hints. Returns whether one has
    /// to look: not when all there is came along.
    fn add(&mut self, hints: &[u8], database: &str) -> bool {
        let (hints, news) = early::split(hints, database);
        for hint in String::from_utf8_lossy(hints).lines() {
            let (which, stream) = match hint.as_bytes().first() {
                Some(b'r') => (&mut self.reports, &hint[1..]),
                Some(b't') => (&mut self.timers, &hint[1..]),
                _ => continue,
            };
            if which.len() < TOLD_MAX && !which.contains(stream) {
                which.insert(stream.to_owned());
            }
        }
        !news.is_some_and(|news| self.early.add(news))
    }
}

impl Known {
    /// Passes a hint on.
    fn tell(&self, channel: &str, hints: &[u8]) {
        if !channel.starts_with(&self.changes) {
            let Some(mut known) = self.channels.get_mut(channel) else { return };
            let mut has_to_look = true;
            match &known.sleeper {
                Some(sleeper) => sleeper.woken(hints),
                None if hints.is_empty() => {}
                None if hints == LANES => self.has_lanes.store(true, Ordering::Relaxed),
                None => has_to_look = self.told().add(hints, &self.database),
            }
            known.hints += u64::from(has_to_look);
            known.notify.notify_waiters();
            return;
        }
        if channel[self.changes.len()..].starts_with(DECISIONS) {
            for (id, news) in news::split(hints) {
                if let Some(mut interest) = self.interest(id) {
                    interest.is_decided(news);
                }
            }
        } else {
            for interest in hints.chunks_exact(16).filter_map(|id| self.interest(id)) {
                interest.changed.notify_waiters();
            }
        }
    }

    fn interest(&self, id: &[u8]) -> Option<RefMut<'_, RunId, Interest>> {
        self.runs.get_mut(&id_of(id)?)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came before a channel was listened to was not hinted at: whoever waits there looks.
    fn is_live(&self, channel: &str) {
        if let Some(mut channel) = self.channels.get_mut(channel) {
            channel.is_live = true;
        }
        match channel.strip_prefix(&self.changes) {
            None => self.tell(channel, &[]),
            Some(channel) => {
                let channel = channel.strip_prefix(DECISIONS).unwrap_or(channel);
                let here = |run: RunId| Keys::change_channel(run).to_string() == channel;
                self.runs
                    .iter_mut()
                    .filter(|entry| here(*entry.key()))
                    .for_each(|mut entry| entry.is_decided(&[]));
            }
        }
    }

    /// No hints come until it is listened to again: whoever waits for one looks, and more often from now
    /// on. What hints brought may not be so any more: another server may take over.
    fn are_dead(&self) {
        self.runs.iter_mut().for_each(|mut interest| interest.news = Arc::default());
        self.told().early.clear();
        for mut channel in self.channels.iter_mut() {
            channel.is_live = false;
            channel.notify.notify_waiters();
        }
    }
}

/// Waits for hints, up to a deadline.
///
/// Take the [`hint`](Self::hint) first, then look, then [wait](Self::next): what comes in between is not
/// missed.
pub(crate) struct Wait {
    hints: Vec<Arc<Notify>>,
    deadline: Instant,
}

impl Wait {
    pub(crate) fn new(hints: Vec<Arc<Notify>>, wait: Duration) -> Self {
        Self { hints, deadline: Instant::now() + wait.min(WAIT_MAX) }
    }

    /// Everything that is hinted at from now on.
    pub(crate) fn hint(&self) -> Vec<OwnedNotified> {
        self.hints.iter().map(|hint| hint.clone().notified_owned()).collect()
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Returns with a hint, or when it is time to look without one.
    pub(crate) async fn next(&self, hint: Vec<OwnedNotified>, poll: Duration) {
        let poll = self.deadline.min(Instant::now() + poll);
        if hint.is_empty() {
            tokio::time::sleep_until(poll).await;
        } else {
            let first = futures::future::select_all(hint.into_iter().map(Box::pin));
            // Out of time or not, the next thing is to look.
            let _ = tokio::time::timeout_at(poll, first).await;
        }
    }
}

async fn listen(
    sources: Vec<Source>,
    mut connected: Receiver<Instant>,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    known: Arc<Known>,
) {
    // On a Cluster every node passes every hint on; when one is down, the next will do.
    for source in sources.iter().cycle() {
        let listening = subscribed(source, &mut connected, &mut asks, &known);
        let listening = AssertUnwindSafe(listening).catch_unwind();
        let answer = listening.await;
        known.are_dead();
        match answer {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::debug!(%error, "no hints from Redis; polling meanwhile"),
            Err(_) => tracing::error!("who listens to hints from Redis has panicked; polling meanwhile"),
        }
        if asks.is_closed() {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Listens until the connection is lost; `Ok` when nobody is left to be told.
async fn subscribed(
    source: &Source,
    connected: &mut Receiver<Instant>,
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    known: &Known,
) -> redis::RedisResult<()> {
    let silent = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let since = Instant::now();
    let listening = async { source.client().await?.get_async_pubsub().await };
    let listening = timeout(CONNECTION_TIMEOUT, listening).await.map_err(silent)?;
    let (mut sink, mut messages) = listening?.split();
    let channels: Vec<String> = known.channels.iter().map(|entry| entry.key().clone()).collect();
    for channel in &channels {
        timeout(SILENCE, sink.subscribe(channel)).await.map_err(silent)??;
        known.is_live(channel);
    }
    let mut pings = tokio::time::interval(PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Otherwise a connection that died unnoticed would be listened to for ever. An error is an
            // answer, too: the user may lack the right to ask.
            _ = pings.tick() => {
                let answer = timeout(SILENCE, sink.ping::<redis::Value>()).await.map_err(silent)?;
                drop(answer);
            }
            ask = asks.recv() => match ask {
                None => return Ok(()),
                Some(Ask::Listen(channel)) => {
                    timeout(SILENCE, sink.subscribe(&channel)).await.map_err(silent)??;
                    known.is_live(&channel);
                }
                Some(Ask::Leave(channel)) => {
                    timeout(SILENCE, sink.unsubscribe(&channel)).await.map_err(silent)??;
                }
            },
            // Who listens to a server that another one has replaced may hear nothing for ever, and no
            // error.
            () = is_connected_since(connected, since) => {
                return Err(std::io::Error::other("commands go another way now").into());
            }
            message = messages.next() => match message {
                Some(message) => known.tell(message.get_channel_name(), message.get_payload_bytes()),
                None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
            },
        }
    }
}

/// Returns when commands go over a connection that began to be made after this.
async fn is_connected_since(connected: &mut Receiver<Instant>, since: Instant) {
    if connected.wait_for(|begun| *begun > since).await.is_err() {
        // There is no such connection, or it is going, and this with it.
        std::future::pending::<()>().await;
    }
}
