//! A5: everything has a limit, and memory stays flat beyond it.

use std::io::Write as _;

use crate::client;
use crate::rig::{Rig, rig};
use crate::rows::{Want, get, row, run};

/// What the documentation says: head bytes, field lines, target bytes.
const HEAD: usize = 16 * 1024;
const LINES: usize = 100;

#[test]
fn limits_hold_to_the_byte() {
    let head = |n: usize| get(&format!("X: @Z{n}@\r\n"));
    let lines = |n: usize| get(&"X: y\r\n".repeat(n - 1));
    let long = "a".repeat(65_536);
    run(
        "A5",
        &[
            row("MAL-HEAD-LIMIT-LESS-1", head(HEAD - 1), Want::Pass),
            row("MAL-HEAD-LIMIT", head(HEAD), Want::Pass),
            row(
                "MAL-HEAD-LIMIT-PLUS-1",
                head(HEAD + 1),
                Want::Refuse(&[431]),
            ),
            row("MAL-HEADERS-100", lines(LINES), Want::Pass),
            row("MAL-HEADERS-101", lines(LINES + 1), Want::Refuse(&[431])),
            row(
                "MAL-LONG-URL",
                format!("GET @P{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
                Want::Refuse(&[414]),
            ),
            row(
                "MAL-LONG-HEADER-NAME",
                get(&format!("{long}: y\r\n")),
                Want::Refuse(&[431]),
            ),
            row(
                "MAL-LONG-HEADER-VALUE",
                get(&format!("X: {long}\r\n")),
                Want::Refuse(&[431]),
            ),
            row(
                "MAL-LONG-METHOD",
                format!("{} @P HTTP/1.1\r\nHost: h\r\n\r\n", "A".repeat(1 << 20)),
                Want::Refuse(&[400, 501]),
            ),
        ],
    );
}

#[test]
fn too_much_content_is_refused_before_it_is_read() {
    let rig = rig();
    for (role, address) in rig.roles() {
        for (path, length) in [
            ("/api/v1/sessions".to_owned(), "1048577"),
            ("/api/v1/sessions".to_owned(), "9223372036854775807"),
            (rig.path("quit"), "9223372036854775807"),
            (rig.path("mirror/A5-huge"), "9223372036854775807"),
        ] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\n{}Content-Length: {length}\r\n\r\n",
                Rig::bearer()
            );
            let got = client::send(address, request.as_bytes());
            assert_eq!(got.statuses(), [413], "{role} {path} {length}");
            assert!(got.answers[0].closes() && got.closed, "{role} {path}");
        }
    }
    assert!(!rig.seen().contains("A5-huge"));
}

/// Whoever has no token cannot make the server hold content for it.
#[test]
fn content_without_a_token_is_not_read() {
    for (role, address) in rig().roles() {
        let request =
            "POST /api/v1/sessions HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
        let got = client::send(address, request.as_bytes());
        assert_eq!(got.statuses(), [401], "{role}");
        assert!(got.answers[0].closes() && got.closed, "{role}");
    }
}

#[test]
fn content_that_ends_early_is_refused_and_not_forwarded() {
    let rig = rig();
    for (role, address) in rig.roles() {
        for path in ["/api/v1/sessions".to_owned(), rig.path("mirror/A5-early")] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\n{}Content-Length: 10\r\n\r\nhello",
                Rig::bearer()
            );
            let got = client::send_and_end(address, request.as_bytes());
            assert_eq!(got.statuses(), [400], "{role} {path}");
        }
    }
    assert!(!rig.seen().contains("A5-early"));
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let rig = rig();
    for (role, address, pid) in [
        ("controller", rig.controller, rig.controller_pid),
        ("worker", rig.worker, rig.worker_pid),
    ] {
        let before = crate::a10_slow::rss_kib(pid);
        let mut stream = client::connect(address);
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\nX: ");
        let block = vec![b'a'; 1 << 20];
        let mut sent = 0;
        while sent < 200 && stream.write_all(&block).is_ok() {
            sent += 1;
        }
        assert!(sent < 200, "{role} took 200 MB of one line");
        let got = client::finish(&mut stream, false);
        assert!(
            got.statuses().is_empty() || got.statuses() == [431],
            "{role}"
        );
        // Other tests run beside this one and have buffers of their own.
        let grown = crate::a10_slow::rss_kib(pid).saturating_sub(before);
        assert!(grown < 16 * 1024, "{role} grew by {grown} KiB");
    }
}
