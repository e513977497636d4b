//! What changes of a run with every step, packed as the scripts read it.

use celeriac_backends::{BackendError, RunStatus};
use celeriac_engine::RunOutcome;
use celeriac_primitives::{Incarnation, NodeNo};

use crate::error::{corrupt, later};

/// The format of what is stored; the scripts check it.
pub(crate) const FORMAT: u8 = 2;

/// Later versions will count on to here. Beyond it is no format: what stands there is broken, and nobody
/// waits for a program that can read it. Also in `scripts/meta.lua`.
const LATER_MAX: u8 = 31;

pub(crate) const SIZE: usize = 1 + 8 * 4 + 2 * 8 + 16 + 8;

/// `>B I4×8 I8×2 c16 c8` in the words of Lua's `struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) nodes: u32,
    /// Leaves that are released and have not ended.
    pub(crate) open: u32,
    /// Leaves that are released and not dispatched.
    pub(crate) owed: u32,
    /// Outputs that have not succeeded.
    pub(crate) left: u32,
    /// The number of the node that closed the root; 0 for none.
    pub(crate) failed: u32,
    pub(crate) done: u32,
    pub(crate) expected: u32,
    /// Nodes whose attempt is not the first.
    pub(crate) retried: u32,
    /// How long the run is kept after its end, in ms; 0 for good.
    pub(crate) retention_ms: u64,
    pub(crate) version: u64,
    /// Of the plan's bytes.
    pub(crate) digest: Digest,
    /// Which of the runs that ever had the id.
    pub(crate) incarnation: Incarnation,
}

/// Tells plans apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

impl Digest {
    pub(crate) fn of(plan: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(plan).to_be_bytes())
    }
}

impl Meta {
    pub(crate) fn pack(&self) -> [u8; SIZE] {
        let numbers = [
            self.nodes,
            self.open,
            self.owed,
            self.left,
            self.failed,
            self.done,
            self.expected,
            self.retried,
        ];
        let mut bytes = [0; SIZE];
        bytes[0] = FORMAT;
        for (place, number) in bytes[1..33].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes[33..41].copy_from_slice(&self.retention_ms.to_be_bytes());
        bytes[41..49].copy_from_slice(&self.version.to_be_bytes());
        bytes[49..65].copy_from_slice(&self.digest.0);
        bytes[65..].copy_from_slice(&self.incarnation.number().to_be_bytes());
        bytes
    }

    pub(crate) fn unpack(operation: &'static str, bytes: &[u8]) -> Result<Self, BackendError> {
        let bytes = match <&[u8; SIZE]>::try_from(bytes) {
            Ok(bytes) if bytes[0] == FORMAT => bytes,
            _ => {
                let format = bytes.first().map_or_else(|| "none".to_owned(), u8::to_string);
                let is_later = bytes.first().is_some_and(|format| (FORMAT + 1..=LATER_MAX).contains(format));
                let what = format!("the run has format {format}, this program knows format {FORMAT}");
                return Err(if is_later { later(operation, what) } else { corrupt(operation, what) });
            }
        };
        let mut numbers = bytes[1..33]
            .chunks_exact(4)
            .map(|part| u32::from_be_bytes(part.try_into().expect("chunks of four bytes have four bytes")));
        let mut next = || numbers.next().expect("there are eight numbers");
        let long = |at: usize| {
            u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
        };
        Ok(Self {
            nodes: next(),
            open: next(),
            owed: next(),
            left: next(),
            failed: next(),
            done: next(),
            expected: next(),
            retried: next(),
            retention_ms: long(33),
            version: long(41),
            digest: Digest(bytes[49..65].try_into().expect("sixteen bytes are sixteen bytes")),
            incarnation: Incarnation::new(long(65)),
        })
    }

    pub(crate) fn status(&self) -> RunStatus {
        let outcome = match NodeNo::new(self.failed) {
            Some(node) => RunOutcome::Failed(node),
            None if self.left == 0 => RunOutcome::Succeeded,
            None => RunOutcome::Undecided,
        };
        RunStatus {
            incarnation: self.incarnation,
            outcome,
            open: self.open,
            done: self.done,
            expected: self.expected,
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use celeriac_backends::ErrorKind;

    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let meta = Meta {
            nodes: 1,
            open: 2,
            owed: 3,
            left: 4,
            failed: 5,
            done: 6,
            expected: 7,
            retried: 8,
            retention_ms: 1 << 40,
            version: 10,
            digest: Digest::of(b"plan"),
            incarnation: Incarnation::new(11),
        };
        assert_eq!(Meta::unpack("test", &meta.pack()).unwrap(), meta);
        assert!(Meta::unpack("test", b"").unwrap_err().to_string().contains("format none"));
        let mut other = meta.pack();
        other[0] = 9;
        let error = Meta::unpack("test", &other).unwrap_err();
        assert!(error.to_string().contains("format 9") && error.kind == ErrorKind::Later);
        other[0] = 200;
        assert_eq!(Meta::unpack("test", &other).unwrap_err().kind, ErrorKind::Corrupt, "it is no format");
    }
}
