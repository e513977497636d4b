//! Inputs from inputs.

/// Longer inputs are cut.
const LENGTH_MAX: usize = 4096;

/// Numbers that are likely to be at an edge.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "63",
    "64",
    "65",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e308",
    "1e400",
    "0.1",
];

/// A small generator of random numbers (SplitMix64): the same seed gives the same run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.number() % end as u64) as usize }
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// Makes new inputs from those of a corpus.
#[derive(Debug)]
pub struct Mutator<'d> {
    dictionary: &'d [&'d str],
}

impl<'d> Mutator<'d> {
    /// A mutator that knows these parts of inputs.
    pub fn new(dictionary: &'d [&'d str]) -> Self {
        Self { dictionary }
    }

    /// An input of the corpus, changed in one to eight places; or, now and then, one of parts alone.
    pub fn next(&self, random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
        if random.below(8) == 0 {
            return self.parts(random, 16);
        }
        let mut input = random.pick(corpus).cloned().unwrap_or_default();
        // Mostly one change: many of them rarely leave anything that can be read.
        let changes = 1 + random.below(2) * random.below(2) * random.below(8);
        for _ in 0..changes {
            self.change(random, corpus, &mut input);
            input.truncate(LENGTH_MAX);
        }
        input
    }

    /// One to `max` parts from the dictionary; fewer are likelier.
    fn parts(&self, random: &mut Random, max: usize) -> Vec<u8> {
        let most = 1 + random.below(max);
        let count = 1 + random.below(most);
        (0..count).flat_map(|_| random.pick(self.dictionary).map_or("", |part| *part).bytes()).collect()
    }

    fn change(&self, random: &mut Random, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
        let (from, to) = range(random, input.len());
        let place = random.below(input.len() + 1);
        match random.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(from) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(from) {
                    *byte = random.number() as u8;
                }
            }
            2 => drop(input.drain(from..to)),
            3 => {
                let part = input[from..to].to_vec();
                insert(input, place, &part);
            }
            4 => {
                // A short part many times over: nesting and long lists.
                let part = &input[from..to.min(from + 8)];
                let part = part.repeat(1 + random.below(64));
                insert(input, place, &part);
            }
            5 | 6 => {
                let parts = self.parts(random, 4);
                let replaced = if random.below(2) == 0 { place..place } else { from..to };
                input.splice(replaced, parts);
            }
            7 => {
                let other = random.pick(corpus).map_or(&[][..], Vec::as_slice);
                let (other_from, other_to) = range(random, other.len());
                input.splice(from..to, other[other_from..other_to].iter().copied());
            }
            8 => replace_number(random, input),
            _ => {
                let other = random.pick(corpus).map_or(&[][..], Vec::as_slice);
                input.truncate(place);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
}

/// A part of something this long; short parts are likelier.
fn range(random: &mut Random, length: usize) -> (usize, usize) {
    let from = random.below(length);
    let longest = if random.below(4) == 0 { length } else { 16 };
    (from, (from + random.below(longest + 1)).min(length))
}

fn insert(input: &mut Vec<u8>, place: usize, part: &[u8]) {
    input.splice(place..place, part.iter().copied());
}

/// Writes another number in the place of one in decimal digits.
fn replace_number(random: &mut Random, input: &mut Vec<u8>) {
    let start = random.below(input.len());
    let Some(from) = (start..input.len()).find(|i| input[*i].is_ascii_digit()) else { return };
    let digits = input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = random.pick(NUMBERS).map_or("0", |number| *number);
    input.splice(from..from + digits, number.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let corpus = [b"group(add.s(1, 2))".to_vec(), b"x | y".to_vec(), Vec::new()];
        let mutator = Mutator::new(&["add", "("]);
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| mutator.next(&mut random, &corpus)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
        assert!(inputs(7).iter().all(|input| input.len() <= LENGTH_MAX));
    }
}
