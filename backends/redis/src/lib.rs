//! The backend that keeps runs, queues and events in Redis: one server, or a Cluster.
//!
//! ```no_run
//! # async fn example() -> Result<(), celeriac_backends::BackendError> {
//! use celeriac_redis::RedisBackend;
//!
//! let backend = RedisBackend::connect("redis://localhost:6379").await?;
//! let other_app = RedisBackend::builder("unix:///run/redis.sock").prefix("reports").connect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The atomic step is one Lua script for a batch of completions (`scripts/settle.lua`): node states
//! are packed into a string of one byte each, and a script does work in proportion to what it
//! settles, never to the run. Where everything is kept stands at the top of `keys.rs`.
//!
//! What Redis acknowledges is as durable as it is configured to be: with `appendonly yes` and
//! `appendfsync always` all of it survives a crash of the server; with `everysec` the last second or
//! two may be lost. A failover to a replica may lose acknowledged writes. `maxmemory-policy` has to
//! be `noeviction`. The last tenth of `maxmemory` is left to the runs that are there
//! ([`RedisBuilder::headroom_percent`]); what brings them to their end may pass it.
//!
//! What a Redis user needs for what it does is in [`acl`]. Without the channels all works, more
//! slowly; without `INFO` nobody can warn, and refuse runs before Redis is full; without `ZPOPMIN`
//! and `PUBSUB NUMSUB` a leaf wakes all workers, and short reports come without their hint.
//!
//! Leases run by the clock of Redis, to the millisecond. No command blocks the connection: waiting
//! is done with hints over pub/sub and a poll behind them, so everything works, more slowly, when
//! all hints are lost.

pub mod acl;
mod address;
mod aside;
mod broken;
mod by_itself;
mod clocks;
mod connection;
mod dead;
mod denied;
mod dispatch;
mod early;
mod envelope;
mod error;
mod events;
mod fresh;
mod gone;
mod growth;
mod hints;
mod invocation;
mod keys;
mod later;
mod lines;
mod lost;
mod meta;
mod news;
mod plans;
mod primary;
mod queue;
mod queues;
mod reports;
mod room;
mod scripts;
mod settle;
mod shards;
mod source;
mod store;
mod submit;
mod sweep;
mod texts;
mod timers;
mod unlisted;
mod unserved;
mod unused;
mod waking;
mod watch;
mod wire;
mod wiring;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_backends::BackendError;
use celeriac_primitives::RunId;

use address::{Address, Tls};
use clocks::Clocks;
use connection::Link;
use early::Early;
use envelope::MESSAGE_BYTES_MAX;
use fresh::Fresh;
use later::Said;
use plans::Plans;
use queues::{KEPT_FOR, QUEUES_MAX, Queues};
use reports::Reports;
use room::{HEADROOM_PERCENT, Room};
use submit::Desk;
use sweep::Tidied;
use texts::{INLINE_BYTES_MAX, Turns};
use timers::Timers;
use unused::Quiet;
use waking::Sleepers;

/// Keeps runs, queues and events in Redis. Cheap to clone: clones share the connection.
#[derive(Clone)]
pub struct RedisBackend(Arc<Shared>);

struct Shared {
    link: Link,
    plans: Plans,
    queues: Queues,
    reports: Reports,
    timers: Timers,
    quiet: Quiet,
    desk: Desk,
    early: Early,
    fresh: Fresh,
    tidied: Tidied,
    clocks: Clocks,
    sleepers: Sleepers,
    said_later: Said,
    /// Down to which run the last sweep looked for what is owed.
    page: Mutex<Option<RunId>>,
    lost: lost::Lost,
    unlisted: unlisted::Unlisted,
    /// On a Cluster, the queues as they were when somebody looked last.
    named: Mutex<Vec<queues::Named>>,
    prefix: String,
    /// How the pieces of large texts take turns.
    turns: Turns,
    inline_bytes_max: usize,
    message_bytes_max: usize,
}

/// How to connect to Redis.
#[derive(Clone)]
#[must_use = "call connect()"]
pub struct RedisBuilder {
    url: String,
    prefix: String,
    tls: Tls,
    headroom_percent: u8,
    inline_bytes_max: usize,
    message_bytes_max: usize,
    queues_max: usize,
    queues_kept: Duration,
    lanes_looked: Duration,
}

impl RedisBackend {
    /// Connects, with the prefix `celeriac`, to one of
    ///
    /// - `redis://[user:password@]host[:port][/database]`, or `rediss://…` with TLS;
    /// - `unix:///path/to/socket[?db=…&user=…&pass=…]`;
    /// - `redis-cluster://[user:password@]host:port,host:port,…`, or `rediss-cluster://…`: some nodes of a
    ///   Cluster;
    /// - `redis-sentinel://[user:password@]host:port,host:port,…/name[/database]`, or `rediss-sentinel://…`:
    ///   sentinels, and the name of the primary in their configuration. Each new connection goes to the server
    ///   that they call the primary then. User and password are those of the servers; the sentinels' own are
    ///   `?sentinel_user=…&sentinel_password=…`.
    ///
    /// With TLS, `?ca=…&cert=…&key=…` name files in PEM form: the certificate authority (the
    /// system's by default), and a client certificate with its key.
    ///
    /// # Errors
    /// [`Unavailable`](celeriac_backends::ErrorKind::Unavailable) when nobody answers there,
    /// [`Denied`](celeriac_backends::ErrorKind::Denied) when the URL is wrong or Redis refuses the user.
    pub async fn connect(url: impl Into<String>) -> Result<Self, BackendError> {
        Self::builder(url).connect().await
    }

    /// A backend with settings of its own.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder {
            url: url.into(),
            prefix: "celeriac".to_owned(),
            tls: Tls::default(),
            headroom_percent: HEADROOM_PERCENT,
            inline_bytes_max: INLINE_BYTES_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
            queues_max: QUEUES_MAX,
            queues_kept: KEPT_FOR,
            lanes_looked: queues::LOOK_EVERY,
        }
    }

    fn link(&self) -> &Link {
        &self.0.link
    }

    fn plans(&self) -> &Plans {
        &self.0.plans
    }

    fn queues(&self) -> &Queues {
        &self.0.queues
    }

    fn early(&self) -> &Early {
        &self.0.early
    }

    fn reports(&self) -> &Reports {
        &self.0.reports
    }

    fn timers(&self) -> &Timers {
        &self.0.timers
    }

    fn lost(&self) -> &lost::Lost {
        &self.0.lost
    }

    fn unlisted(&self) -> &unlisted::Unlisted {
        &self.0.unlisted
    }

    fn clocks(&self) -> &Clocks {
        &self.0.clocks
    }

    fn quiet(&self) -> &Quiet {
        &self.0.quiet
    }
}

impl RedisBuilder {
    /// What all keys start with. Apps with different prefixes share a Redis without seeing each
    /// other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Trusts this certificate authority, in PEM form, instead of the system's.
    pub fn tls_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.ca = Some(pem.into());
        self
    }

    /// Shows this client certificate, with its key, both in PEM form.
    pub fn tls_client(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// How much of Redis' `maxmemory` is left to the runs that are there, in percent, 10 by default:
    /// when less is free, new ones are refused with [`Full`](celeriac_backends::ErrorKind::Full).
    pub fn headroom_percent(mut self, percent: u8) -> Self {
        self.headroom_percent = percent;
        self
    }

    /// Values and arguments that are longer than this, in bytes, are kept by themselves, in pieces,
    /// and messages and reports refer to them: 32 KiB by default. The programs of an app may differ
    /// in this.
    pub fn inline_bytes_max(mut self, bytes: usize) -> Self {
        self.inline_bytes_max = bytes;
        self
    }

    /// A message that has more bytes than this, or expands to more, is not read, and its leaf fails:
    /// 4 MiB by default. No app writes such, since large arguments do not travel with messages.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// How many queues there may be in this Redis under this prefix, 10,000 by default, 0 for any
    /// number: a run that would bring about more is refused with
    /// [`Full`](celeriac_backends::ErrorKind::Full). A queue that holds nothing goes away within a
    /// minute of its last use.
    pub fn queues_max(mut self, max: usize) -> Self {
        self.queues_max = max;
        self
    }

    /// How long a leaf waits at most for a worker that always finds others, when it is the first of
    /// its priority in its queue: one second by default. So often such a worker looks for lanes that
    /// somebody has begun to use.
    pub fn lanes_looked_for_every(mut self, time: Duration) -> Self {
        self.lanes_looked = time;
        self
    }

    /// How long a queue that holds nothing is kept after its last use, 30 seconds by default; the
    /// same for all processes. What is left in a queue of a worker that is gone and holds nothing is
    /// kept four times as long. A process that is stopped for longer, just when it is about to use a
    /// queue, brings it about anew.
    pub fn queues_kept_for(mut self, time: Duration) -> Self {
        self.queues_kept = time;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`RedisBackend::connect`]; `Denied` also when the prefix is none: it has up to 64 letters, digits
    /// and `-`, `_`, `.`, `:`, `/`.
    pub async fn connect(self) -> Result<RedisBackend, BackendError> {
        let Self {
            url,
            prefix,
            tls,
            headroom_percent,
            inline_bytes_max,
            message_bytes_max,
            queues_max,
            queues_kept,
            lanes_looked,
        } = self;
        keys::check_prefix(&prefix)?;
        let (room, first) = (Room::new(headroom_percent), lines::first(inline_bytes_max));
        let link = Link::connect(Address::parse(&url, tls)?, &prefix, room, first).await?;
        let (plans, queues) = (Plans::default(), Queues::new(queues_max, queues_kept, lanes_looked));
        let desk = Desk::open(link.clone());
        let connected = link.connected.clone();
        let shared = Arc::new(Shared {
            link,
            plans,
            queues,
            reports: Reports::default(),
            timers: Timers::default(),
            quiet: Quiet::default(),
            desk,
            early: Early::default(),
            fresh: Fresh::default(),
            tidied: Tidied::default(),
            clocks: Clocks::default(),
            sleepers: Sleepers::default(),
            said_later: Said::default(),
            page: Mutex::default(),
            lost: lost::Lost::default(),
            unlisted: unlisted::Unlisted::default(),
            named: Mutex::default(),
            prefix,
            turns: Turns::default(),
            inline_bytes_max,
            message_bytes_max,
        });
        if !shared.link.is_cluster() {
            tokio::spawn(primary::follow(Arc::downgrade(&shared), connected));
        }
        Ok(RedisBackend(shared))
    }
}

// Neither shows the URL: it may hold a password.
impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
