//! One direction of one connection: reads, filters, waits as long as it has to, writes.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::filter::{Filter, Verdict};
use super::rules::{Direction, Fate, Rules};

/// So much is read at once, and so much waits for its time; the rest waits at the sender.
const READ: usize = 64 * 1024;
const WAITING_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Pump<'a, R, W, F> {
    pub(super) read: R,
    pub(super) write: W,
    pub(super) filter: F,
    pub(super) direction: Direction,
    /// The number of the connection.
    pub(super) number: u64,
    pub(super) rules: &'a watch::Sender<Rules>,
    pub(super) changes: watch::Receiver<Rules>,
    pub(super) stock: Stock,
}

/// The bytes in a pump.
#[derive(Debug, Default)]
pub(super) struct Stock {
    /// What was read and not filtered.
    input: BytesMut,
    output: BytesMut,
    /// What was filtered and waits for its time, and when it was read.
    waiting: VecDeque<(Instant, Bytes)>,
    waiting_bytes: usize,
    /// The sender has closed.
    ended: bool,
    /// Bytes were swallowed.
    lost: bool,
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The sender has closed, and everything was passed on.
    Closed,
    /// The rules say so, or one of the two is gone.
    Cut,
}

/// What the rules say to a pump.
#[derive(Debug, Clone, Copy)]
struct Orders {
    cut: bool,
    fate: Fate,
    /// Bytes are written as they come.
    direct: bool,
}

impl<R, W, F> Pump<'_, R, W, F>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Filter,
{
    /// Works until the connection is over.
    pub(super) async fn run(mut self) -> End {
        let end = loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(_) => break End::Cut,
            }
        };
        if end == End::Closed {
            let _ = self.write.shutdown().await;
        }
        end
    }

    async fn step(&mut self) -> io::Result<Option<End>> {
        let orders = self.orders();
        match orders.fate {
            _ if orders.cut => return Ok(Some(End::Cut)),
            Fate::Swallow => {
                self.swallow().await;
                return Ok(None);
            }
            // As a host does that hears of a connection of which it missed something.
            _ if self.stock.lost => return Ok(Some(End::Cut)),
            Fate::Hold => {
                self.changed().await;
                return Ok(None);
            }
            Fate::Pass => {}
        }
        let verdict = self.filter.pass(&mut self.stock.input, &mut self.stock.output);
        self.forward(orders.direct).await?;
        match verdict {
            Verdict::Dead => {
                // What came before is the server's, whatever the delay.
                while let Some((_, bytes)) = self.stock.waiting.pop_front() {
                    self.send(&bytes).await?;
                }
                return Ok(Some(End::Cut));
            }
            Verdict::Last => {
                self.rules.send_modify(Rules::handle_last_reply);
                return Ok(Some(End::Cut));
            }
            Verdict::Wait | Verdict::More => {}
        }
        if self.stock.ended && self.stock.waiting.is_empty() && verdict == Verdict::More {
            return Ok(Some(End::Closed));
        }
        let due = self.due();
        let Stock { input, ended, waiting_bytes, .. } = &mut self.stock;
        let hungry = verdict == Verdict::More && !*ended && *waiting_bytes < WAITING_MAX;
        input.reserve(READ);
        tokio::select! {
            biased;
            changed = self.changes.changed() => changed.expect("the connection holds the sender"),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.release().await?,
            read = self.read.read_buf(input), if hungry => *ended = read? == 0,
        }
        Ok(None)
    }

    fn orders(&mut self) -> Orders {
        let rules = self.changes.borrow_and_update();
        let way = rules.way(self.direction);
        Orders {
            cut: rules.cuts(self.number),
            fate: way.fate(self.number),
            direct: way.delay.is_zero() && way.bytes_per_second.is_none(),
        }
    }

    async fn changed(&mut self) {
        self.changes.changed().await.expect("the connection holds the sender");
    }

    /// Reads, and forgets what was read.
    async fn swallow(&mut self) {
        let stock = &mut self.stock;
        stock.lost |= !stock.input.is_empty() || !stock.waiting.is_empty();
        stock.input.clear();
        stock.waiting.clear();
        stock.waiting_bytes = 0;
        stock.input.reserve(READ);
        tokio::select! {
            biased;
            changed = self.changes.changed() => changed.expect("the connection holds the sender"),
            read = self.read.read_buf(&mut stock.input), if !stock.ended => {
                // That the sender has closed is swallowed too.
                stock.ended = !matches!(read, Ok(1..));
                stock.lost = true;
            }
        }
    }

    /// Sends what was filtered, or lets it wait.
    async fn forward(&mut self, direct: bool) -> io::Result<()> {
        if self.stock.output.is_empty() {
            return Ok(());
        }
        let mut output = std::mem::take(&mut self.stock.output);
        if direct && self.stock.waiting.is_empty() {
            self.send(&output).await?;
            // Keeps its memory.
            output.clear();
            self.stock.output = output;
        } else {
            self.stock.waiting_bytes += output.len();
            self.stock.waiting.push_back((Instant::now(), output.freeze()));
        }
        Ok(())
    }

    /// When something that waits may be sent.
    fn due(&self) -> Option<Instant> {
        let (read, _) = self.stock.waiting.front()?;
        Some(self.rules.borrow().way(self.direction).due(*read))
    }

    /// Sends as much as may be sent now of what has waited longest.
    async fn release(&mut self) -> io::Result<()> {
        let Some((_, first)) = self.stock.waiting.front_mut() else { return Ok(()) };
        let mut allowed = Ok(0);
        self.rules.send_if_modified(|rules| {
            allowed = rules.way_mut(self.direction).take(first.len(), Instant::now());
            false
        });
        // Another connection was faster; the time of this one comes.
        let Ok(allowed) = allowed else { return Ok(()) };
        let part = first.split_to(allowed);
        if first.is_empty() {
            self.stock.waiting.pop_front();
        }
        self.stock.waiting_bytes -= part.len();
        self.send(&part).await
    }

    /// Sends, unless the connection is cut before the receiver has taken it all.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let cut = async {
            let mut changes = self.rules.subscribe();
            let _ = changes.wait_for(|rules| rules.cuts(self.number)).await;
        };
        tokio::select! {
            biased;
            sent = self.write.write_all(bytes) => sent,
            () = cut => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}
