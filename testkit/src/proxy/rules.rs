//! What a proxy does at the moment with connections, bytes and commands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// What the client sends.
    ToServer,
    /// What the server sends.
    ToClient,
    /// Either.
    Both,
}

/// Which connections something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Those that are open now; later ones are spared.
    Present,
    /// Those that are open and those to come.
    All,
}

/// Where a proxy goes dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// The server never sees the command.
    Before,
    /// The server has executed the command, and the client never sees the reply.
    After,
}

/// A question about the name of a command, in upper case.
pub(super) type Predicate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// All of it. Connections have numbers, from 0.
pub(super) struct Rules {
    /// Connections with smaller numbers are closed.
    pub(super) cut_before: u64,
    /// New connections are refused.
    pub(super) refusing: bool,
    /// The proxy was dropped.
    pub(super) closed: bool,
    /// How many listen for connections, of how many.
    listening: (usize, usize),
    pub(super) next_connection: u64,
    pub(super) open: usize,
    pub(super) to_server: Way,
    pub(super) to_client: Way,
    pub(super) counts: Predicate,
    pub(super) duplicates: Predicate,
    pub(super) answer: Option<Answer>,
    pub(super) counted: u64,
    /// The number of the command to go dead at.
    pub(super) trap: Option<(u64, Trap)>,
    /// The command whose reply is being waited for, to go dead. No other command passes.
    pub(super) last: Option<String>,
    /// The command the proxy went dead at.
    pub(super) tripped: Option<String>,
}

/// What the next commands are answered in the place of the server.
pub(super) struct Answer {
    pub(super) reply: Bytes,
    /// How many commands.
    pub(super) left: u64,
    pub(super) answers: Predicate,
}

/// One direction.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) delay: Duration,
    pub(super) bytes_per_second: Option<u64>,
    /// When the link is free again, as fast as it is.
    pub(super) free_at: Instant,
    pub(super) holding: bool,
    /// Bytes of connections with smaller numbers are swallowed.
    pub(super) swallow_before: u64,
}

/// The direction that a pump works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

/// What happens to the bytes of a direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    /// They wait.
    Hold,
    Swallow,
}

/// What happens to a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Pass {
        twice: bool,
        /// Its reply is what the proxy goes dead at.
        last: bool,
    },
    /// The server does not see it; this is its reply.
    Answer(Bytes),
    /// Not now: the rules have to change first.
    Wait,
    /// The proxy has gone dead.
    Dead,
}

impl Rules {
    pub(super) fn new(listeners: usize) -> Self {
        Self {
            cut_before: 0,
            refusing: false,
            closed: false,
            listening: (listeners, listeners),
            next_connection: 0,
            open: 0,
            to_server: Way::new(),
            to_client: Way::new(),
            counts: Arc::new(counts_by_default),
            duplicates: Arc::new(|_| false),
            answer: None,
            counted: 0,
            trap: None,
            last: None,
            tripped: None,
        }
    }

    pub(super) fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    pub(super) fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Whether somebody listens wherever somebody is to.
    pub(super) fn is_listening(&self) -> bool {
        self.listening.0 == self.listening.1
    }

    /// One of those who listen says whether he does; true when that is another thing than before.
    pub(super) fn listens(&mut self, before: &mut bool, now: bool) -> bool {
        if std::mem::replace(before, now) == now {
            return false;
        }
        if now {
            self.listening.0 += 1
        } else {
            self.listening.0 -= 1
        }
        true
    }

    /// Whether a connection is to be closed.
    pub(super) fn cuts(&self, connection: u64) -> bool {
        self.closed || connection < self.cut_before
    }

    pub(super) fn ways(&mut self, ways: Ways) -> impl Iterator<Item = &mut Way> {
        let to_server = (ways != Ways::ToClient).then_some(&mut self.to_server);
        let to_client = (ways != Ways::ToServer).then_some(&mut self.to_client);
        to_server.into_iter().chain(to_client)
    }

    /// Connections from this number on are meant by `connections`.
    pub(super) fn end_of(&self, connections: Connections) -> u64 {
        match connections {
            Connections::Present => self.next_connection,
            Connections::All => u64::MAX,
        }
    }

    /// What happens to a command of this name on this connection; true when the rules changed by that.
    pub(super) fn handle_command(&mut self, connection: u64, name: &str) -> (Passage, bool) {
        // Its pump has not noticed yet.
        if self.cuts(connection) {
            return (Passage::Dead, false);
        }
        if self.last.is_some() {
            return (Passage::Wait, false);
        }
        let counts = has_reply(name) && (self.counts)(name);
        self.counted += u64::from(counts);
        if let Some(reply) = self.next_answer(name) {
            return (Passage::Answer(reply), false);
        }
        let twice = (self.duplicates)(name);
        if !counts {
            return (Passage::Pass { twice, last: false }, false);
        }
        match self.trap {
            Some((number, Trap::Before)) if number == self.counted => {
                self.go_dead(name.to_owned());
                (Passage::Dead, true)
            }
            Some((number, Trap::After)) if number == self.counted => {
                self.last = Some(name.to_owned());
                (Passage::Pass { twice, last: true }, false)
            }
            _ => (Passage::Pass { twice, last: false }, false),
        }
    }

    /// The reply to a command that the server is not to see.
    fn next_answer(&mut self, name: &str) -> Option<Bytes> {
        let answer = self.answer.as_mut().filter(|answer| answer.left > 0)?;
        if !has_reply(name) || !(answer.answers)(name) {
            return None;
        }
        answer.left -= 1;
        Some(answer.reply.clone())
    }

    /// The reply to the last command has come, or never will.
    pub(super) fn handle_last_reply(&mut self) {
        if let Some(name) = self.last.take() {
            self.go_dead(name);
        }
    }

    fn go_dead(&mut self, name: String) {
        self.trap = None;
        self.tripped = Some(name);
        self.refusing = true;
        self.cut_before = self.next_connection;
    }
}

impl Way {
    fn new() -> Self {
        let free_at = Instant::now();
        Self { delay: Duration::ZERO, bytes_per_second: None, free_at, holding: false, swallow_before: 0 }
    }

    pub(super) fn heal(&mut self) {
        *self = Self::new();
    }

    pub(super) fn fate(&self, connection: u64) -> Fate {
        match self {
            _ if connection < self.swallow_before => Fate::Swallow,
            Self { holding: true, .. } => Fate::Hold,
            _ => Fate::Pass,
        }
    }

    /// When something that was read at this time may be sent.
    pub(super) fn due(&self, read: Instant) -> Instant {
        let due = read + self.delay;
        if self.bytes_per_second.is_some() { due.max(self.free_at) } else { due }
    }

    /// How many of so many bytes may be sent now, or when some may.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Result<usize, Instant> {
        let Some(rate) = self.bytes_per_second else { return Ok(bytes) };
        if now < self.free_at {
            return Err(self.free_at);
        }
        // Fifty pieces a second.
        let bytes = bytes.min(usize::try_from(rate / 50).unwrap_or(usize::MAX).max(1));
        self.free_at = now + Duration::from_secs_f64(bytes as f64 / rate as f64);
        Ok(bytes)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("cut_before", &self.cut_before)
            .field("refusing", &self.refusing)
            .field("to_server", &self.to_server)
            .field("to_client", &self.to_client)
            .field("counted", &self.counted)
            .field("trap", &self.trap)
            .field("last", &self.last)
            .field("tripped", &self.tripped)
            .finish_non_exhaustive()
    }
}

/// Whether a command has one reply of its own. An empty request has none; those that listen or stop
/// listening are answered by one push or message for each channel.
pub(super) fn has_reply(name: &str) -> bool {
    !name.is_empty() && !name.ends_with("SUBSCRIBE")
}

/// All but what a client says to arrive, to stay and to load its scripts, which depends on the client
/// more than on what is done with it.
fn counts_by_default(name: &str) -> bool {
    !matches!(name, "AUTH" | "CLIENT" | "HELLO" | "PING" | "SCRIPT" | "SELECT")
}
