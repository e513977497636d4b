//! Dead letters in Redis: one stream of all that nobody can read or handle.
//!
//! Who sets an entry aside copies it there, and then takes it out of its line, which on a Cluster is in
//! another slot. Should he die in between, it comes again, and is there twice. A dead letter has six fields
//! of ours, and after them those of the entry, as they were.

use async_trait::async_trait;
use celeriac_backends::{BackendError, DeadLetter, DeadLetters, LetterFrom, LetterId, Requeued};
use celeriac_primitives::TaskError;

use crate::RedisBackend;
use crate::error::corrupt;
use crate::keys::{Keys, Line, ReportsOf};
use crate::lines::{self, print_id};
use crate::scripts::{LETTER, PASS_ON, WRITE};

/// So many dead letters there are at most, and so many bytes they take together.
const LETTERS_MAX: usize = 1000;
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A larger entry is kept by its beginning, and so is one of more fields.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
const FIELDS_MAX: usize = 100;

/// So much of the first field and value of such an entry.
const BEGINNING: usize = 4096;

/// A reason is not longer.
const REASON_MAX: usize = 500;

/// Fields of ours.
const OURS: [&str; 6] = ["line", "entry", "deliveries", "reason", "bytes", "whole"];

/// Of an entry of a stream: fields and values, one after the other.
type Fields = Vec<Vec<u8>>;

#[async_trait]
impl DeadLetters for RedisBackend {
    async fn dead_letters(
        &self,
        after: Option<LetterId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BackendError> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.link().keys.dead());
        cmd.arg(after.map_or_else(|| "-".to_owned(), |LetterId(ms, sequence)| format!("({ms}-{sequence}")));
        cmd.arg("+").arg("COUNT").arg(max);
        let letters: Vec<(LetterId, Fields)> = self.read_letters("dead_letters", &cmd).await?;
        Ok(letters.into_iter().map(|(id, fields)| letter(&self.link().keys, id, fields)).collect())
    }

    async fn requeue(&self, id: LetterId) -> Result<Requeued, BackendError> {
        let link = self.link();
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(link.keys.dead()).arg(id.to_string()).arg(id.to_string());
        let there = self.read_letters("requeue", &cmd).await?;
        let Some((id, fields)) = there.into_iter().next() else { return Ok(Requeued::Unknown) };
        let letter = letter(&link.keys, id, fields);
        let Some(from) = letter.from.as_ref().filter(|_| letter.is_whole && !letter.fields.is_empty()) else {
            return Ok(Requeued::Cannot);
        };
        let line = match from {
            LetterFrom::Leaves(queue, lane) => {
                self.queues().note(link, "requeue", [(queue, *lane)], false).await?;
                link.keys.queue(queue, *lane)
            }
            LetterFrom::Reports(queue, is_bulk) => {
                link.keys.reports(&ReportsOf { is_bulk: *is_bulk, queue: queue.clone() })
            }
            LetterFrom::Submissions => link.keys.submissions(),
        };
        link.run::<()>("requeue", &WRITE, |script| {
            script.key(&line.stream).arg("XADD").arg("*");
            for (field, value) in &letter.fields {
                script.arg(&field[..]).arg(&value[..]);
            }
        })
        .await?;
        match from {
            LetterFrom::Leaves(..) => {
                link.run::<()>("requeue", &PASS_ON, |script| {
                    script.key(&line.stream);
                })
                .await?;
            }
            LetterFrom::Reports(..) => lines::note_reports(link, std::iter::once(&line)).await,
            LetterFrom::Submissions => {
                let mut publish = redis::cmd("PUBLISH");
                publish.arg(&line.channel).arg("");
                // Without a hint a poll finds it.
                let _: Result<(), _> = link.ask("requeue", &publish).await;
            }
        }
        self.drop_letter(id).await?;
        Ok(Requeued::Yes)
    }

    async fn drop_letter(&self, id: LetterId) -> Result<bool, BackendError> {
        let mut cmd = redis::cmd("XDEL");
        cmd.arg(self.link().keys.dead()).arg(id.to_string());
        Ok(self.link().ask::<usize>("drop_letter", &cmd).await? > 0)
    }
}

impl RedisBackend {
    /// Sets an entry aside: it is a dead letter from now on, and in its line no longer.
    pub(crate) async fn set_entry_aside(
        &self,
        line: &Line,
        entry: (u64, u64),
        deliveries: u32,
        reason: &str,
    ) -> Result<(), BackendError> {
        let link = self.link();
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(&line.stream).arg(print_id(entry)).arg(print_id(entry));
        let there: Vec<(String, Fields)> = link.ask("set_aside", &cmd).await?;
        if let Some((_, mut fields)) = there.into_iter().next() {
            let bytes: usize = fields.iter().map(Vec::len).sum();
            let is_whole = bytes <= ENTRY_BYTES_MAX && fields.len() <= 2 * FIELDS_MAX;
            if !is_whole {
                fields.truncate(2);
                fields.iter_mut().for_each(|part| part.truncate(BEGINNING));
            }
            let reason = TaskError::cut_of(reason, REASON_MAX);
            let whole = if is_whole { "1" } else { "0" };
            let ours =
                [&line.stream, &print_id(entry), &deliveries.to_string(), &reason, &bytes.to_string(), whole];
            tracing::error!(
                line = line.stream,
                entry = print_id(entry),
                deliveries,
                reason = &reason,
                "an entry is set aside: it is a dead letter now"
            );
            link.run::<()>("set_aside", &LETTER, |script| {
                script.key(link.keys.dead()).arg(LETTERS_MAX).arg(BYTES_MAX);
                for (name, value) in OURS.iter().zip(ours) {
                    script.arg(*name).arg(value);
                }
                fields.iter().for_each(|part| {
                    script.arg(&part[..]);
                });
            })
            .await?;
        }
        lines::acknowledge(link, line, &[entry]).await
    }

    /// Does so by itself, when that is all that is left to do with it.
    pub(crate) fn set_aside_beside(&self, line: Line, entry: (u64, u64), deliveries: u32, reason: String) {
        let backend = self.clone();
        // Not awaited: who drops what he waits for must not take what was taken with it along.
        tokio::spawn(async move {
            if let Err(error) = backend.set_entry_aside(&line, entry, deliveries, &reason).await {
                let id = print_id(entry);
                tracing::warn!(line = line.stream, id, %error, "an entry is not set aside; it comes again");
            }
        });
    }

    async fn read_letters(
        &self,
        operation: &'static str,
        cmd: &redis::Cmd,
    ) -> Result<Vec<(LetterId, Fields)>, BackendError> {
        let letters: Vec<(String, Fields)> = self.link().ask(operation, cmd).await?;
        let id = |text: &str| text.parse().map_err(|error: String| corrupt(operation, error));
        letters.into_iter().map(|(text, fields)| Ok((id(&text)?, fields))).collect()
    }
}

/// What stands in the stream. Somebody else may have written there: then that is shown, and is not ours.
fn letter(keys: &Keys, id: LetterId, mut fields: Fields) -> DeadLetter {
    let theirs = fields.split_off(fields.len().min(2 * OURS.len()));
    let is_ours = fields.len() == 2 * OURS.len()
        && OURS.iter().zip(fields.iter().step_by(2)).all(|(name, field)| name.as_bytes() == field);
    let text = |place: usize| String::from_utf8_lossy(&fields[2 * place + 1]).into_owned();
    let pairs = |parts: &[Vec<u8>]| {
        parts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>()
    };
    if !is_ours {
        let fields = pairs(&[fields, theirs].concat());
        return DeadLetter {
            id,
            from: None,
            entry: String::new(),
            deliveries: 0,
            reason: "it was not set aside by celeriac".to_owned(),
            bytes: fields.iter().map(|(field, value)| (field.len() + value.len()) as u64).sum(),
            is_whole: false,
            fields,
        };
    }
    DeadLetter {
        id,
        from: from(keys, &text(0)),
        entry: text(1),
        deliveries: text(2).parse().unwrap_or(0),
        reason: text(3),
        bytes: text(4).parse().unwrap_or(0),
        is_whole: text(5) == "1",
        fields: pairs(&theirs),
    }
}

fn from(keys: &Keys, stream: &str) -> Option<LetterFrom> {
    if stream == keys.submission_stream() {
        return Some(LetterFrom::Submissions);
    }
    if let Some((queue, lane)) = keys.place_of(stream) {
        return Some(LetterFrom::Leaves(queue, lane));
    }
    keys.reports_of(stream).map(|reports| LetterFrom::Reports(reports.queue, reports.is_bulk))
}
