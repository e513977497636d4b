//! Where commands begin and end in what a client sends.

/// The longest inline command, and the longest name: what is longer is not Redis.
const LINE_MAX: usize = 64 * 1024;
const NAME_MAX: usize = 256;

/// Reads requests: arrays of bulk strings, and inline commands, which are lines. Bytes may come in any pieces; nothing
/// is kept but a position.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Arguments of the command that have not begun.
    arguments: u64,
    /// Bytes to the end of the argument.
    skip: u64,
}

/// How a command begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// In upper case; empty for an empty request, which gets no reply.
    pub(super) name: String,
    /// How long it is, up to and with the name.
    pub(super) length: usize,
    /// How many arguments follow.
    pub(super) arguments: u64,
}

/// Not a request of Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign;

impl Requests {
    /// Whether the next byte is the first of a command.
    pub(super) fn at_start(&self) -> bool {
        self.arguments == 0 && self.skip == 0
    }

    /// Goes over the head of a command.
    pub(super) fn enter(&mut self, head: &Head) {
        self.arguments = head.arguments;
    }

    /// Goes over more of the arguments; how many bytes that were. None when more are needed to tell.
    pub(super) fn more(&mut self, input: &[u8]) -> Result<Option<usize>, Foreign> {
        let mut length = 0;
        while !self.at_start() {
            let rest = &input[length..];
            if self.skip > 0 {
                let part = self.skip.min(rest.len() as u64);
                self.skip -= part;
                length += usize::try_from(part).expect("it is at most the length of a slice");
                if self.skip > 0 {
                    break;
                }
            } else {
                let Some(line) = line(rest, NAME_MAX)? else { break };
                self.skip = number(line, b'$')? + 2;
                self.arguments -= 1;
                length += line.len();
            }
        }
        Ok((length > 0).then_some(length))
    }
}

/// The head of the command that begins here; none when it is not there in full.
pub(super) fn head(input: &[u8]) -> Result<Option<Head>, Foreign> {
    match input.first() {
        None => Ok(None),
        Some(b'*') => array(input),
        Some(first) if first.is_ascii_alphabetic() || first.is_ascii_whitespace() => inline(input),
        Some(_) => Err(Foreign),
    }
}

fn array(input: &[u8]) -> Result<Option<Head>, Foreign> {
    let Some(first) = line(input, NAME_MAX)? else { return Ok(None) };
    let mut length = first.len();
    if matches!(first, b"*-1\r\n" | b"*0\r\n") {
        return Ok(Some(Head { name: String::new(), length, arguments: 0 }));
    }
    let count = number(first, b'*')?;
    let Some(second) = line(&input[length..], NAME_MAX)? else { return Ok(None) };
    length += second.len();
    let name = usize::try_from(number(second, b'$')?).ok().filter(|name| *name <= NAME_MAX).ok_or(Foreign)?;
    let end = length + name + 2;
    if input.len() < end {
        return Ok(None);
    }
    Ok(Some(Head { name: upper(&input[length..length + name]), length: end, arguments: count - 1 }))
}

fn inline(input: &[u8]) -> Result<Option<Head>, Foreign> {
    let Some(line) = line(input, LINE_MAX)? else { return Ok(None) };
    let name = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or_default();
    Ok(Some(Head { name: upper(name), length: line.len(), arguments: 0 }))
}

fn upper(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_uppercase()
}

/// The first line with its end; none when it is not there in full.
pub(super) fn line(input: &[u8], max: usize) -> Result<Option<&[u8]>, Foreign> {
    match input.iter().take(max).position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some(&input[..=end])),
        None if input.len() < max => Ok(None),
        None => Err(Foreign),
    }
}

/// The number of a line like `$5\r\n`.
fn number(line: &[u8], kind: u8) -> Result<u64, Foreign> {
    let digits = line.strip_prefix(&[kind]).and_then(|rest| rest.strip_suffix(b"\r\n")).ok_or(Foreign)?;
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all commands, read in pieces of this length.
    #[track_caller]
    fn check(text: &[u8], expect: &[&str]) {
        for piece in [1, 2, 3, 7, text.len()] {
            let (mut requests, mut buffer, mut names) = (Requests::default(), Vec::new(), Vec::new());
            for bytes in text.chunks(piece) {
                buffer.extend_from_slice(bytes);
                loop {
                    let length = if requests.at_start() {
                        let Some(head) = head(&buffer).unwrap() else { break };
                        requests.enter(&head);
                        names.push(head.name);
                        head.length
                    } else {
                        let Some(length) = requests.more(&buffer).unwrap() else { break };
                        length
                    };
                    buffer.drain(..length);
                }
            }
            assert_eq!(names, expect, "in pieces of {piece}");
            assert!(buffer.is_empty() && requests.at_start(), "in pieces of {piece}");
        }
    }

    #[test]
    fn commands_are_told_apart_in_whatever_pieces_they_come() {
        check(b"*1\r\n$4\r\nping\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n*1\r\n\r\n", &["PING", "SET"]);
        check(b"ping\r\n\r\n*0\r\n  get key\r\n*1\r\n$4\r\nQUIT\r\n", &["PING", "", "", "GET", "QUIT"]);
    }

    #[test]
    fn what_is_not_redis_is_said_to_be_foreign() {
        for text in ["\u{16}\u{3}\u{1}", "*x\r\n", "*1\r\n:3\r\n", "*1\r\n$1000\r\n", "*1\n"] {
            assert_eq!(head(text.as_bytes()), Err(Foreign), "{text:?}");
        }
        let mut requests = Requests { arguments: 1, skip: 0 };
        assert_eq!(requests.more(b"+1\r\n"), Err(Foreign));
    }
}
