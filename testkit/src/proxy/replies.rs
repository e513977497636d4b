//! Where replies begin and end in what a server sends, in RESP2 and RESP3.

use super::requests::{Foreign, line};

/// Longer than any line that Redis sends: errors of scripts are the longest.
const LINE_MAX: usize = 1024 * 1024;

/// Reads replies. Bytes may come in any pieces; nothing is kept but a position.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// For each list that is open, outer ones first: how many of its members have not ended.
    open: Vec<u64>,
    /// Bytes to the end of a string.
    skip: u64,
}

/// Some bytes of one reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) length: usize,
    /// Set on the first part of a reply.
    pub(super) begins: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reply,
    /// Something that nobody asked for, of RESP3.
    Push,
}

impl Replies {
    /// Whether the next byte is the first of a reply.
    pub(super) fn at_start(&self) -> bool {
        self.open.is_empty() && self.skip == 0
    }

    /// Goes on, at most to the end of the reply. None when more bytes are needed to tell.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Option<Part>, Foreign> {
        let begins = self.at_start().then_some(match input.first() {
            Some(b'>') => Kind::Push,
            _ => Kind::Reply,
        });
        let mut length = 0;
        while length < input.len() {
            let rest = &input[length..];
            if self.skip > 0 {
                let part = self.skip.min(rest.len() as u64);
                self.skip -= part;
                length += usize::try_from(part).expect("it is at most the length of a slice");
                if self.skip > 0 {
                    break;
                }
                self.value_ended();
            } else {
                let Some(line) = line(rest, LINE_MAX)? else { break };
                length += line.len();
                self.enter(line)?;
            }
            if self.skip == 0 && self.open.is_empty() {
                break;
            }
        }
        Ok((length > 0).then_some(Part { length, begins }))
    }

    fn enter(&mut self, line: &[u8]) -> Result<(), Foreign> {
        let members = match line[0] {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => 0,
            b'$' | b'=' | b'!' => {
                if let Ok(length) = u64::try_from(number(line)?) {
                    self.skip = length + 2;
                    return Ok(());
                }
                0
            }
            b'*' | b'~' | b'>' => u64::try_from(number(line)?).unwrap_or(0),
            b'%' => u64::try_from(number(line)?).unwrap_or(0) * 2,
            _ => return Err(Foreign),
        };
        if members > 0 {
            self.open.push(members);
        } else {
            self.value_ended();
        }
        Ok(())
    }

    fn value_ended(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
    }
}

/// The number of a line like `*5\r\n`; -1 stands for nothing.
fn number(line: &[u8]) -> Result<i64, Foreign> {
    let digits = line[1..].strip_suffix(b"\r\n").ok_or(Foreign)?;
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expect: &[Kind]) {
        for piece in [1, 2, 3, 7, text.len()] {
            let (mut replies, mut buffer, mut kinds) = (Replies::default(), Vec::new(), Vec::new());
            for bytes in text.chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Some(part) = replies.next(&buffer).unwrap() {
                    kinds.extend(part.begins);
                    buffer.drain(..part.length);
                }
            }
            assert_eq!(kinds, expect, "in pieces of {piece}");
            assert!(buffer.is_empty() && replies.open.is_empty(), "in pieces of {piece}");
        }
    }

    #[test]
    fn replies_are_told_apart_in_whatever_pieces_they_come() {
        use Kind::{Push, Reply};
        check(b"+OK\r\n-ERR no\r\n:1\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n", &[Reply; 7]);
        check(b"*2\r\n*1\r\n$3\r\n\r\n+\r\n*0\r\n_\r\n", &[Reply; 2]);
        check(b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n>2\r\n+a\r\n(12\r\n=5\r\ntxt:a\r\n", &[Reply, Push, Reply]);
    }

    #[test]
    fn what_is_not_redis_is_said_to_be_foreign() {
        assert_eq!(Replies::default().next(b"\x16\x03\n"), Err(Foreign));
        assert_eq!(Replies::default().next(b"$x\r\n"), Err(Foreign));
    }
}
