//! The bounded run: `FUZZ_CASES` cases from `FUZZ_SEED`, both printed.

use crate::differential::{compare, compare_chunks, ours, reference};
use crate::mutate::{Numbers, mutated};
use crate::seeds::{CHUNKS, HEADS};

/// Cases of one target when nothing is said: some seconds.
const CASES: u64 = 100_000;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().unwrap())
}

fn run(seeds: &[&str], check: fn(&[u8])) {
    let cases = number("FUZZ_CASES", CASES);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number(
        "FUZZ_SEED",
        u64::try_from(now.unwrap().as_nanos() & 0xffff_ffff).unwrap(),
    );
    println!("FUZZ_SEED={seed} FUZZ_CASES={cases}");
    for seed in seeds {
        check(seed.as_bytes());
    }
    let mut numbers = Numbers::new(seed);
    for _ in 0..cases {
        check(&mutated(seeds, &mut numbers));
    }
}

#[test]
fn streams_of_requests_are_read_as_the_reference_reads_them() {
    run(HEADS, compare);
}

#[test]
fn chunked_bodies_are_read_as_the_reference_reads_them() {
    run(CHUNKS, compare_chunks);
}

/// A comparison that never compares anything would always pass.
#[test]
fn both_read_the_legal_seeds() {
    for (seed, requests) in [(HEADS[0], 1), (HEADS[1], 2), (HEADS[2], 2), (HEADS[8], 2)] {
        assert_eq!(ours(seed.as_bytes()).len(), requests, "{seed}");
        assert_eq!(ours(seed.as_bytes()), reference(seed.as_bytes()), "{seed}");
    }
}
