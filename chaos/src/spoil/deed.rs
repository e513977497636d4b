//! What is done to a key.

use std::fmt;

use celeriac_conformance::random::Rng;
use redis::{Cmd, Connection, RedisResult, cmd};

use super::forge::Forged;
use super::mangle::{Mangle, noise};

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    List,
    Set,
    Hash,
    Zset,
    Stream,
    /// It is no key.
    Channel,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Delete,
    /// It goes away in a moment.
    Expire,
    /// Another type stands there.
    Retype(Type),
    /// One of its values is another: the string, a value of a field, an item, a member, a value of an entry.
    Change(Mangle),
    /// A field, item, member or entry is not there any more.
    Remove,
    /// One that is nobody's is there.
    Add(Mangle),
    /// So are 5,000.
    Flood,
    /// A field, item or entry is there once more, under another name.
    Double,
    /// A member counts as another moment.
    Score(&'static str),
    /// An entry that looks as one should.
    Forge(Forged),
    /// An entry of many fields, or of names that are no texts.
    Fields(u32),
    LoseGroup,
    OtherGroup,
    /// The group goes on elsewhere: from the start, or from the end.
    SetGroup(&'static str),
    /// The next ids are far from here.
    LastId,
    LoseConsumer,
    /// Entries are held by somebody who does not exist.
    HeldByNobody,
    /// They were delivered as often as can be.
    ManyDeliveries,
    /// They are nobody's, and there.
    Acknowledged,
    Trim,
    Publish(Mangle),
}

/// What can be done to a key that holds this.
pub(crate) fn deeds(holds: Type) -> Vec<Deed> {
    use Type::{Channel, Hash, List, Set, Stream, String, Zset};
    if holds == Channel {
        return Mangle::ALL.map(Deed::Publish).to_vec();
    }
    let mut deeds = vec![Deed::Delete, Deed::Expire];
    let types = [String, List, Set, Hash, Zset, Stream];
    deeds.extend(types.into_iter().filter(|other| *other != holds).map(Deed::Retype));
    deeds.extend(Mangle::ALL.map(Deed::Change));
    if holds == String {
        return deeds;
    }
    deeds.extend([Deed::Remove, Deed::Flood, Deed::Double]);
    deeds.extend(Mangle::ALL.map(Deed::Add));
    if holds == Zset {
        deeds.extend(["inf", "-inf", "-1", "1e300", "0.5", "9007199254740993"].map(Deed::Score));
    }
    if holds == Stream {
        deeds.extend(Forged::ALL.map(Deed::Forge));
        deeds.extend([1, 7, 5000].map(Deed::Fields));
        deeds.extend(["0", "$"].map(Deed::SetGroup));
        deeds.extend([
            Deed::LoseGroup,
            Deed::OtherGroup,
            Deed::LastId,
            Deed::LoseConsumer,
            Deed::HeldByNobody,
            Deed::ManyDeliveries,
            Deed::Acknowledged,
            Deed::Trim,
        ]);
    }
    deeds
}

impl Deed {
    /// Whether it may take an entry or its owner away, of which nothing is left to be read.
    pub(crate) fn loses(self) -> bool {
        matches!(
            self,
            Self::Delete
                | Self::Expire
                | Self::Retype(_)
                | Self::Remove
                | Self::Change(_)
                | Self::Score(_)
                | Self::LoseGroup
                | Self::SetGroup(_)
                | Self::LastId
                | Self::LoseConsumer
                | Self::Acknowledged
                | Self::Trim
        )
    }

    /// Whether an entry may be left there for a program of a later version.
    pub(crate) fn is_of_tomorrow(self) -> bool {
        use Mangle::Tomorrow;
        matches!(self, Self::Change(Tomorrow) | Self::Add(Tomorrow) | Self::Forge(Forged::Tomorrow))
    }

    /// Whether what stands there afterwards may be right, and say something else.
    pub(crate) fn alters(self) -> bool {
        matches!(
            self,
            Self::Change(_) | Self::Forge(_) | Self::Double | Self::Add(_) | Self::Score(_) | Self::Remove
        )
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The name of the one group that reads a stream, and of ours that read none.
const GROUP: &str = "celeriac";

/// Where a deed is done.
pub(crate) struct At<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) key: &'a str,
    pub(crate) holds: Type,
    pub(crate) rng: &'a mut Rng,
    /// The head of a leaf of the run that it befalls.
    pub(crate) head: &'a [u8; 28],
}

impl At<'_> {
    fn run<T: redis::FromRedisValue>(&mut self, cmd: &Cmd) -> RedisResult<T> {
        cmd.query(self.connection)
    }

    /// Does it.
    ///
    /// # Errors
    /// When Redis refuses it: most of all since the key does not hold what it should.
    pub(crate) fn apply(&mut self, deed: Deed) -> RedisResult<()> {
        let key = self.key;
        match deed {
            Deed::Delete => self.run(cmd("DEL").arg(key)),
            Deed::Expire => {
                let ms = self.rng.below(400);
                self.run(cmd("PEXPIRE").arg(key).arg(1 + ms))
            }
            Deed::Retype(other) => {
                self.run::<()>(cmd("DEL").arg(key))?;
                let value = noise(1 + self.rng.below(30) as usize, self.rng);
                put(other, key, &value, self.rng).query(self.connection)
            }
            Deed::Change(mangle) => self.change(mangle),
            Deed::Remove => self.remove(),
            Deed::Add(mangle) => {
                let value = mangle.of(b"what is nobody's", self.rng);
                put(self.holds, key, &value, self.rng).query(self.connection)
            }
            Deed::Flood => {
                let mut pipe = redis::pipe();
                for _ in 0..5000 {
                    let value = noise(20, self.rng);
                    pipe.add_command(put(self.holds, key, &value, self.rng)).ignore();
                }
                pipe.query(self.connection)
            }
            Deed::Double => self.double(),
            Deed::Score(score) => {
                let members: Vec<Vec<u8>> = self.run(cmd("ZRANGE").arg(key).arg(0).arg(-1))?;
                let member = self.one(members).unwrap_or_else(|| b"nobody".to_vec());
                self.run(cmd("ZADD").arg(key).arg(score).arg(member))
            }
            Deed::Forge(forged) => {
                let (field, value) = forged.entry(key, self.head, self.rng);
                self.run(cmd("XADD").arg(key).arg("*").arg(field).arg(value))
            }
            Deed::Fields(count) => {
                let mut add = cmd("XADD");
                add.arg(key).arg("*");
                for number in 0..count {
                    add.arg([&b"\xff\xfe"[..], &number.to_be_bytes()].concat()).arg(noise(9, self.rng));
                }
                self.run(&add)
            }
            Deed::LoseGroup => self.run(cmd("XGROUP").arg("DESTROY").arg(key).arg(GROUP)),
            Deed::OtherGroup => {
                self.run(cmd("XGROUP").arg("CREATE").arg(key).arg("other").arg("0").arg("MKSTREAM"))
            }
            Deed::SetGroup(id) => self.run(cmd("XGROUP").arg("SETID").arg(key).arg(GROUP).arg(id)),
            Deed::LastId => self.run(cmd("XSETID").arg(key).arg("18446744073709551615-18446744073709551614")),
            Deed::LoseConsumer => {
                for consumer in self.consumers()? {
                    self.run::<()>(cmd("XGROUP").arg("DELCONSUMER").arg(key).arg(GROUP).arg(consumer))?;
                }
                Ok(())
            }
            Deed::HeldByNobody => self.claim(&[]),
            Deed::ManyDeliveries => self.claim(&["RETRYCOUNT", "9223372036854775807"]),
            Deed::Acknowledged => {
                for id in self.ids()? {
                    self.run::<()>(cmd("XACK").arg(key).arg(GROUP).arg(id))?;
                }
                Ok(())
            }
            Deed::Trim => self.run(cmd("XTRIM").arg(key).arg("MAXLEN").arg(0)),
            Deed::Publish(mangle) => {
                let message = mangle.of(b"what is said", self.rng);
                self.run(cmd("PUBLISH").arg(key).arg(message))
            }
        }
    }

    /// Entries are somebody's who does nothing with them.
    fn claim(&mut self, more: &[&str]) -> RedisResult<()> {
        let mut claim = cmd("XCLAIM");
        claim.arg(self.key).arg(GROUP).arg(noise(8, self.rng)).arg(0);
        let ids = self.ids()?;
        if ids.is_empty() {
            return Ok(());
        }
        self.run(claim.arg(ids).arg(more).arg("FORCE").arg("JUSTID"))
    }

    fn consumers(&mut self) -> RedisResult<Vec<Vec<u8>>> {
        let all: Vec<Vec<redis::Value>> = self.run(cmd("XINFO").arg("CONSUMERS").arg(self.key).arg(GROUP))?;
        all.into_iter().map(|about| Ok(redis::from_redis_value(about[1].clone())?)).collect()
    }

    fn ids(&mut self) -> RedisResult<Vec<String>> {
        let entries: Vec<(String, Vec<Vec<u8>>)> =
            self.run(cmd("XRANGE").arg(self.key).arg("-").arg("+").arg("COUNT").arg(50))?;
        Ok(entries.into_iter().map(|(id, _)| id).collect())
    }

    fn one<T>(&mut self, mut of: Vec<T>) -> Option<T> {
        (!of.is_empty()).then(|| of.swap_remove(self.rng.below(of.len() as u32) as usize))
    }

    /// Another value for one of those that are there; one that is nobody's where there is none.
    fn change(&mut self, mangle: Mangle) -> RedisResult<()> {
        let key = self.key;
        match self.holds {
            Type::String | Type::Channel => {
                let value: Option<Vec<u8>> = self.run(cmd("GET").arg(key))?;
                let value = mangle.of(&value.unwrap_or_default(), self.rng);
                self.run(cmd("SET").arg(key).arg(value))
            }
            Type::Hash => {
                let all: Vec<(Vec<u8>, Vec<u8>)> = self.run(cmd("HGETALL").arg(key))?;
                let (field, value) = self.one(all).unwrap_or_else(|| (b"m".to_vec(), Vec::new()));
                let value = mangle.of(&value, self.rng);
                self.run(cmd("HSET").arg(key).arg(field).arg(value))
            }
            Type::List => {
                let all: Vec<Vec<u8>> = self.run(cmd("LRANGE").arg(key).arg(0).arg(-1))?;
                let Some(value) = self.one(all) else { return self.apply(Deed::Add(mangle)) };
                let value = mangle.of(&value, self.rng);
                self.run(cmd("LSET").arg(key).arg(0).arg(value))
            }
            Type::Set => {
                let all: Vec<Vec<u8>> = self.run(cmd("SMEMBERS").arg(key))?;
                let Some(member) = self.one(all) else { return self.apply(Deed::Add(mangle)) };
                let other = mangle.of(&member, self.rng);
                self.run::<()>(cmd("SREM").arg(key).arg(member))?;
                self.run(cmd("SADD").arg(key).arg(other))
            }
            Type::Zset => {
                let all: Vec<(Vec<u8>, String)> =
                    self.run(cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"))?;
                let Some((member, score)) = self.one(all) else { return self.apply(Deed::Add(mangle)) };
                let other = mangle.of(&member, self.rng);
                self.run::<()>(cmd("ZREM").arg(key).arg(member))?;
                self.run(cmd("ZADD").arg(key).arg(score).arg(other))
            }
            Type::Stream => {
                let all: Vec<(String, Vec<Vec<u8>>)> = self.run(cmd("XRANGE").arg(key).arg("-").arg("+"))?;
                let Some((id, mut parts)) = self.one(all) else { return self.apply(Deed::Add(mangle)) };
                // More often the value than the field.
                let place = usize::from(self.rng.percent(80));
                parts[place] = mangle.of(&parts[place], self.rng);
                let mut pipe = redis::pipe();
                pipe.atomic().cmd("XADD").arg(key).arg("*").arg(parts).ignore();
                pipe.cmd("XDEL").arg(key).arg(id).ignore();
                pipe.query(self.connection)
            }
        }
    }

    fn remove(&mut self) -> RedisResult<()> {
        let key = self.key;
        match self.holds {
            Type::String | Type::Channel => Ok(()),
            Type::Hash => {
                let all: Vec<Vec<u8>> = self.run(cmd("HKEYS").arg(key))?;
                match self.one(all) {
                    Some(field) => self.run(cmd("HDEL").arg(key).arg(field)),
                    None => Ok(()),
                }
            }
            Type::List => self.run(cmd("LPOP").arg(key)),
            Type::Set => self.run(cmd("SPOP").arg(key)),
            Type::Zset => self.run(cmd("ZPOPMIN").arg(key)),
            Type::Stream => {
                let ids = self.ids()?;
                match self.one(ids) {
                    Some(id) => self.run(cmd("XDEL").arg(key).arg(id)),
                    None => Ok(()),
                }
            }
        }
    }

    fn double(&mut self) -> RedisResult<()> {
        let key = self.key;
        match self.holds {
            Type::String | Type::Channel | Type::Set => Ok(()),
            Type::Hash => {
                let all: Vec<(Vec<u8>, Vec<u8>)> = self.run(cmd("HGETALL").arg(key))?;
                let Some((mut field, value)) = self.one(all) else { return Ok(()) };
                field.push(b'7');
                self.run(cmd("HSET").arg(key).arg(field).arg(value))
            }
            Type::List => {
                let all: Vec<Vec<u8>> = self.run(cmd("LRANGE").arg(key).arg(0).arg(-1))?;
                let Some(item) = self.one(all) else { return Ok(()) };
                self.run(cmd("RPUSH").arg(key).arg(&item).arg(&item))
            }
            Type::Zset => {
                let all: Vec<(Vec<u8>, String)> =
                    self.run(cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"))?;
                let Some((mut member, score)) = self.one(all) else { return Ok(()) };
                member.push(b'7');
                self.run(cmd("ZADD").arg(key).arg(score).arg(member))
            }
            Type::Stream => {
                let all: Vec<(String, Vec<Vec<u8>>)> = self.run(cmd("XRANGE").arg(key).arg("-").arg("+"))?;
                for (_, parts) in all.iter().take(50) {
                    self.run::<()>(cmd("XADD").arg(key).arg("*").arg(parts))?;
                }
                Ok(())
            }
        }
    }
}

/// Puts a value into a key of this type, besides what is there.
fn put(into: Type, key: &str, value: &[u8], rng: &mut Rng) -> Cmd {
    let mut put = match into {
        Type::String => cmd("SET"),
        Type::List => cmd(if rng.percent(50) { "RPUSH" } else { "LPUSH" }),
        Type::Set => cmd("SADD"),
        Type::Hash => cmd("HSET"),
        Type::Zset => cmd("ZADD"),
        Type::Stream => cmd("XADD"),
        Type::Channel => cmd("PUBLISH"),
    };
    put.arg(key);
    match into {
        Type::Hash => drop(put.arg(noise(rng.below(5) as usize, rng))),
        Type::Zset => drop(put.arg(rng.next_u64() >> rng.below(64))),
        Type::Stream => {
            let field = if rng.percent(80) {
                [&b"m"[..], b"c", b"s"][rng.below(3) as usize].to_vec()
            } else {
                noise(3, rng)
            };
            put.arg("*").arg(field);
        }
        _ => {}
    }
    put.arg(value);
    put
}
