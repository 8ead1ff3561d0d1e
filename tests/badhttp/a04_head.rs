//! A4: request line and header fields (RFC 9112 sections 2 to 5).

use crate::client;
use crate::rig::rig;
use crate::rows::{Want, get, row, run};

const BAD: Want = Want::Refuse(&[400]);

#[test]
fn a_malformed_head_is_refused() {
    let lines = |lines: &str| get(lines);
    let line = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
    run(
        "A4",
        &[
            row(
                "RFC9112-2.2-BARE-LF-REQUEST-LINE",
                "GET @P HTTP/1.1\nHost: h\r\n\r\n",
                BAD,
            ),
            row(
                "RFC9112-2.2-BARE-LF-HEADER",
                "GET @P HTTP/1.1\r\nHost: h\n\r\n",
                BAD,
            ),
            row("RFC9112-2.2-BARE-CR", lines("X: a\rb\r\n"), BAD),
            row("RFC9112-5.1-OBS-FOLD", lines("X: a\r\n b\r\n"), BAD),
            row("RFC9110-5.6.2-SP-BEFORE-COLON", lines("X : a\r\n"), BAD),
            row("RFC9112-5-NO-COLON", lines("no colon here\r\n"), BAD),
            row("RFC9112-5-EMPTY-HEADER-NAME", lines(": a\r\n"), BAD),
            row("RFC9112-5-INVALID-HEADER-NAME", lines("X[a]: a\r\n"), BAD),
            row("MAL-NUL-IN-HEADER", lines("X: a\0b\r\n"), BAD),
            row("MAL-CONTROL-CHARS-HEADER", lines("X: a\x01b\r\n"), BAD),
            row(
                "MAL-NON-ASCII-HEADER-NAME",
                "GET @P HTTP/1.1\r\nHost: h\r\nX\u{e9}: a\r\n\r\n",
                BAD,
            ),
            row("RFC9112-7.1-MISSING-HOST", "GET @P HTTP/1.1\r\n\r\n", BAD),
            row("RFC9110-5.4-DUPLICATE-HOST", lines("Host: h\r\n"), BAD),
            row("COMP-HOST-EMPTY", "GET @P HTTP/1.1\r\nHost:\r\n\r\n", BAD),
            row(
                "COMP-HOST-WITH-USERINFO",
                "GET @P HTTP/1.1\r\nHost: u:p@h\r\n\r\n",
                BAD,
            ),
            row(
                "COMP-HOST-WITH-PATH",
                "GET @P HTTP/1.1\r\nHost: h/session/x\r\n\r\n",
                BAD,
            ),
            row(
                "COMP-HOST-WITH-QUERY",
                "GET @P HTTP/1.1\r\nHost: h?x\r\n\r\n",
                BAD,
            ),
            row("RFC9112-2.3-HTTP09-REQUEST", "GET @P\r\n\r\n", BAD),
            row(
                "COMP-VERSION-1.2",
                line("GET @P HTTP/1.2"),
                Want::Refuse(&[505]),
            ),
            row(
                "MAL-H2-PREFACE",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                Want::Refuse(&[505]),
            ),
            row("RFC9112-2.3-INVALID-VERSION", line("GET @P HTTP/1.01"), BAD),
            row(
                "RFC9112-3-MULTI-SP-REQUEST-LINE",
                line("GET  @P HTTP/1.1"),
                BAD,
            ),
            row("RFC9112-3-TAB-REQUEST-LINE", line("GET\t@P\tHTTP/1.1"), BAD),
            row(
                "RFC9112-3.2-FRAGMENT-IN-TARGET",
                line("GET @P#x HTTP/1.1"),
                BAD,
            ),
            row(
                "COMP-ABSOLUTE-FORM-MISMATCH",
                line("GET http://other@P HTTP/1.1"),
                BAD,
            ),
            row(
                "COMP-METHOD-UNKNOWN",
                line("FROB @P HTTP/1.1"),
                Want::Refuse(&[501]),
            ),
            row(
                "COMP-METHOD-LOWER-CASE",
                line("get @P HTTP/1.1"),
                Want::Refuse(&[501]),
            ),
            row(
                "COMP-METHOD-CONNECT",
                line("CONNECT h:80 HTTP/1.1"),
                Want::Refuse(&[501]),
            ),
            row(
                "COMP-METHOD-TRACE",
                line("TRACE @P HTTP/1.1"),
                Want::Refuse(&[501]),
            ),
            row(
                "MAL-TLS-HELLO",
                &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
                BAD,
            ),
            row("COMP-LEADING-TWO-CRLF", format!("\r\n\r\n{}", get("")), BAD),
        ],
    );
}

#[test]
fn a_legal_head_passes() {
    run(
        "A4",
        &[
            row(
                "COMP-ABSOLUTE-FORM",
                "GET http://h@P HTTP/1.1\r\nHost: h\r\n\r\n",
                Want::Pass,
            ),
            row("COMP-LEADING-CRLF", format!("\r\n{}", get("")), Want::Pass),
            row("COMP-HEADER-EMPTY-VALUE", get("X:\r\n"), Want::Pass),
            row("COMP-HEADER-TAB-OWS", get("X:\ta\tb\t\r\n"), Want::Pass),
            row(
                "COMP-HOST-WITH-PORT",
                get("").replace("Host: h", "Host: h:80"),
                Want::Pass,
            ),
            row(
                "COMP-HTTP10-KEEP-ALIVE",
                "GET @P HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                Want::Pass,
            ),
        ],
    );
}

#[test]
fn a_value_beyond_ascii_reaches_the_stream_program_as_it_is() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Bytes: caf",
            rig.path("mirror/A4-non-ascii")
        );
        let bytes = [head.as_bytes(), b"\xe9 \xc3\xa9\xff\r\n\r\n"].concat();
        let got = client::send(address, &bytes);
        assert_eq!(got.statuses(), [200], "{role}");
        let mirrored = &got.answers[0].body;
        assert!(
            client::find(mirrored, b"X-Bytes: caf\xe9 \xc3\xa9\xff\r\n").is_some(),
            "{role}: {}",
            got.answers[0].text()
        );
    }
}

#[test]
fn an_old_client_without_host_is_served_and_told_that_the_connection_ends() {
    let rig = rig();
    for (role, address) in rig.roles() {
        for path in ["/livez".to_owned(), rig.path("mirror/A4-http10")] {
            let got = client::send(address, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
            assert_eq!(got.statuses(), [200], "{role} {path}");
            assert!(got.answers[0].closes(), "{role} {path}");
            let kept = format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            let last = format!("GET {path} HTTP/1.0\r\n\r\n");
            let got = client::send(address, (kept + &last).as_bytes());
            assert_eq!(got.statuses(), [200, 200], "{role} {path}");
            assert_eq!(
                got.answers[0].field("connection"),
                Some("keep-alive"),
                "{role} {path}"
            );
        }
    }
}
