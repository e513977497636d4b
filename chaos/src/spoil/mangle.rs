//! Bytes that are not what they were.

use std::io::Write as _;

use celeriac_conformance::random::Rng;

/// No value of ours is as large.
const HUGE: usize = 16 << 20;

/// What nests deeper is read by nobody.
const DEEP: usize = 10_000;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mangle {
    Flipped,
    Truncated,
    Extended,
    Emptied,
    Noise,
    /// A text where a number may have been.
    Text,
    Negative,
    TooLarge,
    NotANumber,
    /// Other ids at the start.
    OtherIds,
    /// The format of a later version.
    Tomorrow,
    Large,
    Huge,
    /// Lists in lists in lists: JSON.
    DeepJson,
    /// The same, in MessagePack.
    DeepPack,
    /// A few bytes that stand for a gigabyte.
    Bomb,
}

impl Mangle {
    pub(crate) const ALL: [Self; 16] = [
        Self::Flipped,
        Self::Truncated,
        Self::Extended,
        Self::Emptied,
        Self::Noise,
        Self::Text,
        Self::Negative,
        Self::TooLarge,
        Self::NotANumber,
        Self::OtherIds,
        Self::Tomorrow,
        Self::Large,
        Self::Huge,
        Self::DeepJson,
        Self::DeepPack,
        Self::Bomb,
    ];

    /// What becomes of these bytes.
    pub(crate) fn of(self, bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let at = rng.below(bytes.len() as u32) as usize;
        match self {
            Self::Flipped => match bytes.get_mut(at) {
                Some(byte) => *byte ^= 1 << rng.below(8),
                None => bytes.push(1),
            },
            Self::Truncated => bytes.truncate(at),
            Self::Extended => bytes.extend(noise(1 + rng.below(40) as usize, rng)),
            Self::Emptied => bytes.clear(),
            Self::Noise => bytes = noise(1 + rng.below(64) as usize, rng),
            Self::Text => bytes = b"not a number".to_vec(),
            Self::Negative => bytes = format!("-{}", rng.next_u64() >> 1).into_bytes(),
            Self::TooLarge => bytes = b"123456789012345678901234567890".to_vec(),
            Self::NotANumber => {
                bytes = [&b"nan"[..], b"inf", b"1e999", b"0x10"][rng.below(4) as usize].to_vec()
            }
            Self::OtherIds => {
                let other = noise(16, rng);
                let end = bytes.len().min(other.len());
                bytes[..end].copy_from_slice(&other[..end]);
            }
            // Of an envelope behind its head, of an outcome, and of what is packed.
            Self::Tomorrow if bytes.len() > 30 && rng.percent(50) => {
                bytes.splice(28..30, [0xc1, 0x80]).for_each(drop)
            }
            Self::Tomorrow if rng.percent(50) => bytes = [&[0xc1, 0x80], &bytes[..]].concat(),
            Self::Tomorrow => match bytes.first_mut() {
                Some(first) => *first = first.wrapping_add(1),
                None => bytes.push(0xc1),
            },
            Self::Large => bytes.extend(noise(300_000, rng)),
            Self::Huge => bytes.resize(HUGE, b'x'),
            Self::DeepJson => bytes = [vec![b'['; DEEP], vec![b']'; DEEP]].concat(),
            Self::DeepPack => {
                // Behind the head of a leaf, if there is one.
                bytes.truncate(28 * usize::from(rng.percent(70)));
                bytes.extend(vec![0x91; DEEP]);
                bytes.push(0xc0);
            }
            Self::Bomb => {
                bytes.truncate(28);
                bytes.extend([0xc1, 2]);
                bytes.extend(bomb());
            }
        }
        bytes
    }
}

/// As many bytes of no meaning: also no later format's, which waits for those who can read it
/// ([`Mangle::Tomorrow`]).
pub(crate) fn noise(count: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend(rng.next_u64().to_le_bytes());
    }
    bytes.truncate(count);
    if let Some(first) = bytes.first_mut()
        && *first == 0xc1
    {
        *first = 0;
    }
    bytes
}

/// Zeros without end, nearly.
fn bomb() -> &'static [u8] {
    static BOMB: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let zeros = vec![0; 1 << 20];
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a level that there is");
        for _ in 0..1024 {
            encoder.write_all(&zeros).expect("a Vec takes all bytes");
        }
        encoder.finish().expect("a Vec takes all bytes")
    });
    &BOMB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_one_and_the_same_for_a_seed() {
        let before: Vec<u8> = (0..100).collect();
        for mangle in Mangle::ALL {
            let after = mangle.of(&before, &mut Rng::new(7));
            assert_ne!(after, before, "{mangle:?}");
            assert_eq!(after, mangle.of(&before, &mut Rng::new(7)), "{mangle:?}");
            mangle.of(&[], &mut Rng::new(7));
        }
        assert!(bomb().len() < 200_000);
    }
}
