//! Whether Redis has room for new runs.
//!
//! What is accepted must reach its end, and that takes memory: reports, results, leaves that are queued. So
//! the last part of `maxmemory` is left to the runs that are there: new ones are refused before, and the
//! scripts that bring runs to their end may pass `maxmemory` (`allow-oom`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_backends::{BackendError, ErrorKind};
use redis::Value;
use tokio::time::{Instant, timeout};

use crate::connection::Link;

/// How much of `maxmemory` is left to the runs that are there, in percent, when nothing else is said.
pub(crate) const HEADROOM_PERCENT: u8 = 10;

/// Redis is asked no more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// And is not waited for any longer.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Whether there is room, as it was lately.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Mutex<State>>, u8);

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    /// Of the server that is fullest, when it is too full.
    full: Option<Memory>,
}

/// The memory of one server, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    used: u64,
    max: u64,
}

impl Room {
    pub(crate) fn new(headroom_percent: u8) -> Self {
        Self(Arc::default(), headroom_percent.min(100))
    }

    /// Refuses when there is none.
    pub(crate) async fn check(&self, link: &Link) -> Result<(), BackendError> {
        self.look(link).await;
        self.full().map_or(Ok(()), |memory| Err(self.refusal(memory)))
    }

    /// What to say when Redis itself has refused: it became full since the last look.
    pub(crate) async fn explain(&self, link: &Link, error: BackendError) -> BackendError {
        if error.kind != ErrorKind::Full {
            return error;
        }
        self.state().looked = None;
        self.look(link).await;
        self.full().map_or(error, |memory| self.refusal(memory))
    }

    /// Why new runs are refused, when they are.
    pub(crate) fn strain(&self) -> Option<String> {
        self.full().map(|memory| format!("new runs are refused, the store is full: {}", self.figures(memory)))
    }

    fn refusal(&self, memory: Memory) -> BackendError {
        BackendError::new(ErrorKind::Full, "submit").context(self.figures(memory))
    }

    fn figures(&self, memory: Memory) -> String {
        format!(
            "Redis uses {} of its maxmemory of {}, and the last {} % are left to the runs that are there: wait until some have \
             ended, forget some, or raise maxmemory",
            megabytes(memory.used),
            megabytes(memory.max),
            self.1
        )
    }

    /// Looks, when nobody has done so lately. What cannot be seen is taken as it was.
    pub(crate) async fn look(&self, link: &Link) {
        {
            let mut state = self.state();
            if state.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
                return;
            }
            state.looked = Some(Instant::now());
        }
        // On a Cluster all masters are asked, and one may be away.
        let mut info = redis::cmd("INFO");
        let asked = link.ask::<Value>("submit", info.arg("memory"));
        let Ok(Ok(info)) = timeout(LOOK_WITHIN, asked).await else { return };
        let mut servers = Vec::new();
        collect(&info, &mut servers);
        let full = servers.into_iter().filter(|memory| memory.is_full(self.1));
        let full = full.max_by_key(|memory| u128::from(memory.used) * 1000 / u128::from(memory.max));
        let before = std::mem::replace(&mut self.state().full, full);
        match (before, full) {
            (None, Some(Memory { used, max })) => tracing::warn!(
                used = megabytes(used),
                maxmemory = megabytes(max),
                "Redis has no room for new runs; those that are there go on"
            ),
            (Some(_), None) => tracing::info!("Redis has room for new runs again"),
            _ => {}
        }
    }

    fn full(&self) -> Option<Memory> {
        self.state().full
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn read(info: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line?.trim().parse::<u64>().ok()
        };
        // Redis does not count its buffers for replicas and files against maxmemory.
        let buffers = field("mem_not_counted_for_evict").unwrap_or(0);
        Some(Self { used: field("used_memory")?.saturating_sub(buffers), max: field("maxmemory")? })
    }

    fn is_full(self, headroom_percent: u8) -> bool {
        let left = 100 - u128::from(headroom_percent);
        self.max > 0 && u128::from(self.used) * 100 > u128::from(self.max) * left
    }
}

/// One server answers with a text, a Cluster with one for each master.
fn collect(info: &Value, servers: &mut Vec<Memory>) {
    match info {
        Value::BulkString(text) => servers.extend(Memory::read(&String::from_utf8_lossy(text))),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => servers.extend(Memory::read(text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, servers)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, info)| collect(info, servers)),
        _ => {}
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_full_before_its_memory_is() {
        let memory = |used, max| Memory { used, max };
        assert!(!memory(90, 100).is_full(10) && memory(91, 100).is_full(10));
        assert!(!memory(100, 100).is_full(0) && memory(101, 100).is_full(0) && memory(1, 100).is_full(100));
        assert!(!memory(u64::MAX, 0).is_full(10), "no maxmemory, no limit");
    }

    #[test]
    fn what_redis_does_not_count_is_not_counted() {
        let info = "# Memory\r\nused_memory:1500\r\nmaxmemory:1000\r\nmem_not_counted_for_evict:700\r\n";
        let all = Value::Map(vec![
            (Value::SimpleString("a:1".into()), Value::BulkString(info.into())),
            (Value::SimpleString("b:1".into()), Value::BulkString("nothing".into())),
        ]);
        let mut servers = Vec::new();
        collect(&all, &mut servers);
        assert_eq!(servers, [Memory { used: 800, max: 1000 }]);
        assert_eq!(megabytes(12_345_678), "12.3 MB");
    }
}
