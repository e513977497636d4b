//! Dead letters in memory: only events get there, since all else is typed.

use async_trait::async_trait;
use celeriac_backends::{
    BackendError, DeadLetter, DeadLetters, Event, EventId, LetterFrom, LetterId, Requeued,
};

use crate::{Log, Memory, Sent, lock};

/// So many are kept; then the oldest go.
const LETTERS_MAX: usize = 1000;

/// An event that was set aside.
#[derive(Debug)]
pub(crate) struct Letter {
    id: LetterId,
    number: u64,
    deliveries: u32,
    reason: String,
    sent: Sent,
}

impl Letter {
    fn as_told(&self) -> DeadLetter {
        let (from, text) = match &self.sent.event {
            Event::Submitted(run) => (LetterFrom::Submissions, run.to_string()),
            Event::Completed(completion) => {
                let text = format!("{} attempt {}", completion.task_id, completion.attempt);
                // Which queue its leaf was of no event tells here.
                (LetterFrom::Reports("".into(), self.sent.is_bulk), text)
            }
        };
        DeadLetter {
            id: self.id,
            from: Some(from),
            entry: self.number.to_string(),
            deliveries: self.deliveries,
            reason: self.reason.clone(),
            bytes: text.len() as u64,
            is_whole: true,
            fields: vec![(b"event".to_vec(), text.into_bytes())],
        }
    }
}

impl Log {
    /// Takes an event out, held or waiting to come again, with how often it was delivered.
    fn remove(&mut self, number: u64) -> Option<(u32, Sent)> {
        if let Some((_, deliveries, sent)) = self.held.remove(&number) {
            return Some((deliveries, sent));
        }
        let place = self.apart.iter().position(|(waiting, ..)| *waiting == number)?;
        self.apart.remove(place).map(|(_, deliveries, sent)| (deliveries, sent))
    }

    fn letter(&self, id: LetterId) -> Option<usize> {
        self.dead.iter().position(|letter| letter.id == id)
    }
}

impl Memory {
    pub(crate) fn set_aside_now(&self, event: EventId, reason: &str) {
        let now_ms = self.0.clock.now_ms();
        let mut log = lock(&self.0.events);
        let number = event.entry.1;
        let Some((deliveries, sent)) = log.remove(number) else { return };
        let id = match log.dead.back().map(|letter| letter.id) {
            Some(LetterId(ms, sequence)) if ms >= now_ms => LetterId(ms, sequence + 1),
            _ => LetterId(now_ms, 0),
        };
        if log.dead.len() >= LETTERS_MAX {
            log.dead.pop_front();
        }
        log.dead.push_back(Letter { id, number, deliveries, reason: reason.to_owned(), sent });
    }

    pub(crate) fn hand_back_now(&self, events: &[EventId]) {
        let mut log = lock(&self.0.events);
        for event in events.iter().rev() {
            let number = event.entry.1;
            let Some((_, deliveries, sent)) = log.held.remove(&number) else { continue };
            match deliveries {
                0 | 1 if sent.is_bulk => log.bulk.push_front((number, sent)),
                0 | 1 => log.waiting.push_front((number, sent)),
                _ => log.apart.push_front((number, deliveries - 1, sent)),
            }
        }
        drop(log);
        self.0.events_came.notify_waiters();
    }
}

#[async_trait]
impl DeadLetters for Memory {
    async fn dead_letters(
        &self,
        after: Option<LetterId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BackendError> {
        let log = lock(&self.0.events);
        let newer = log.dead.iter().filter(|letter| after.is_none_or(|after| letter.id > after));
        Ok(newer.take(max).map(Letter::as_told).collect())
    }

    async fn requeue(&self, letter: LetterId) -> Result<Requeued, BackendError> {
        let mut log = lock(&self.0.events);
        let Some(letter) = log.letter(letter).and_then(|place| log.dead.remove(place)) else {
            return Ok(Requeued::Unknown);
        };
        log.next += 1;
        let number = log.next;
        let line = if letter.sent.is_bulk { &mut log.bulk } else { &mut log.waiting };
        line.push_back((number, letter.sent));
        drop(log);
        self.0.events_came.notify_waiters();
        Ok(Requeued::Yes)
    }

    async fn drop_letter(&self, letter: LetterId) -> Result<bool, BackendError> {
        let mut log = lock(&self.0.events);
        Ok(log.letter(letter).and_then(|place| log.dead.remove(place)).is_some())
    }
}
