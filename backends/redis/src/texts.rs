//! Texts that are kept apart: large values and arguments, in pieces.
//!
//! Each is a hash of its pieces, so that no command and no reply is large, whatever the value. A text that is
//! being written expires; its last piece lets it stay, and notes its name at the run, which owns it.
//! Arguments of a canvas share one hash, which is staged with the plan ([`crate::submit`]).
//!
//! Few pieces are on their way at the same time, of all texts together: so other commands pass between them,
//! also on a slow link.

use std::sync::Arc;

use celeriac_backends::BackendError;
use celeriac_primitives::{Stored, TaskId};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::RedisBackend;
use crate::by_itself::by_itself;
use crate::error::corrupt;
use crate::keys::write_incarnation;
use crate::scripts::{DISCARD, KEEP};

/// A piece of a text is not larger.
pub(crate) const PIECE_BYTES: usize = 512 * 1024;

/// So many pieces are on their way at the same time: enough to fill a link, and few enough to pass in a
/// moment.
pub(crate) const PIECES_AT_ONCE: usize = 2;

/// Longer texts are kept apart when nothing else is said.
pub(crate) const INLINE_BYTES_MAX: usize = 32 * 1024;

/// What was written of a text is dropped when its writer has not come to the end within this time.
pub(crate) const STAGED_SECONDS: i64 = 60 * 60;

/// How pieces take turns.
#[derive(Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PIECES_AT_ONCE)))
    }
}

impl Turns {
    /// Waits for a turn, and does it.
    pub(crate) async fn take<T: Send + 'static>(&self, piece: impl Future<Output = T> + Send + 'static) -> T {
        let turns = self.0.clone();
        by_itself(async move {
            let turn = turns.acquire().await.expect("it is never closed");
            let done = piece.await;
            drop(turn);
            done
        })
        .await
    }
}

/// Room for so much is made before anything is read.
const RESERVED_MAX: usize = 64 * PIECE_BYTES;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// There is no such run.
    NoRun,
    /// It is written.
    Yes,
    /// Those before it are gone: it took too long.
    Incomplete,
}

/// The field of a piece in the hash of a run's literals.
pub(crate) fn literal_field(name: uuid::Uuid, piece: usize) -> String {
    format!("{}:{piece}", name.simple())
}

fn pieces_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(PIECE_BYTES).max(1)
}

impl RedisBackend {
    pub(crate) async fn keep_text(&self, value: &Stored, text: &str) -> Result<bool, BackendError> {
        let pieces: Vec<&[u8]> = match text.as_bytes() {
            [] => vec![&[]],
            bytes => bytes.chunks(PIECE_BYTES).collect(),
        };
        let last = pieces.len() - 1;
        loop {
            let written =
                stream::iter(0..last).map(|place| self.keep_piece(value, place, pieces[place], None));
            let mut written = std::pin::pin!(written.buffer_unordered(PIECES_AT_ONCE));
            while let Some(kept) = written.try_next().await? {
                if kept == Kept::NoRun {
                    return Ok(false);
                }
            }
            match self.keep_piece(value, last, pieces[last], Some(pieces.len())).await? {
                Kept::NoRun => return Ok(false),
                Kept::Yes => return Ok(true),
                Kept::Incomplete => {}
            }
        }
    }

    /// Writes a piece; the last one says how many there are.
    async fn keep_piece(
        &self,
        value: &Stored,
        place: usize,
        piece: &[u8],
        count: Option<usize>,
    ) -> Result<Kept, BackendError> {
        let (link, keys) = (self.link(), self.link().keys.run(value.run.id));
        let written = link.prepare("keep", &KEEP, |script| {
            script.key(keys.hash()).key(link.keys.text(value)).key(keys.texts());
            script.arg(value.name.simple().to_string()).arg(place).arg(piece);
            script.arg(count.unwrap_or(0)).arg(STAGED_SECONDS);
            script.arg(&write_incarnation(value.run.incarnation)[..]);
        });
        Ok(match self.0.turns.take(written.send::<u8>()).await? {
            0 => Kept::NoRun,
            1 => Kept::Yes,
            _ => Kept::Incomplete,
        })
    }

    pub(crate) async fn fetch_text(&self, value: &Stored, out: &mut Vec<u8>) -> Result<bool, BackendError> {
        let start = out.len();
        let count = pieces_of(value.bytes);
        let key = self.link().keys.text(value);
        let field = |place| {
            if value.of_plan { literal_field(value.name, place) } else { place.to_string() }
        };
        let pieces = stream::iter(0..count).map(|place| {
            let (link, mut cmd) = (self.link().clone(), redis::cmd("HGET"));
            cmd.arg(&key).arg(field(place));
            self.0.turns.take(async move { link.ask::<Option<Vec<u8>>>("fetch", &cmd).await })
        });
        let mut pieces = std::pin::pin!(pieces.buffered(PIECES_AT_ONCE));
        // However long it is said to be: what is not there takes no room.
        out.reserve_exact(usize::try_from(value.bytes).unwrap_or(0).min(RESERVED_MAX));
        while let Some(piece) = pieces.next().await {
            let piece = piece.inspect_err(|_| out.truncate(start))?;
            let Some(piece) = piece else {
                out.truncate(start);
                return Ok(false);
            };
            out.extend_from_slice(&piece);
        }
        let bytes = (out.len() - start) as u64;
        if bytes != value.bytes {
            out.truncate(start);
            return Err(corrupt(
                "fetch",
                format!("{} bytes instead of {} of {}", bytes, value.bytes, value.name),
            ));
        }
        Ok(true)
    }

    pub(crate) async fn discard_text(&self, leaf: TaskId, value: &Stored) -> Result<(), BackendError> {
        if value.of_plan {
            return Ok(());
        }
        let (link, keys) = (self.link(), self.link().keys.run(value.run.id));
        link.run::<()>("discard", &DISCARD, |script| {
            script.key(keys.hash()).key(link.keys.text(value)).key(keys.texts());
            script.arg(format!("o{}", leaf.node())).arg(&value.name.as_bytes()[..]);
            script.arg(value.name.simple().to_string());
        })
        .await
    }
}
