//! Looks into a server, past the backend.

use std::collections::BTreeMap;

use celeriac_testkit::Server;

/// What is queued, leased, or waits to be taken again, with how much; empty when nothing is.
pub(crate) fn lines(server: &Server, prefix: &str) -> BTreeMap<String, u64> {
    let mut connection = server.connection();
    let mut held = BTreeMap::new();
    for key in server.keys(&format!("{prefix}:*")) {
        let command = match key.rsplit(':').next() {
            Some("stream") => "XLEN",
            Some("again" | "apart") => "LLEN",
            _ => continue,
        };
        let length: u64 = redis::cmd(command).arg(&key).query(&mut connection).expect("it answers");
        if length > 0 {
            held.insert(key.clone(), length);
        }
        if key.ends_with(":stream") {
            // Without a group nothing is held.
            let pending = redis::cmd("XPENDING").arg(&key).arg("celeriac").query(&mut connection);
            type Pending = (u64, redis::Value, redis::Value, Option<Vec<(String, u64)>>);
            let (pending, _, _, owners): Pending = pending.unwrap_or_default();
            if pending > 0 {
                let owners: Vec<String> =
                    owners.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
                held.insert(format!("{key} (held by {})", owners.join(", ")), pending);
            }
        }
    }
    held
}

/// How many leaves were queued since the beginning, in any lane of the default queue.
pub(crate) fn queued_ever(server: &Server, prefix: &str) -> usize {
    let streams = server.keys(&format!("{prefix}:{{q:celery}}:*stream"));
    streams.iter().filter(|key| !key.contains(":done:")).map(|key| added_ever(server, key)).sum()
}

/// How many entries were added to a stream since the beginning.
pub(crate) fn added_ever(server: &Server, stream: &str) -> usize {
    let mut info = redis::cmd("XINFO");
    info.arg("STREAM").arg(stream);
    let info: BTreeMap<String, redis::Value> =
        info.query(&mut server.connection()).expect("the stream is there");
    redis::from_redis_value(info["entries-added"].clone()).expect("it is a number")
}
