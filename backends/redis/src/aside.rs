//! Keys of everybody, and reports, that hold something else than what is kept there.
//!
//! Without them no run of an app moves, or no leaf of a queue is reported, so nobody waits until a
//! person mends them: what stands there is moved to a name of its own, where a person finds it, and
//! all goes on with a new one. What was noted in such a key comes about again: indexes with the next
//! use, lists with the next run, and a leaf whose report was there runs again. So it is with a
//! stream whose ids have come to an end.

use crate::connection::Link;
use crate::keys::Keys;
use crate::scripts::ASIDE;

/// These keys, and what each holds.
fn shared(keys: &Keys) -> [(String, &'static str); 12] {
    let line = keys.submissions();
    [
        (line.stream, "stream"),
        (line.again, "list"),
        (line.apart, "list"),
        (keys.names(), "zset"),
        (keys.lanes(), "set"),
        (keys.report_index(), "zset"),
        (keys.timer_index(), "zset"),
        (keys.runs(), "zset"),
        (keys.ended(), "zset"),
        (keys.gone_index(), "set"),
        (keys.dead(), "stream"),
        (keys.intents(), "zset"),
    ]
}

impl Link {
    /// Moves those aside that hold something else, and reports among the keys that were used. What
    /// has come across one is worth to be tried again, also when there is none any more: then
    /// somebody else has just done so.
    pub(crate) async fn set_keys_aside(&self, used: &[Vec<u8>]) {
        self.set_aside_of(shared(&self.keys).into()).await;
        let reports = used.iter().filter_map(|key| std::str::from_utf8(key).ok());
        let reports: Vec<_> = reports.filter(|key| self.keys.reports_of(key).is_some()).collect();
        for stream in reports {
            // On a Cluster each queue is in a slot of its own.
            self.set_aside_of(vec![(stream.to_owned(), "stream")]).await;
        }
    }

    async fn set_aside_of(&self, keys: Vec<(String, &'static str)>) {
        let moved: Result<Vec<String>, _> = self
            .prepare("set_aside", &ASIDE, |script| {
                for (key, holds) in &keys {
                    script.key(key).arg(*holds);
                }
            })
            .send()
            .await;
        // Who may not do so has the error that he had.
        let moved = moved.unwrap_or_default();
        for pair in moved.chunks_exact(2) {
            tracing::error!(
                key = pair[0],
                now = pair[1],
                "a key held something else, or takes no more, and is moved aside"
            );
            self.broken.note(
                &pair[0],
                format_args!("it held something else, or took no more, and is moved to {}", pair[1]),
            );
        }
    }
}
