//! The raw keys of a Redis, as `backends/redis/src/keys.rs` describes them.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac::primitives::RunId;
use redis::{Connection, RedisResult};

use crate::place::Place;

/// One run at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    pub(crate) open: u32,
    pub(crate) owed: u32,
    pub(crate) left: u32,
    pub(crate) done: u32,
    pub(crate) version: u64,
    /// One letter per node: W R D P S F.
    pub(crate) states: Vec<u8>,
    /// The fields with a number: outcomes `o`, counters `c`, attempts `a`, closed scopes `x`.
    pub(crate) fields: BTreeMap<(char, u32), Vec<u8>>,
}

/// Looks at runs, wherever they are.
pub(crate) struct Eye {
    nodes: Vec<(String, Option<Connection>)>,
    /// Where the last one was.
    last: usize,
}

impl Eye {
    pub(crate) fn new(place: &Place) -> Self {
        Self { nodes: place.nodes().iter().map(|node| (node.url(), None)).collect(), last: 0 }
    }

    /// A run in one atomic look; `None` when there is no such run.
    ///
    /// # Errors
    /// When nobody answers who has it, as while it moves.
    pub(crate) fn dump(&mut self, run: RunId) -> RedisResult<Option<Dump>> {
        let (first, count) = (self.last, self.nodes.len());
        let mut answer = self.dump_at(first, run);
        for node in (1..count).map(|step| (first + step) % count) {
            if answer.is_ok() {
                break;
            }
            answer = self.dump_at(node, run);
            self.last = node;
        }
        answer
    }

    fn dump_at(&mut self, node: usize, run: RunId) -> RedisResult<Option<Dump>> {
        let (url, connection) = &mut self.nodes[node];
        let mut open = match connection.take() {
            Some(open) => open,
            None => connect(url)?,
        };
        let answer = dump(&mut open, run);
        // Who says that another node has it may be asked for others.
        if answer.as_ref().err().is_none_or(|error| error.code().is_some()) {
            *connection = Some(open);
        }
        answer
    }
}

/// A connection of its own.
///
/// # Errors
/// When Redis does not answer soon.
fn connect(url: &str) -> RedisResult<Connection> {
    let wait = Duration::from_secs(2);
    let connection = redis::Client::open(url)?.get_connection_with_timeout(wait)?;
    connection.set_read_timeout(Some(wait))?;
    Ok(connection)
}

fn dump(connection: &mut Connection, run: RunId) -> RedisResult<Option<Dump>> {
    let key = |what: &str| format!("celeriac:{{{run}}}:{what}");
    let (hash, states): (BTreeMap<Vec<u8>, Vec<u8>>, Vec<u8>) =
        redis::pipe().atomic().hgetall(key("run")).get(key("states")).query(connection)?;
    Ok(Dump::read(&hash, states))
}

impl Dump {
    fn read(hash: &BTreeMap<Vec<u8>, Vec<u8>>, states: Vec<u8>) -> Option<Self> {
        let meta = hash.get(&b"m"[..]).filter(|meta| meta.len() == 73 && meta[0] == 2)?;
        let number = |place: usize| {
            u32::from_be_bytes(meta[1 + 4 * place..5 + 4 * place].try_into().expect("four bytes"))
        };
        let field = |name: &[u8]| {
            let text = std::str::from_utf8(name).ok()?;
            let kind = text.chars().next()?;
            Some((kind, text[1..].parse().ok()?)).filter(|(kind, _)| "ocax".contains(*kind))
        };
        Some(Self {
            open: number(1),
            owed: number(2),
            left: number(3),
            done: number(5),
            version: u64::from_be_bytes(meta[41..49].try_into().expect("eight bytes")),
            states: hash.get(&b"s"[..]).cloned().unwrap_or(states),
            fields: hash.iter().filter_map(|(name, value)| Some((field(name)?, value.clone()))).collect(),
        })
    }

    /// A field that is a number; 0 when there is none.
    pub(crate) fn number(&self, kind: char, of: u32) -> u32 {
        let text = self.fields.get(&(kind, of)).and_then(|value| std::str::from_utf8(value).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// What waits or is held in streams: `<key> has …`, nothing when everything is done.
///
/// # Errors
/// When Redis does not answer.
pub(crate) fn duties(place: &Place) -> RedisResult<Vec<String>> {
    let mut duties = Vec::new();
    for node in place.masters() {
        duties.append(&mut duties_of(&mut node.connection())?);
    }
    Ok(duties)
}

fn duties_of(connection: &mut Connection) -> RedisResult<Vec<String>> {
    let mut duties = Vec::new();
    for key in all(connection)? {
        let count: usize = match key.rsplit(':').next() {
            Some("stream") => redis::cmd("XLEN").arg(&key).query(connection)?,
            Some("again" | "apart") => redis::cmd("LLEN").arg(&key).query(connection)?,
            _ => 0,
        };
        if count > 0 {
            duties.push(format!("{key} has {count} entries"));
        }
        if key.ends_with(":stream") {
            let (_, held) = consumers(connection, &key)?;
            if held > 0 {
                duties.push(format!("{key} has {held} pending entries"));
            }
        }
    }
    Ok(duties)
}

/// How many consumers a stream has, and how many entries they hold.
///
/// # Errors
/// When Redis does not answer.
pub(crate) fn consumers(connection: &mut Connection, stream: &str) -> RedisResult<(usize, usize)> {
    let groups: Vec<BTreeMap<String, redis::Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg(stream).query(connection)?;
    let sum = |name: &str| -> RedisResult<usize> {
        let mut sum = 0;
        for group in &groups {
            sum += group.get(name).map_or(Ok(0), redis::from_redis_value_ref::<usize>)?;
        }
        Ok(sum)
    };
    Ok((sum("consumers")?, sum("pending")?))
}

/// How many members a sorted set has.
pub(crate) fn size(connection: &mut Connection, key: &str) -> usize {
    redis::cmd("ZCARD").arg(key).query(connection).unwrap_or(0)
}

/// Whether a key goes away by itself, or has done so.
pub(crate) fn expires(connection: &mut Connection, key: &str) -> bool {
    redis::cmd("TTL").arg(key).query(connection).is_ok_and(|seconds: i64| seconds != -1)
}

/// All keys, in order.
///
/// # Errors
/// When Redis does not answer.
pub(crate) fn all(connection: &mut Connection) -> RedisResult<Vec<String>> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(connection)?;
    keys.sort();
    Ok(keys)
}
