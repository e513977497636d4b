//! What a program of a later version wrote is left to programs that can read it.
//!
//! Nobody else may read it here. So it is held for a moment, and then given back without being counted;
//! who takes it may be another program, sooner or later one that knows its format.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::RedisBackend;
use crate::keys::Line;
use crate::lines::{self, print_id};

/// So long it is held here, or a third of its lease when that is less: nobody renews it.
const HELD_FOR: Duration = Duration::from_secs(1);

/// That there is such a thing is said this often.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// When it was said last.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<Option<Instant>>);

impl Said {
    fn is_due(&self) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|said| said.elapsed() >= SAID_EVERY);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}

impl RedisBackend {
    /// Gives an entry back in a moment.
    pub(crate) fn leave_to_later(&self, line: Line, owner: Arc<str>, entry: (u64, u64), lease: Duration) {
        if self.0.said_later.is_due() {
            let id = print_id(entry);
            let line = line.stream.as_str();
            tracing::warn!(
                line,
                id,
                "an entry has the format of a later version; it is left to a program of that version"
            );
        }
        let (link, lines) = (self.link().clone(), [line]);
        let takes = link.takes.clone();
        takes.spawn(async move {
            tokio::time::sleep(HELD_FOR.min(lease / 3)).await;
            if let Err(error) = lines::hand_back(&link, "leave", &lines, &owner, &[(0, entry)]).await {
                tracing::debug!(%error, "an entry of a later format comes again when its lease passes");
            }
            lines::note_reports(&link, lines.iter()).await;
        });
    }
}
