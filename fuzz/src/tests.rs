//! The bounded run: `FUZZ_CASES` cases from `FUZZ_SEED`, both printed.

use crate::differential::{compare, compare_chunks, ours, reference};
use crate::mutate::{Numbers, mutated};
use crate::seeds::{HEADS, chunks, heads};

/// Cases of one target when nothing is said: some seconds.
const CASES: u64 = 500_000;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().unwrap())
}

fn run(seeds: &[Vec<u8>], check: fn(&[u8])) {
    let cases = number("FUZZ_CASES", CASES);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number(
        "FUZZ_SEED",
        u64::try_from(now.unwrap().as_nanos() & 0xffff_ffff).unwrap(),
    );
    println!("FUZZ_SEED={seed} FUZZ_CASES={cases}");
    for seed in seeds {
        check(seed);
    }
    let mut numbers = Numbers::new(seed);
    for _ in 0..cases {
        check(&mutated(seeds, &mut numbers));
    }
}

#[test]
fn streams_of_requests_are_read_as_the_reference_reads_them() {
    run(&heads(), compare);
}

#[test]
fn chunked_bodies_are_read_as_the_reference_reads_them() {
    run(&chunks(), compare_chunks);
}

/// A comparison that never compares anything would always pass.
#[test]
fn both_read_the_legal_seeds() {
    for (seed, requests) in [(HEADS[0], 1), (HEADS[1], 2), (HEADS[2], 2), (HEADS[8], 2)] {
        assert_eq!(ours(seed.as_bytes()).len(), requests, "{seed}");
        assert_eq!(ours(seed.as_bytes()), reference(seed.as_bytes()), "{seed}");
    }
}

/// Seeds as files, for the coverage-guided targets: `FUZZ_CORPUS=fuzz/corpus cargo test ...`.
#[test]
#[ignore = "writes files, on demand"]
fn write_the_corpus() {
    let root = std::path::PathBuf::from(std::env::var("FUZZ_CORPUS").unwrap());
    for (target, seeds) in [("head", heads()), ("chunks", chunks())] {
        std::fs::create_dir_all(root.join(target)).unwrap();
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(root.join(target).join(format!("seed-{n}")), seed).unwrap();
        }
    }
}

#[test]
fn the_tables_are_among_the_seeds() {
    assert!(heads().len() > 100 && chunks().len() > 30);
    assert!(heads().contains(&b"GET /x HTTP/1.1\nHost: h\r\n\r\n".to_vec()));
}
