//! Hints that something has come or changed.
//!
//! One connection listens to the channels that somebody in this process is interested in. A hint may get lost, so
//! whoever waits for one looks by itself every now and then: [`POLL`]. Scripts ignore it when the user may not publish.
//!
//! Queues and events have a channel each. Runs share a few: a hint there is the ids of the runs that have changed, 16
//! bytes each, and wakes those who wait for one of them.

use std::sync::Arc;
use std::time::Duration;

use celeriac_primitives::RunId;
use dashmap::DashMap;
use futures::StreamExt;
use redis::Client;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::connection::CONNECTION_TIMEOUT;
use crate::keys::Keys;
use crate::wire::SILENCE;

/// How long one waits for a hint before looking without one.
pub(crate) const POLL: Duration = Duration::from_millis(500);

const RECONNECT: Duration = Duration::from_millis(250);

/// A server that says nothing is asked so often whether it is there.
const PING: Duration = Duration::from_secs(1);

/// Longer than anybody waits: keeps sums of instants and durations within their range.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The channels, and those who wait.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    asks: mpsc::UnboundedSender<String>,
    known: Arc<Known>,
}

#[derive(Debug)]
struct Known {
    /// What the channels of changes start with.
    changes: String,
    channels: DashMap<String, Arc<Notify>>,
    runs: DashMap<RunId, (Arc<Notify>, usize)>,
}

/// Interest in a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    notify: Arc<Notify>,
    run: RunId,
    known: Arc<Known>,
}

impl Hints {
    /// Starts to listen, in a task that ends when the last clone is dropped, at any of these servers.
    pub(crate) fn start(clients: Vec<Client>, changes: String) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let known = Arc::new(Known { changes, channels: DashMap::new(), runs: DashMap::new() });
        tokio::spawn(listen(clients, asked, known.clone()));
        Self { asks, known }
    }

    /// Listens to a channel as long as the task runs.
    pub(crate) fn keep(&self, channel: &str) -> Arc<Notify> {
        if let Some(known) = self.known.channels.get(channel) {
            return known.clone();
        }
        let notify = self.known.channels.entry(channel.to_owned()).or_default().clone();
        // Without the task there are no hints, and the poll behind them does it all.
        let _ = self.asks.send(channel.to_owned());
        notify
    }

    /// Listens to changes of a run as long as the listener lives.
    pub(crate) fn listen(&self, run: RunId) -> Listener {
        let mut entry = self.known.runs.entry(run).or_default();
        entry.1 += 1;
        let notify = entry.0.clone();
        drop(entry);
        self.keep(&format!("{}{}", self.known.changes, Keys::change_channel(run)));
        Listener { notify, run, known: self.known.clone() }
    }
}

impl Listener {
    pub(crate) fn notify(&self) -> &Arc<Notify> {
        &self.notify
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(mut entry) = self.known.runs.get_mut(&self.run) {
            entry.1 -= 1;
        }
        self.known.runs.remove_if(&self.run, |_, (_, listeners)| *listeners == 0);
    }
}

impl Known {
    /// Passes a hint on.
    fn tell(&self, channel: &str, ids: &[u8]) {
        if !channel.starts_with(&self.changes) {
            if let Some(notify) = self.channels.get(channel) {
                notify.notify_waiters();
            }
            return;
        }
        for id in ids.chunks_exact(16) {
            let id = uuid::Uuid::from_slice(id).expect("sixteen bytes are a UUID");
            let run = RunId::from_uuid(id).ok();
            if let Some(entry) = run.and_then(|run| self.runs.get(&run)) {
                entry.0.notify_waiters();
            }
        }
    }

    /// What came before a channel was listened to was not hinted at: whoever waits there looks.
    fn tell_all(&self, channel: &str) {
        match channel.strip_prefix(&self.changes) {
            None => self.tell(channel, &[]),
            Some(channel) => {
                let here = |run: RunId| Keys::change_channel(run).to_string() == channel;
                self.runs
                    .iter()
                    .filter(|entry| here(*entry.key()))
                    .for_each(|entry| entry.value().0.notify_waiters());
            }
        }
    }
}

/// Waits for hints, up to a deadline.
///
/// Take the [`hint`](Self::hint) first, then look, then [wait](Self::next): what comes in between is not missed.
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
    pub(crate) async fn next(&self, hint: Vec<OwnedNotified>) {
        let poll = self.deadline.min(Instant::now() + POLL);
        if hint.is_empty() {
            tokio::time::sleep_until(poll).await;
        } else {
            let first = futures::future::select_all(hint.into_iter().map(Box::pin));
            // Out of time or not, the next thing is to look.
            let _ = tokio::time::timeout_at(poll, first).await;
        }
    }
}

async fn listen(clients: Vec<Client>, mut asks: mpsc::UnboundedReceiver<String>, known: Arc<Known>) {
    // On a Cluster every node passes every hint on; when one is down, the next will do.
    for client in clients.iter().cycle() {
        match subscribed(client, &mut asks, &known).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "no hints from Redis; polling meanwhile"),
        }
        if asks.is_closed() {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Listens until the connection is lost; `Ok` when nobody is left to be told.
async fn subscribed(
    client: &Client,
    asks: &mut mpsc::UnboundedReceiver<String>,
    known: &Known,
) -> redis::RedisResult<()> {
    let silent = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connected = timeout(CONNECTION_TIMEOUT, client.get_async_pubsub()).await.map_err(silent)?;
    let (mut sink, mut messages) = connected?.split();
    let channels: Vec<String> = known.channels.iter().map(|entry| entry.key().clone()).collect();
    for channel in &channels {
        timeout(SILENCE, sink.subscribe(channel)).await.map_err(silent)??;
        known.tell_all(channel);
    }
    let mut pings = tokio::time::interval(PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Otherwise a connection that died unnoticed would be listened to for ever. An error is an answer, too: the
            // user may lack the right to ask.
            _ = pings.tick() => {
                let answer = timeout(SILENCE, sink.ping::<redis::Value>()).await.map_err(silent)?;
                drop(answer);
            }
            ask = asks.recv() => match ask {
                None => return Ok(()),
                Some(channel) => {
                    timeout(SILENCE, sink.subscribe(&channel)).await.map_err(silent)??;
                    known.tell_all(&channel);
                }
            },
            message = messages.next() => match message {
                Some(message) => known.tell(message.get_channel_name(), message.get_payload_bytes()),
                None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
            },
        }
    }
}
