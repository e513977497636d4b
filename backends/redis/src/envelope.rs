//! A message as bytes: MessagePack, or, when its options ask for it, that compressed.
//!
//! A later format starts with a byte that no MessagePack starts with and a number from 128 on: whoever does
//! not know it leaves the message to a program that does. So he does with a message of more fields than his:
//! nobody else writes such a thing. See `docs/decisions/0026-formats.md`.

use std::io::{Read, Write};

use celeriac_primitives::{Compression, Outcome, TaskMessage};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// No MessagePack starts with this byte. After it comes the compression, then the compressed bytes.
const COMPRESSED: u8 = 0xc1;

/// A number from here on says that the rest has a later format. So does the byte alone in a report.
const LATER: u8 = 0x80;

/// How the MessagePack of a message starts: a list of so many fields.
const FIELDS: u8 = 0x90 | 13;

/// Bytes that are no longer than this are not made shorter.
const SMALL_BYTES: usize = 512;

/// What is larger when it is read is no message, when nothing else is said: large arguments do not travel
/// with them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Appends a message.
pub(crate) fn write(bytes: &mut Vec<u8>, message: &TaskMessage) {
    let compression = message.options.as_ref().and_then(|options| options.compression);
    let Some(compression) = compression else {
        return rmp_serde::encode::write(bytes, message).expect("a message has a MessagePack form");
    };
    let whole = rmp_serde::to_vec(message).expect("a message has a MessagePack form");
    match compress(compression, &whole) {
        Ok(short) if whole.len() > SMALL_BYTES && short.len() < whole.len() => {
            bytes.extend([COMPRESSED, code(compression)]);
            bytes.extend(short);
        }
        _ => bytes.extend(whole),
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They have a later format.
    Later,
    /// They are broken; what is wrong with them, in words that quote nothing of them.
    Broken(String),
}

/// Reads a message that has no more bytes than this.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn read(bytes: &[u8], bytes_max: usize) -> Result<TaskMessage, Unreadable> {
    let parse = |bytes: &[u8]| {
        rmp_serde::from_slice(bytes).map_err(|error| match has_more_fields(bytes) {
            true => Unreadable::Later,
            false => Unreadable::Broken(why(&error)),
        })
    };
    match bytes {
        later if is_later(later) => Err(Unreadable::Later),
        [COMPRESSED, code, rest @ ..] => {
            let whole = expand(*code, rest, bytes_max);
            parse(&whole.map_err(|error| Unreadable::Broken(format!("compressed: {error}")))?)
        }
        plain if plain.len() > bytes_max => Err(Unreadable::Broken(too_long(plain.len(), bytes_max))),
        plain => parse(plain),
    }
}

/// Whether bytes say that they have a later format.
pub(crate) fn is_later(bytes: &[u8]) -> bool {
    matches!(bytes, [COMPRESSED, LATER..=u8::MAX, ..])
}

/// Whether it is a message, and after its fields come others.
fn has_more_fields(bytes: &[u8]) -> bool {
    let fields = match bytes {
        [more @ 0x90..=0x9f, fields @ ..] if *more > FIELDS => fields,
        [0xdc, _, _, fields @ ..] => fields,
        _ => return false,
    };
    rmp_serde::from_read::<_, TaskMessage>([&[FIELDS], fields].concat().as_slice()).is_ok()
}

/// Reads an outcome, as reports carry it and runs keep it.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn read_outcome(bytes: &[u8]) -> Result<Outcome, Unreadable> {
    if bytes.first() == Some(&COMPRESSED) {
        return Err(Unreadable::Later);
    }
    rmp_serde::from_slice(bytes).map_err(|error| Unreadable::Broken(why(&error)))
}

/// What is wrong, without what stands there: it may be an argument.
fn why(error: &rmp_serde::decode::Error) -> String {
    use rmp_serde::decode::Error;
    match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "it ends too early".to_owned(),
        Error::LengthMismatch(count) => format!("a list of {count} stands where another number is expected"),
        Error::Utf8Error(_) => "a text is not UTF-8".to_owned(),
        Error::DepthLimitExceeded => "it is nested too deeply".to_owned(),
        _ => "it has not the form that it should have".to_owned(),
    }
}

fn code(compression: Compression) -> u8 {
    match compression {
        Compression::Gzip => 1,
        Compression::Zstd => 2,
    }
}

fn compress(compression: Compression, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    match compression {
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1),
    }
}

/// Reads no further than what is allowed: sixteen kilobytes may stand for gigabytes.
fn expand(code: u8, bytes: &[u8], bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let (mut whole, limit) = (Vec::new(), bytes_max as u64 + 1);
    match code {
        1 => GzDecoder::new(bytes).take(limit).read_to_end(&mut whole)?,
        2 => zstd::Decoder::new(bytes)?.take(limit).read_to_end(&mut whole)?,
        code => return Err(std::io::Error::other(format!("no compression has the number {code}"))),
    };
    if whole.len() > bytes_max {
        return Err(std::io::Error::other(too_long(whole.len(), bytes_max)));
    }
    Ok(whole)
}

fn too_long(bytes: usize, bytes_max: usize) -> String {
    format!("the message has {bytes} bytes or more, and {bytes_max} at most are read")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use celeriac_primitives::{Call, Json, LeafOptions, NodeNo, RunId, TaskName};

    use super::*;

    fn message(argument: &str, compression: Option<Compression>) -> TaskMessage {
        let leaf = RunId::from_parts(1, 1).task(NodeNo::from_index(0));
        let task = TaskName::new("add").unwrap();
        let (args, kwargs) = (Json::new(&[argument]).unwrap(), Json::parse("{}").unwrap());
        let options = Some(Arc::new(LeafOptions { compression, ..LeafOptions::default() }));
        TaskMessage { options, ..TaskMessage::new(leaf, 1, task, Call::Once, args, kwargs) }
    }

    #[test]
    fn a_message_comes_back_and_a_long_one_is_short_on_the_way() {
        for compression in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
            for (argument, is_short) in [("x".repeat(100_000), compression.is_some()), ("x".to_owned(), true)]
            {
                let (message, mut bytes) = (message(&argument, compression), Vec::new());
                write(&mut bytes, &message);
                assert_eq!(read(&bytes, MESSAGE_BYTES_MAX), Ok(message));
                assert_eq!(bytes.len() < 2000, is_short, "{compression:?}: {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn broken_bytes_are_an_error() {
        let mut bytes = Vec::new();
        write(&mut bytes, &message(&"x".repeat(100_000), Some(Compression::Zstd)));
        for broken in [&bytes[..bytes.len() / 2], &[COMPRESSED, 9, 1], &[COMPRESSED], &[]] {
            assert!(read(broken, MESSAGE_BYTES_MAX).is_err(), "{} bytes", broken.len());
        }
    }

    #[test]
    fn a_message_of_more_fields_is_a_later_one() {
        let (message, mut bytes) = (message("x", None), Vec::new());
        write(&mut bytes, &message);
        assert_eq!(bytes[0], FIELDS, "a message has as many fields");
        let longer = |start: &[u8], more: &[u8]| [start, &bytes[1..], more].concat();
        for later in [
            longer(&[FIELDS + 1], &[0xc0]),
            longer(&[FIELDS + 2], &[0xa1, b'x', 0x07]),
            longer(&[0xdc, 0, 16], &[0xc0; 3]),
        ] {
            assert_eq!(read(&later, MESSAGE_BYTES_MAX), Err(Unreadable::Later), "{later:?}");
        }
        // What those fields are, this program must know.
        let mut broken = longer(&[FIELDS + 1], &[0xc0]);
        broken[1] = 0xc3;
        for broken in [broken, longer(&[FIELDS + 1], &[])[..20].to_vec(), vec![0xdc, 0, 99]] {
            assert!(matches!(read(&broken, MESSAGE_BYTES_MAX), Err(Unreadable::Broken(_))), "{broken:?}");
        }
    }

    fn broken(unreadable: Unreadable) -> String {
        match unreadable {
            Unreadable::Broken(why) => why,
            Unreadable::Later => panic!("it has the format of this version"),
        }
    }

    #[test]
    fn a_later_format_is_told_from_what_is_broken() {
        for later in [&[COMPRESSED, LATER][..], &[COMPRESSED, 0xff, 1, 2]] {
            assert_eq!(read(later, MESSAGE_BYTES_MAX), Err(Unreadable::Later));
            assert_eq!(read_outcome(later), Err(Unreadable::Later));
        }
        assert!(matches!(read(&[COMPRESSED, LATER - 1, 0], MESSAGE_BYTES_MAX), Err(Unreadable::Broken(_))));
        let secret = rmp_serde::to_vec("my password").unwrap();
        for read in [read(&secret, MESSAGE_BYTES_MAX).map(drop), read_outcome(&secret).map(drop)] {
            let why = broken(read.unwrap_err());
            assert!(!why.is_empty() && !why.contains("password"), "{why}");
        }
    }

    /// A message that would take gigabytes to read is refused after as many bytes as a message may have.
    #[test]
    fn what_expands_beyond_a_message_is_not_read() {
        for compression in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
            for (bytes, is_read) in [(90_000, true), (99_000, true), (100_001, false), (3_000_000, false)] {
                let (message, mut written) = (message(&"x".repeat(bytes), compression), Vec::new());
                write(&mut written, &message);
                match read(&written, 100_000) {
                    Ok(read) => assert!(is_read && read == message, "{bytes} bytes, {compression:?}"),
                    Err(error) => {
                        let error = broken(error);
                        assert!(!is_read && error.contains("100000 at most are read"), "{bytes}: {error}");
                    }
                }
            }
        }
    }

    /// How many megabytes this process has taken at most since it was last asked.
    #[cfg(target_os = "linux")]
    fn most() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Whatever the bytes stand for, reading them takes no more than a message may have, and a little.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_bomb_takes_no_memory() {
        const BYTES: u64 = 1 << 29;
        let zeros = || std::io::repeat(0).take(BYTES);
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut zeros(), &mut gzip).unwrap();
        let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        std::io::copy(&mut zeros(), &mut wide).unwrap();
        let bombs = [
            (1, gzip.finish().unwrap()),
            (2, zstd::encode_all(zeros(), 1).unwrap()),
            // What is looked back at may be very far away.
            (2, wide.finish().unwrap()),
        ];
        for (code, bomb) in bombs {
            assert!((bomb.len() as u64) < BYTES / 100);
            let message = [&[COMPRESSED, code], &bomb[..]].concat();
            most();
            let before = most();
            let errors: Vec<String> =
                (0..6).map(|_| broken(read(&message, MESSAGE_BYTES_MAX).unwrap_err())).collect();
            let taken = most().saturating_sub(before);
            assert!(errors.iter().all(|error| error.contains("at most are read")), "{code}: {errors:?}");
            assert!(taken < 64, "{code}: {taken} MB for {} bytes", bomb.len());
        }
    }
}
