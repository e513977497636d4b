//! The way to Redis: one shared connection for commands, which comes back by itself, and one for hints.
//!
//! No command blocks: whoever waits does so with a hint and a poll ([`crate::hints`]). So no reply can get
//! lost that has taken something, however long a wait was to last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind};
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, FromRedisValue, Pipeline, RedisFuture, RedisResult, ToRedisArgs, Value};
use tokio::sync::watch::{self, Receiver};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::broken::Broken;
use crate::by_itself::by_itself;
use crate::error::{SENTINEL, refused};
use crate::hints::Hints;
use crate::invocation::{Invocation, Script};
use crate::keys::{Keys, Line};
use crate::lines::Emptied;
use crate::room::Room;
use crate::scripts::{WRITE, only_reads};
use crate::shards::{Shards, is_lost};
use crate::source::Source;
use crate::unserved::Unserved;
use crate::watch::{Watch, key_of};
use crate::wire::{TooLarge, Wire, bytes_of};

/// On a Cluster, a reply that takes longer is given up; Redis may still do what it was asked to. One
/// server's silence is noticed sooner ([`crate::wire`]).
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Who connects for the first time is told so soon that nobody answers there.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
const SILENT_AT_FIRST: &str = "nobody has answered within 3 s; with rediss:// a server must speak TLS";

/// On a Cluster a command that meets a lost connection, or slots that move, tries again so often and
/// waits so long in between, in ms; then it fails, and whoever needs it comes again.
const CLUSTER_RETRIES: u32 = 4;
const CLUSTER_WAIT_MS: (u64, u64) = (10, 200);

/// One server of several is waited for so long, when nobody needs its answer at once.
const SERVER_WITHIN: Duration = Duration::from_secs(2);

/// The consumer group of every line.
pub(crate) const GROUP: &str = "celeriac";

/// A connection for commands and pipelines, which notes when Redis is away. Cheap to clone: clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    way: Way,
    watch: Watch,
}

#[derive(Clone)]
enum Way {
    One(Wire),
    /// Its row is short whatever one says: what waits there moves by itself.
    Cluster(Shards),
}

/// Sends something to the shard of a key, unless that is away.
async fn ask_shard<T: Send + 'static>(
    shards: &Shards,
    key: &[u8],
    reply: impl Future<Output = RedisResult<T>> + Send + 'static,
) -> RedisResult<T> {
    // What has no key is asked of all of them.
    if key.is_empty() {
        return by_itself(reply).await;
    }
    let patience = shards.patience(key)?;
    match timeout(patience, by_itself(reply)).await {
        Ok(reply) => reply.inspect_err(|error| {
            if is_lost(error) {
                shards.note_away(key, false);
            }
        }),
        Err(_) => {
            shards.note_away(key, true);
            let text = format!("no reply within {patience:?}");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text).into())
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let Self { way, watch } = self;
        let shards = match way {
            Way::One(connection) => return connection.req_packed_command(cmd),
            Way::Cluster(shards) => shards,
        };
        Box::pin(async move {
            TooLarge::check(bytes_of(cmd))?;
            let (sent, mut asked) = (cmd.clone(), shards.connection());
            let reply = async move { asked.req_packed_command(&sent).await };
            let reply = ask_shard(shards, &key_of(cmd), reply).await;
            reply.inspect_err(|error| watch.note(Some(cmd), error))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let Self { way, watch } = self;
        let shards = match way {
            Way::One(connection) => return connection.req_packed_commands(pipeline, offset, count),
            Way::Cluster(shards) => shards,
        };
        Box::pin(async move {
            TooLarge::check(pipeline.cmd_iter().map(bytes_of).sum())?;
            let (sent, mut asked) = (pipeline.clone(), shards.connection());
            let key = pipeline.cmd_iter().next().map(key_of).unwrap_or_default();
            let reply = async move { asked.req_packed_commands(&sent, offset, count).await };
            let reply = ask_shard(shards, &key, reply).await;
            reply.inspect_err(|error| watch.note(pipeline.cmd_iter().next(), error))
        })
    }

    fn get_db(&self) -> i64 {
        match &self.way {
            Way::One(connection) => connection.get_db(),
            Way::Cluster(shards) => shards.connection().get_db(),
        }
    }
}

/// A script that is ready to be run.
pub(crate) struct Prepared {
    connection: Connection,
    invocation: Invocation,
    operation: &'static str,
    /// Where to note that it was done; `None` when a replica would have done it as well.
    wrote: Option<Arc<AtomicBool>>,
}

impl Prepared {
    pub(crate) async fn send<T: FromRedisValue>(mut self) -> Result<T, BackendError> {
        self.once().await.map_err(refused(self.operation))
    }

    async fn once<T: FromRedisValue>(&mut self) -> RedisResult<T> {
        let done = self.invocation.send(&mut self.connection).await?;
        if let Some(wrote) = &self.wrote {
            wrote.store(true, Ordering::Relaxed);
        }
        Ok(done)
    }
}

/// A connection and the keys to use with it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    connection: Connection,
    pub(crate) hints: Hints,
    /// The number of the database: hints pass from one to the other.
    pub(crate) database: String,
    pub(crate) keys: Keys,
    /// Steps that take something, and steps that give it back because nobody waits for it any more.
    pub(crate) takes: TaskTracker,
    pub(crate) emptied: Emptied,
    pub(crate) room: Room,
    pub(crate) broken: Broken,
    pub(crate) unserved: Unserved,
    pub(crate) watch: Watch,
    /// Whether a script that writes was done since somebody looked ([`crate::primary`]).
    pub(crate) wrote: Arc<AtomicBool>,
    /// When the connection for commands began to be made; on a Cluster it stays as it is.
    pub(crate) connected: Receiver<Instant>,
    /// How many entries a take reads at first.
    pub(crate) first: usize,
}

impl Link {
    pub(crate) async fn connect(
        address: Address,
        prefix: &str,
        room: Room,
        first: usize,
    ) -> Result<Self, BackendError> {
        let keys = Keys::new(prefix);
        let watch = Watch::new(matches!(address, Address::Cluster { .. }));
        let has_user = address.has_user();
        let (way, sources) = match address {
            Address::One(source) => (one(source.clone(), watch.clone()).await, vec![source]),
            Address::Cluster { nodes, builder } => {
                let sources = nodes.into_iter().map(|node| Source::Server(Box::new(node)));
                (cluster(*builder).await, sources.collect())
            }
        };
        let way = way.map_err(refused("connect"))?;
        let connected = match &way {
            Way::One(wire) => wire.connected(),
            Way::Cluster(..) => watch::channel(Instant::now()).1,
        };
        let connection = Connection { way, watch: watch.clone() };
        let database = connection.get_db().to_string();
        let hints = Hints::start(sources, connected.clone(), keys.changes(), database.clone());
        let (takes, emptied, broken) = (TaskTracker::new(), Emptied::default(), Broken::default());
        // Whoever waits does so until there are none for a moment, and not until there will be none.
        takes.close();
        let wrote = Arc::default();
        let link = Self {
            connection,
            hints,
            database,
            keys,
            takes,
            emptied,
            room,
            broken,
            unserved: Unserved::default(),
            watch,
            wrote,
            connected,
            first,
        };
        link.look_at_settings(has_user).await?;
        Ok(link)
    }

    /// A connection for a command or a pipeline.
    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Whether the keys of a run and those of a queue may be on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.connection.way, Way::Cluster(..))
    }

    /// Which shards of a Cluster are away, in words.
    pub(crate) fn shards_away(&self) -> Option<String> {
        match &self.connection.way {
            Way::One(_) => None,
            Way::Cluster(shards) => shards.strain(),
        }
    }

    /// The servers whose keys are all keys: as they are named by [`ask_server`](Self::ask_server).
    pub(crate) async fn servers(&self) -> Vec<Arc<str>> {
        match &self.connection.way {
            Way::One(_) => vec![Arc::from("")],
            Way::Cluster(shards) => {
                shards.learn().await;
                shards.servers()
            }
        }
    }

    /// Sends a command that has no key to one of them.
    pub(crate) async fn ask_server(
        &self,
        operation: &'static str,
        server: &str,
        cmd: &Cmd,
    ) -> Result<Value, BackendError> {
        let Way::Cluster(shards) = &self.connection.way else { return self.ask(operation, cmd).await };
        let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
        let (host, port) = (host.to_owned(), port.parse().unwrap_or_default());
        let there = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
        let (mut connection, cmd) = (shards.connection(), cmd.clone());
        let answer = by_itself(async move { connection.route_command(cmd, there).await });
        let silent =
            |_| BackendError::new(ErrorKind::Unavailable, operation).context("a server does not answer");
        timeout(SERVER_WITHIN, answer).await.map_err(silent)?.map_err(refused(operation))
    }

    /// Runs a script.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &'static Script,
        prepare: impl FnOnce(&mut Invocation),
    ) -> Result<T, BackendError> {
        let mut prepared = self.prepare(operation, script, prepare);
        let answer = match prepared.once().await {
            // Every script may come twice.
            Err(error) if is_wrong_type(&error) || takes_no_more(&error) => {
                self.set_keys_aside(prepared.invocation.keys()).await;
                prepared.once().await
            }
            answer => answer,
        };
        answer.map_err(refused(operation))
    }

    /// A script with all that it needs, to be run later.
    pub(crate) fn prepare(
        &self,
        operation: &'static str,
        script: &'static Script,
        prepare: impl FnOnce(&mut Invocation),
    ) -> Prepared {
        let mut invocation = Invocation::new(script);
        prepare(&mut invocation);
        let wrote = (!only_reads(script)).then(|| self.wrote.clone());
        Prepared { connection: self.connection(), invocation, operation, wrote }
    }

    /// Leaves a server that is not the primary by what the sentinels say, when there are any.
    pub(crate) async fn ask_sentinels(&self) {
        if let Way::One(wire) = &self.connection.way {
            wire.ask_sentinels().await;
        }
    }

    /// Sends a command.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        operation: &'static str,
        cmd: &Cmd,
    ) -> Result<T, BackendError> {
        let answer = match cmd.query_async(&mut self.connection()).await {
            Err(error) if is_wrong_type(&error) => {
                self.set_keys_aside(&[]).await;
                cmd.query_async(&mut self.connection()).await
            }
            answer => answer,
        };
        answer.map_err(|error| {
            let is_wrong_type = is_wrong_type(&error);
            let error = refused(operation)(error);
            match cmd.args_iter().nth(1) {
                Some(redis::Arg::Simple(key)) if is_wrong_type => {
                    error.context(format!("{} holds something else", String::from_utf8_lossy(key)))
                }
                _ => error,
            }
        })
    }

    /// Sends a command that writes what an accepted run needs: also to a Redis that is full.
    pub(crate) async fn write<T: FromRedisValue>(
        &self,
        operation: &'static str,
        command: &str,
        key: String,
        args: impl ToRedisArgs,
    ) -> Result<T, BackendError> {
        self.run(operation, &WRITE, |script| {
            script.key(key).arg(command).arg(args);
        })
        .await
    }

    /// Says how safe the data is, and warns when Redis may throw it away.
    async fn look_at_settings(&self, has_user: bool) -> Result<(), BackendError> {
        // On a Cluster any one of the masters answers for all: they are configured alike.
        let mut info = redis::cmd("INFO");
        let info = match info.arg("everything").query_async::<Infos>(&mut self.connection()).await {
            Ok(info) => info.0,
            // All works without.
            Err(error) if error.code() == Some("NOPERM") => {
                tracing::warn!(
                    "this Redis user may not ask INFO: how safe the data is, and when it is full, is unknown"
                );
                return Ok(());
            }
            // One of the masters is away.
            Err(error) if self.is_cluster() && is_lost(&error) => {
                tracing::warn!(%error, "not all shards answer: how safe the data is, is unknown");
                return Ok(());
            }
            Err(error) => return Err(refused("connect")(error)),
        };
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or("unknown").trim().to_owned()
        };
        if field("redis_mode") == "sentinel" {
            return Err(BackendError::new(ErrorKind::Denied, "connect").context(SENTINEL));
        }
        let policy = field("maxmemory_policy");
        if policy != "noeviction" {
            tracing::warn!(policy, "Redis may evict parts of runs: set its maxmemory-policy to noeviction");
        }
        // There are passwords in the configuration: a user of its own has no right to read it, and Redis
        // would note that it has tried.
        let fsync = if has_user {
            "unknown".to_owned()
        } else {
            let config = redis::cmd("CONFIG").arg("GET").arg("appendfsync").to_owned();
            let config = self.ask::<Infos>("connect", &config).await;
            config.map_or_else(|_| "unknown".to_owned(), |pair| pair.0.trim().to_owned())
        };
        let fsync = fsync.rsplit('\n').next().unwrap_or("unknown").to_owned();
        let appendonly = field("aof_enabled") == "1";
        tracing::info!(version = field("redis_version"), appendonly, fsync, "connected to Redis");
        if !appendonly {
            tracing::warn!(
                "Redis keeps no append-only file: what it acknowledges may be lost when it restarts"
            );
        }
        Ok(())
    }
}

/// The first text of an answer, which on a Cluster has one for each node; a list of texts is its lines.
struct Infos(String);

impl FromRedisValue for Infos {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        fn text(value: &Value) -> String {
            match value {
                Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
                Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("\n"),
                Value::Map(pairs) => match pairs.first() {
                    // One answer for each node; or the settings themselves.
                    Some((_, value @ (Value::Array(_) | Value::Map(_)))) => text(value),
                    Some((_, value)) => text(value),
                    None => String::new(),
                },
                _ => String::new(),
            }
        }
        Ok(Self(text(&value)))
    }
}

async fn one(source: Source, watch: Watch) -> RedisResult<Way> {
    let connecting = Wire::connect(source, watch);
    let silent = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, SILENT_AT_FIRST);
    timeout(FIRST_WITHIN, connecting).await.map_err(silent)?.map(Way::One)
}

async fn cluster(builder: redis::cluster::ClusterClientBuilder) -> RedisResult<Way> {
    let (wait_min, wait_max) = CLUSTER_WAIT_MS;
    let builder = builder.response_timeout(RESPONSE_TIMEOUT).connection_timeout(CONNECTION_TIMEOUT);
    let builder = builder.retries(CLUSTER_RETRIES).min_retry_wait(wait_min).max_retry_wait(wait_max);
    let client: ClusterClient = builder.build()?;
    Shards::connect(client).await.map(Way::Cluster)
}

/// Whether a key holds something else than what was asked for.
fn is_wrong_type(error: &redis::RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Whether a stream's ids have come to an end, by accident or by hand.
fn takes_no_more(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("exhausted the last possible ID"))
}

/// Adds the keys of lines to a script's.
pub(crate) fn line_keys<'l>(invocation: &mut Invocation, lines: impl IntoIterator<Item = &'l Line>) {
    for key in lines.into_iter().flat_map(Line::keys) {
        invocation.key(key);
    }
}
