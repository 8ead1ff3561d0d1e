//! Mutations by pseudo-random numbers, so that a bounded run is repeatable from its seed.

use crate::seeds::WORDS;

/// Most mutations of one case.
const MUTATIONS_MAX: u64 = 5;

/// A stream of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

/// One of the seeds, changed in a few places.
#[must_use]
pub fn mutated(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.index(seeds.len())].clone();
    for _ in 0..numbers.below(MUTATIONS_MAX) {
        let at = numbers.index(bytes.len() + 1);
        let end = at + numbers.index((bytes.len() - at).min(8) + 1);
        match numbers.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            2 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            3 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap_or(0),
            4 => {
                let other = &seeds[numbers.index(seeds.len())];
                let from = numbers.index(other.len() + 1);
                bytes.splice(at..end, other[from..].iter().copied());
            }
            _ => {
                let word = WORDS[numbers.index(WORDS.len())];
                bytes.splice(at..end, word.bytes());
            }
        }
    }
    bytes
}
