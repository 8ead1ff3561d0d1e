//! HTML on its way, and what is none.

use super::{OK, ask, proxy, upstream};
use crate::proxy::Policy;

#[test]
fn html_gets_the_snippet_and_loses_what_described_it_before() {
    let (origin, seen) = upstream(&[
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 26\r\nETag: \"e\"\r\n\r\n<html><head></head></html>",
    ]);
    let policy = Policy {
        snippet: Some("<b>".into()),
        ..Policy::default()
    };
    let (address, _stop) = proxy(origin, policy);
    let got = ask(
        address,
        "GET /stream.html HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nIf-None-Match: \"e\"\r\nConnection: close\r\n\r\n",
    );
    assert!(got.contains("<html><head><b></head></html>"), "{got}");
    assert!(
        !got.contains("ETag") && !got.contains("Content-Length"),
        "{got}"
    );
    let asked = seen.lock().unwrap()[0].clone();
    assert!(
        asked.contains("accept-encoding: identity") && !asked.contains("If-None-Match"),
        "{asked}"
    );
}

#[test]
fn other_answers_keep_validators_and_length() {
    let (origin, seen) = upstream(&[OK]);
    let policy = Policy {
        snippet: Some("<b>".into()),
        ..Policy::default()
    };
    let (address, _stop) = proxy(origin, policy);
    let got = ask(
        address,
        "GET /stream.js HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\nConnection: close\r\n\r\n",
    );
    assert!(
        got.contains("ETag: \"e\"\r\n") && got.contains("content-length: 2\r\n"),
        "{got}"
    );
    assert!(seen.lock().unwrap()[0].contains("If-None-Match: \"x\""));
}
