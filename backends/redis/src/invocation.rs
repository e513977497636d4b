//! A script, and a call of it.
//!
//! It is called by its digest. A server that does not know it gets its text, which goes where
//! its keys are: on a Cluster that is one shard, whatever has become of the others.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};

/// A script: its text, and its digest.
#[derive(Debug)]
pub(crate) struct Script {
    text: String,
    digest: String,
}

impl Script {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// By which Redis knows it.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

/// What a script is called with.
pub(crate) struct Invocation {
    script: &'static Script,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

impl Invocation {
    pub(crate) fn new(script: &'static Script) -> Self {
        Self { script, keys: Vec::new(), args: Vec::new() }
    }

    /// The keys that were given.
    pub(crate) fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// Adds keys: the next of `KEYS`.
    pub(crate) fn key(&mut self, key: impl ToRedisArgs) -> &mut Self {
        key.write_redis_args(&mut self.keys);
        self
    }

    /// Adds arguments: the next of `ARGV`.
    pub(crate) fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    pub(crate) async fn send<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
    ) -> RedisResult<T> {
        match self.command("EVALSHA", &self.script.digest).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", &self.script.text).query_async(connection).await
            }
            reply => reply,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = self.keys.iter().chain(&self.args);
        let bytes = parts.map(Vec::len).sum::<usize>() + name.len() + script.len() + 8;
        let mut cmd = Cmd::with_capacity(3 + self.keys.len() + self.args.len(), bytes);
        cmd.arg(name).arg(script).arg(self.keys.len()).arg(&*self.keys).arg(&*self.args);
        cmd
    }
}
