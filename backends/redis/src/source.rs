//! Whom a new connection goes to: a server that a URL names, or the one that the sentinels call the primary
//! at that moment.
//!
//! All sentinels are asked at once, and what most of them say counts: one that is dead costs no time, and one
//! that has slept says what was so before. A server that they name is asked for its role, too. One that was
//! just demoted may be named for a moment, and one that was just promoted may not know yet: then whoever
//! connects tries again a little later, as when nobody answers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout_at};

use crate::address::{Address, Servers, Tls};

/// A sentinel answers within this time, and so does the server that it names.
const WITHIN: Duration = Duration::from_secs(1);

/// Where new connections go to. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Source {
    Server(Box<Client>),
    Sentinels(Arc<Sentinels>),
    /// One of these whose URL names files with certificates, which may be others by now.
    OfFiles(Arc<OfFiles>),
}

/// A URL, and what certificates there are besides those that it names.
pub(crate) struct OfFiles {
    pub(crate) url: String,
    pub(crate) tls: Tls,
    /// As it was first.
    pub(crate) before: Source,
}

impl OfFiles {
    fn now(&self) -> Source {
        match Address::of_files(&self.url, self.tls.clone()) {
            Ok(Address::One(source)) => source,
            Ok(Address::Cluster { .. }) => self.before.clone(),
            Err(error) => {
                tracing::warn!(%error, "the certificates cannot be read anew");
                self.before.clone()
            }
        }
    }
}

impl Source {
    /// The server that a connection goes to now.
    pub(crate) async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::Server(client) => Ok((**client).clone()),
            Self::Sentinels(sentinels) => sentinels.primary().await,
            Self::OfFiles(of_files) => Box::pin(of_files.now().client()).await,
        }
    }

    pub(crate) fn has_sentinels(&self) -> bool {
        match self {
            Self::Server(_) => false,
            Self::Sentinels(_) => true,
            Self::OfFiles(of_files) => of_files.before.has_sentinels(),
        }
    }

    /// Whether somebody of a name of his own connects, who may not do everything.
    pub(crate) fn has_user(&self) -> bool {
        let is_own = |client: &Client| {
            let settings = client.get_connection_info().redis_settings();
            settings.username().is_some_and(|user| user != "default")
        };
        match self {
            Self::Server(client) => is_own(client),
            Self::Sentinels(sentinels) => sentinels.servers.at("127.0.0.1", 1).is_ok_and(|at| is_own(&at)),
            Self::OfFiles(of_files) => of_files.before.has_user(),
        }
    }

    /// The number of the database.
    pub(crate) fn database(&self) -> i64 {
        match self {
            Self::Server(client) => client.get_connection_info().redis_settings().db(),
            Self::Sentinels(sentinels) => sentinels.servers.database(),
            Self::OfFiles(of_files) => of_files.before.database(),
        }
    }
}

/// Who watches over a primary and its replicas, and says which is which.
pub(crate) struct Sentinels {
    pub(crate) nodes: Vec<Client>,
    pub(crate) primary: String,
    pub(crate) servers: Servers,
}

/// What sentinels say instead of an address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// Waiting helps.
    #[error("no sentinel says which Redis is the primary: {0}")]
    Silent(String),
    #[error("the sentinels name {0}, which is no primary, or not yet")]
    Replica(String),
    /// The URL is wrong.
    #[error(
        "the sentinels know no primary {0:?}: write the name that their configuration has after `sentinel monitor`, \
         as in redis-sentinel://host:26379/mymaster"
    )]
    Unknown(String),
    #[error("a server that is to be a sentinel is none: write redis:// for a Redis without sentinels")]
    NoSentinel,
    #[error(
        "the sentinels refuse the user: write ?sentinel_password=…, and sentinel_user=… if they have users: {0}"
    )]
    Denied(String),
}

impl Lost {
    /// Whether the URL is wrong, or what it names is set up in another way.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::NoSentinel | Self::Denied(_))
    }
}

impl From<Lost> for RedisError {
    fn from(lost: Lost) -> Self {
        std::io::Error::new(std::io::ErrorKind::NotFound, lost).into()
    }
}

/// What a sentinel said, or that it did not.
type Said = RedisResult<Option<(String, u16)>>;

impl Sentinels {
    /// The server that is the primary now.
    async fn primary(&self) -> RedisResult<Client> {
        let until = Instant::now() + WITHIN;
        let mut asked: FuturesUnordered<_> = self.nodes.iter().map(|node| self.ask(node, until)).collect();
        let mut all: Vec<Said> = Vec::with_capacity(self.nodes.len());
        while let Some(said) = asked.next().await {
            all.push(said);
            if votes(&all).first().is_some_and(|(count, _)| *count > self.nodes.len() / 2) {
                break;
            }
        }
        drop(asked);
        let votes = votes(&all);
        let mut replica = None;
        for (_, (host, port)) in &votes {
            let client = self.servers.at(host, *port)?;
            match is_primary(&client).await {
                Ok(true) => return Ok(client),
                Ok(false) => replica = Some(Lost::Replica(format!("{host}:{port}")).into()),
                Err(error) => replica = replica.or(Some(error)),
            }
        }
        Err(replica.unwrap_or_else(|| self.why_none(all).into()))
    }

    async fn ask(&self, node: &Client, until: Instant) -> Said {
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.primary);
        let asked = async { question.query_async(&mut connected(node).await?).await };
        timeout_at(until, asked)
            .await
            .map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))?
    }

    /// Why nobody is named. What only some say need not be so: a sentinel that starts knows nothing.
    fn why_none(&self, all: Vec<Said>) -> Lost {
        let unknown = all.iter().filter(|said| matches!(said, Ok(None))).count();
        if unknown > self.nodes.len() / 2 {
            return Lost::Unknown(self.primary.clone());
        }
        let errors: Vec<RedisError> = all.into_iter().filter_map(Result::err).collect();
        let are_all = |is: fn(&RedisError) -> bool| errors.len() == self.nodes.len() && errors.iter().all(is);
        if are_all(|error| error.detail().is_some_and(|detail| detail.contains("unknown command"))) {
            return Lost::NoSentinel;
        }
        let mut why: Vec<String> =
            self.nodes.iter().zip(&errors).map(|(_, error)| error.to_string()).collect();
        why.dedup();
        let why = why.join("; ");
        if errors.iter().any(is_refusal) { Lost::Denied(why) } else { Lost::Silent(why) }
    }
}

/// The addresses that were named, and how often, the most frequent first.
fn votes(all: &[Said]) -> Vec<(usize, &(String, u16))> {
    let mut votes: Vec<(usize, &(String, u16))> = Vec::new();
    for address in all.iter().filter_map(|said| said.as_ref().ok()?.as_ref()) {
        match votes.iter_mut().find(|(_, known)| *known == address) {
            Some((count, _)) => *count += 1,
            None => votes.push((1, address)),
        }
    }
    // Of those named equally often the one that was named first stays first.
    votes.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    votes
}

fn is_refusal(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// Whether a server says of itself that it is a primary. One whose user may not ask is believed: a replica
/// refuses the first command that writes.
async fn is_primary(client: &Client) -> RedisResult<bool> {
    let mut connection = connected(client).await?;
    match redis::cmd("ROLE").query_async::<Value>(&mut connection).await {
        Ok(Value::Array(role)) => {
            Ok(!matches!(role.first(), Some(Value::BulkString(role)) if role == b"slave"))
        }
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("NOPERM") => Ok(true),
        Err(error) => Err(error),
    }
}

async fn connected(client: &Client) -> RedisResult<redis::aio::MultiplexedConnection> {
    let config = AsyncConnectionConfig::new();
    let config = config.set_connection_timeout(Some(WITHIN)).set_response_timeout(Some(WITHIN));
    client.get_multiplexed_async_connection_with_config(&config).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_sentinels_say_comes_first() {
        let said = |host: &str| Ok(Some((host.to_owned(), 1)));
        let all = [said("a"), Ok(None), said("b"), said("b")];
        let hosts: Vec<(usize, &str)> =
            votes(&all).into_iter().map(|(count, (host, _))| (count, host.as_str())).collect();
        assert_eq!(hosts, [(2, "b"), (1, "a")]);
        assert_eq!(votes(&all[..3])[0].1.0, "a", "the first of those with as many");
    }
}
