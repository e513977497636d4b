//! Hints that something has come or changed.
//!
//! One connection listens to the channels that somebody in this process is interested in. A hint may get lost, so
//! whoever waits for one looks by itself every now and then: [`POLL`]. Scripts ignore it when the user may not publish.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use futures::StreamExt;
use redis::Client;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// How long one waits for a hint before looking without one.
pub(crate) const POLL: Duration = Duration::from_millis(500);

const RECONNECT: Duration = Duration::from_millis(250);

/// Longer than anybody waits: keeps sums of instants and durations within their range.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The channels and those who wait at them.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    asks: mpsc::UnboundedSender<Ask>,
    channels: Arc<Channels>,
}

type Channels = DashMap<String, (Arc<Notify>, usize)>;

#[derive(Debug)]
enum Ask {
    Listen(String),
    Leave(String),
}

/// Interest in a channel, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    notify: Arc<Notify>,
    channel: String,
    hints: Hints,
}

impl Hints {
    /// Starts to listen, in a task that ends when the last clone is dropped.
    pub(crate) fn start(client: Client) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let channels = Arc::new(Channels::default());
        tokio::spawn(listen(client, asked, channels.clone()));
        Self { asks, channels }
    }

    /// Listens to a channel as long as the listener lives.
    pub(crate) fn listen(&self, channel: &str) -> Listener {
        Listener { notify: self.join(channel), channel: channel.to_owned(), hints: self.clone() }
    }

    /// Listens to a channel as long as the task runs.
    pub(crate) fn keep(&self, channel: &str) -> Arc<Notify> {
        if let Some(known) = self.channels.get(channel) {
            return known.0.clone();
        }
        self.join(channel)
    }

    /// One more who is interested in a channel.
    fn join(&self, channel: &str) -> Arc<Notify> {
        let mut entry = self.channels.entry(channel.to_owned()).or_default();
        entry.1 += 1;
        let (notify, first) = (entry.0.clone(), entry.1 == 1);
        drop(entry);
        if first {
            // Without the task there are no hints, and the poll behind them does it all.
            let _ = self.asks.send(Ask::Listen(channel.to_owned()));
        }
        notify
    }
}

impl Listener {
    pub(crate) fn notify(&self) -> &Arc<Notify> {
        &self.notify
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(mut entry) = self.hints.channels.get_mut(&self.channel) {
            entry.1 -= 1;
        }
        let gone = self.hints.channels.remove_if(&self.channel, |_, (_, listeners)| *listeners == 0);
        if gone.is_some() {
            let _ = self.hints.asks.send(Ask::Leave(std::mem::take(&mut self.channel)));
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

async fn listen(client: Client, mut asks: mpsc::UnboundedReceiver<Ask>, channels: Arc<Channels>) {
    loop {
        match subscribed(&client, &mut asks, &channels).await {
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
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    channels: &Channels,
) -> redis::RedisResult<()> {
    let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
    let known: Vec<String> = channels.iter().map(|entry| entry.key().clone()).collect();
    for channel in &known {
        sink.subscribe(channel).await?;
        tell(channels, channel);
    }
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                None => return Ok(()),
                Some(Ask::Listen(channel)) => {
                    sink.subscribe(&channel).await?;
                    // What came before is not hinted at: look.
                    tell(channels, &channel);
                }
                // Somebody may be interested again by now.
                Some(Ask::Leave(channel)) if !channels.contains_key(&channel) => {
                    sink.unsubscribe(&channel).await?;
                }
                Some(Ask::Leave(_)) => {}
            },
            message = messages.next() => match message {
                Some(message) => tell(channels, message.get_channel_name()),
                None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
            },
        }
    }
}

fn tell(channels: &Channels, channel: &str) {
    if let Some(entry) = channels.get(channel) {
        entry.0.notify_waiters();
    }
}
