//! A2: the chunked coding, by its grammar and nothing else (RFC 9112 section 7.1).

use std::io::Write as _;

use crate::client;
use crate::rig::rig;
use crate::rows::{Row, Want, cut, post, row, run};

const BAD: Want = Want::Refuse(&[400]);
/// Content of which a part is forwarded before its end has come: several times what the proxy
/// takes in first.
const LARGE: usize = 100_000;

fn chunks(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn a_malformed_chunk_is_refused_before_anything_is_forwarded() {
    let bad = |id: &'static str, body: &str| -> Row { row(id, chunks(body), BAD) };
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(65_536));
    run(
        "A2",
        &[
            bad("SMUG-CHUNK-BARE-SEMICOLON", "5;\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-EXT-LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-EXT-CR", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-EXT-CTRL", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
            bad(
                "SMUG-CHUNK-EXT-INVALID-TOKEN",
                "5;a[b\r\nhello\r\n0\r\n\r\n",
            ),
            bad("SMUG-CHUNK-HEX-PREFIX", "0x5\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-UNDERSCORE", "0_5\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-PLUS", "+5\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-NEGATIVE", "-5\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-LEADING-SP", " 5\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-TRAILING-OWS", "5 \r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-SPILL", "5\r\nhello!\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-SHORT", "6\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-CHUNK-LF-TERM", "5\nhello\n0\n\n"),
            bad("SMUG-CHUNK-MISSING-CRLF-AFTER-DATA", "5\r\nhello0\r\n\r\n"),
            cut(
                "SMUG-CHUNK-MISSING-TRAILING-CRLF",
                chunks("5\r\nhello\r\n0\r\n"),
                BAD,
            ),
            bad(
                "MAL-CHUNK-SIZE-OVERFLOW",
                "10000000000000005\r\nhello\r\n0\r\n\r\n",
            ),
            bad("MAL-CHUNK-EXT-64K", &extension),
            bad("MAL-CHUNK-SIZE-EMPTY", "\r\nhello\r\n0\r\n\r\n"),
            bad("SMUG-TRAILER-SPACE-BEFORE-COLON", "0\r\nX-T : 1\r\n\r\n"),
            bad("SMUG-TRAILER-LF", "0\r\nX-T: 1\nX-U: 2\r\n\r\n"),
        ],
    );
}

/// The head is out and a part of the content with it: what was begun is broken off, so that the
/// stream program never takes it for a request, and nothing else goes over that connection.
#[test]
fn a_malformed_chunk_after_a_part_was_forwarded_breaks_the_request_off() {
    const OFF: Want = Want::BreakOff(&[400]);
    let large = format!("{:x}\r\n{}\r\n", LARGE, "x".repeat(LARGE));
    let late = |bad: &str| chunks(&format!("{large}{bad}"));
    let length = format!("Content-Length: {}\r\n", LARGE + 1);
    run(
        "A2",
        &[
            row(
                "SMUG-CHUNK-LATE-SIZE",
                late("zz\r\nhello\r\n0\r\n\r\n"),
                OFF,
            ),
            row(
                "SMUG-CHUNK-LATE-PREFIX",
                late("0x5\r\nhello\r\n0\r\n\r\n"),
                OFF,
            ),
            row(
                "SMUG-CHUNK-LATE-SPILL",
                late("5\r\nhello!\r\n0\r\n\r\n"),
                OFF,
            ),
            row("SMUG-CHUNK-LATE-LF", late("5\nhello\n0\n\n"), OFF),
            row("SMUG-CHUNK-LATE-EXT", late("5;\r\nhello\r\n0\r\n\r\n"), OFF),
            row("SMUG-CHUNK-LATE-TRAILER", late("0\r\nX : 1\r\n\r\n"), OFF),
            cut("SMUG-CHUNK-LATE-CUT", late("5\r\nhel"), OFF),
            cut("SMUG-CHUNK-LATE-END-CUT", late("0\r\n"), OFF),
            cut("SMUG-CL-LATE-CUT", post(&length, &"x".repeat(LARGE)), OFF),
        ],
    );
}

#[test]
fn legal_extensions_and_trailers_pass() {
    run(
        "A2",
        &[
            row(
                "COMP-CHUNK-EXT",
                chunks("5;a;b=c;d=\"e;\\\"f\"\r\nhello\r\n0;last\r\n\r\n"),
                Want::Pass,
            ),
            row(
                "COMP-CHUNK-EXT-BWS",
                chunks("5 ; a = b\r\nhello\r\n0\r\n\r\n"),
                Want::Pass,
            ),
            row(
                "COMP-CHUNK-TRAILER",
                chunks("5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
                Want::Pass,
            ),
            row(
                "COMP-CHUNK-ZEROS-AND-CASE",
                chunks("00a\r\n0123456789\r\n00B\r\n01234567890\r\n000\r\n\r\n"),
                Want::Pass,
            ),
            row("COMP-CHUNK-EMPTY", chunks("0\r\n\r\n"), Want::Pass),
        ],
    );
}

#[test]
fn a_terminator_split_over_segments_passes() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let mark = format!("A2-SPLIT-{role}");
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            rig.path(&format!("mirror/{mark}"))
        );
        let mut stream = client::connect(address);
        let bytes = format!("{head}5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n");
        for byte in bytes.as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        let got = client::finish(&mut stream, false);
        assert_eq!(got.statuses(), [200], "{role}");
        let mirrored = got.answers[0].text();
        assert!(mirrored.contains("hello"), "{mirrored}");
        assert!(!mirrored.contains("X-T"), "{mirrored}");
    }
}
