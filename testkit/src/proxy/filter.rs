//! What is done to the bytes of a connection on their way: commands are counted, held back, and doubled; replies that
//! the client must not see are taken out.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::watch;

use super::replies::{Kind, Replies};
use super::requests::{Foreign, Requests, head};
use super::rules::{Passage, Rules, has_reply};

/// Moves bytes from one buffer to another, as far as they may go.
pub(super) trait Filter {
    fn pass(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Verdict;
}

/// Why a filter went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It needs more bytes.
    More,
    /// The rules have to change before more can pass.
    Wait,
    /// The last reply has come: what was moved may pass, and then nothing.
    Last,
    /// Nothing may pass any more.
    Dead,
}

/// What is to be done with the replies that are still to come, in order.
#[derive(Debug, Default)]
pub(super) struct Expected(Mutex<VecDeque<Fate>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Pass,
    /// It will not come from the server, which did not see the command: this is it.
    Answer(Bytes),
    /// It is the second reply to a command that was doubled.
    Drop,
    /// It is what the proxy goes dead at.
    Last,
}

impl Expected {
    fn push(&self, fate: Fate) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(fate);
    }

    /// What nobody asked for passes: messages of a subscription in RESP2.
    fn pop(&self) -> Fate {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fate::Pass)
    }

    /// The next reply, when the server has none.
    fn pop_answer(&self) -> Option<Bytes> {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Fate::Answer(reply)) = expected.front() else { return None };
        let reply = reply.clone();
        expected.pop_front();
        Some(reply)
    }

    /// Whether the last reply is among those still to come.
    pub(super) fn last(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&Fate::Last)
    }
}

/// From the client to the server.
#[derive(Debug)]
pub(super) struct Commands<'a> {
    pub(super) rules: &'a watch::Sender<Rules>,
    pub(super) expected: &'a Expected,
    /// The number of the connection.
    number: u64,
    requests: Requests,
    /// The command so far, when it is to be sent twice.
    copy: Option<BytesMut>,
    /// The command at hand is not sent.
    withheld: bool,
    /// What comes is not Redis, and passes as it is.
    foreign: bool,
}

impl<'a> Commands<'a> {
    pub(super) fn new(rules: &'a watch::Sender<Rules>, expected: &'a Expected, number: u64) -> Self {
        let requests = Requests::default();
        Self { rules, expected, number, requests, copy: None, withheld: false, foreign: false }
    }

    /// One head, or some of the arguments.
    fn step(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Verdict>, Foreign> {
        let length = if self.requests.at_start() {
            let Some(head) = head(input)? else { return Ok(Some(Verdict::More)) };
            match self.ask(&head.name) {
                Passage::Wait => return Ok(Some(Verdict::Wait)),
                Passage::Dead => return Ok(Some(Verdict::Dead)),
                Passage::Answer(reply) => {
                    self.expected.push(Fate::Answer(reply));
                    // The other direction has something to send, though nothing comes from the server.
                    self.rules.send_modify(|_| ());
                    self.withheld = true;
                }
                Passage::Pass { twice, last } => {
                    self.expect(&head.name, twice, last);
                    self.copy = twice.then(BytesMut::new);
                }
            }
            self.requests.enter(&head);
            head.length
        } else {
            let Some(length) = self.requests.more(input)? else { return Ok(Some(Verdict::More)) };
            length
        };
        if !self.withheld {
            output.extend_from_slice(&input[..length]);
        }
        self.withheld &= !self.requests.at_start();
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(&input[..length]);
            if self.requests.at_start() {
                output.extend_from_slice(copy);
                self.copy = None;
            }
        }
        input.advance(length);
        Ok(None)
    }

    fn ask(&self, name: &str) -> Passage {
        let mut passage = Passage::Wait;
        self.rules.send_if_modified(|rules| {
            let changed;
            (passage, changed) = rules.handle_command(self.number, name);
            changed
        });
        passage
    }

    fn expect(&self, name: &str, twice: bool, last: bool) {
        if !has_reply(name) {
            return;
        }
        self.expected.push(if last { Fate::Last } else { Fate::Pass });
        if twice {
            self.expected.push(Fate::Drop);
        }
    }
}

impl Filter for Commands<'_> {
    fn pass(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Verdict {
        loop {
            if self.foreign {
                output.unsplit(input.split());
                return Verdict::More;
            }
            match self.step(input, output) {
                Ok(None) => {}
                Ok(Some(verdict)) => return verdict,
                Err(Foreign) => self.foreign = true,
            }
        }
    }
}

/// From the server to the client.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    expected: &'a Expected,
    replies: Replies,
    /// The reply at hand is taken out.
    dropping: bool,
    foreign: bool,
}

impl<'a> Answers<'a> {
    pub(super) fn new(expected: &'a Expected) -> Self {
        Self { expected, replies: Replies::default(), dropping: false, foreign: false }
    }
}

impl Filter for Answers<'_> {
    fn pass(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Verdict {
        loop {
            if self.foreign {
                output.unsplit(input.split());
                return Verdict::More;
            }
            while self.replies.at_start()
                && let Some(reply) = self.expected.pop_answer()
            {
                output.extend_from_slice(&reply);
            }
            let part = match self.replies.next(input) {
                Ok(Some(part)) => part,
                Ok(None) => return Verdict::More,
                Err(Foreign) => {
                    self.foreign = true;
                    continue;
                }
            };
            match part.begins {
                None => {}
                Some(Kind::Push) => self.dropping = false,
                Some(Kind::Reply) => match self.expected.pop() {
                    Fate::Pass => self.dropping = false,
                    Fate::Drop => self.dropping = true,
                    Fate::Answer(_) => unreachable!("such are sent before a reply begins"),
                    Fate::Last => return Verdict::Last,
                },
            }
            if !self.dropping {
                output.extend_from_slice(&input[..part.length]);
            }
            input.advance(part.length);
        }
    }
}
