//! A bounded run of the fuzz checks that need the whole crate; `FUZZ_CASES=n` makes it longer.
//!
//! The wire room's targets, which differ against another parser, are in `fuzz/`, and so are the
//! coverage-guided forms of these.

#![allow(clippy::unwrap_used, clippy::panic)] // a test's way of failing

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

mod checks;

/// Cases of one check when nothing is said: some seconds.
const CASES: u32 = 20_000;

const PAGES: &[&str] = &[
    "\0\x20<!doctype html><!-- <head> --><html lang=en><head data-a='<head>'><script>'<head>'</script></head><body>\u{e9}</body></html>",
    "\x03\x09<title>t</title><p>x",
    "\x01\x02\u{feff}<html><svg><head></svg><template><head></template>",
    "\x05\x06plain text",
];
const CONFIGS: &[&str] = &[
    include_str!("../configs/dev.yaml"),
    include_str!("../configs/controller.yaml"),
    include_str!("../configs/worker.yaml"),
    include_str!("../configs/colocated-worker.yaml"),
    "sessions: {max: 15, port_range_start: 8080, start_timeout: 45s, log_max_bytes: 16MiB}\nbodies: {allowed_networks: [10.0.0.0/8, '::1/128']}\n",
    "a: &a [*a]\nb: !tag {? x : y}\n'server': |\n  x\n",
];
const OFFERS: &[&str] = &[
    r#"{"type":"offer","sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"}"#,
    include_str!("offers/chromium.json"),
    include_str!("offers/firefox.json"),
    // A line break that is none: the candidate is text of another line.
    r#"{"type":"offer","sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 192.0.na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=mid:0a=candidate:2\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"}"#,
    r#"{"type":"answer","sdp":""}"#,
    r#"{"type":"offer","sdp":"v=0\r\nm=video 9 RTP 96\r\n"}"#,
];
const PACKETS: &[&str] = &[
    "\u{0}\x6f\x00\x01\x00\x00\x03\x14\x00\x00\x00\x07payload",
    "\x01\x00\x01\x00\x00\x03\x14\x14\x01\x00\x02\x00\x00\x06\x28\x14\x02\x7f\x00\x00\x00\x00\x00\x01",
];

#[derive(Clone, Debug)]
struct Change {
    at: prop::sample::Index,
    length: usize,
    new: Vec<u8>,
}

fn run(seeds: &'static [&'static str], check: fn(&[u8])) {
    run_some(1, seeds, check);
}

/// One of `of` cases: for a check that does more than read.
fn run_some(of: u32, seeds: &'static [&'static str], check: fn(&[u8])) {
    let cases = std::env::var("FUZZ_CASES").map_or(CASES, |n| n.parse().unwrap());
    let cases = cases.div_ceil(of);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let change = (
        any::<prop::sample::Index>(),
        0..12_usize,
        vec(any::<u8>(), 0..8),
    );
    let change = change.prop_map(|(at, length, new)| Change { at, length, new });
    let cases = (prop::sample::select(seeds), vec(change, 0..6)).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for Change { at, length, new } in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, new);
        }
        bytes
    });
    for seed in seeds {
        check(seed.as_bytes());
    }
    // A failure prints the shrunk bytes.
    let outcome = TestRunner::new(config).run(&cases, |bytes| {
        check(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_cut_of_any_document_takes_the_snippet_in_one_place() {
    run(PAGES, checks::inject);
}

#[test]
fn any_text_is_a_configuration_or_has_problems_that_are_named() {
    run(CONFIGS, checks::config);
}

#[test]
fn any_offer_is_refused_or_without_addresses() {
    run(OFFERS, checks::offer);
}

#[test]
fn any_offer_is_answered_with_our_one_address_or_refused_with_4xx_and_leaves_nothing_open() {
    run_some(20, OFFERS, checks::answer);
}

#[test]
fn any_packets_go_out_as_one_stream() {
    run(PACKETS, checks::rtp);
}
