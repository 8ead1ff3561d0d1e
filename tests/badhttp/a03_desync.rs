//! A3: two requests on one connection; the second is never a part of the first, nor the reverse.

use crate::client;
use crate::rig::rig;
use crate::rows::{Want, get, post, row, run};

const BAD: Want = Want::Refuse(&[400]);
const INNER: &str = "GET /livez HTTP/1.1\r\nHost: h\r\nX-Inner: yes\r\n\r\n";

fn with_body(method: &str, lines: &str, body: &str) -> String {
    format!("{method} @P HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}")
}

#[test]
fn a_refused_first_request_takes_the_second_with_it() {
    let hidden = format!("0\r\n\r\n{INNER}");
    let length = hidden.len();
    run(
        "A3",
        &[
            row(
                "SMUG-CLTE-DESYNC",
                post(
                    &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                    &hidden,
                ),
                BAD,
            ),
            row(
                "SMUG-TECL-DESYNC",
                post(
                    &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                    &hidden,
                ),
                BAD,
            ),
            row(
                "SMUG-DUPLICATE-CL-DESYNC",
                post(
                    &format!("Content-Length: 0\r\nContent-Length: {}\r\n", INNER.len()),
                    INNER,
                ),
                BAD,
            ),
            row(
                "SMUG-CLTE-OBFUSCATED-SPACE",
                post(
                    &format!("Content-Length: {length}\r\nTransfer-Encoding : chunked\r\n"),
                    &hidden,
                ),
                BAD,
            ),
            row(
                "SMUG-CLTE-OBFUSCATED-TAB",
                post(
                    &format!("Content-Length: {length}\r\nTransfer-Encoding: \x0bchunked\r\n"),
                    &hidden,
                ),
                BAD,
            ),
            row(
                "SMUG-TE-OBS-FOLD-DESYNC",
                post(
                    &format!("Content-Length: {length}\r\nTransfer-Encoding:\r\n chunked\r\n"),
                    &hidden,
                ),
                BAD,
            ),
            row(
                "SMUG-HEADER-INJECTION-BARE-LF",
                post(
                    &format!("X: a\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                    &hidden,
                ),
                BAD,
            ),
            row(
                "SMUG-CHUNK-SPILL-DESYNC",
                post(
                    "Transfer-Encoding: chunked\r\n",
                    &format!("1\r\nab\r\n0\r\n\r\n{INNER}"),
                ),
                BAD,
            ),
            row(
                "COMP-EXPECT-UNKNOWN",
                post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello"),
                Want::Refuse(&[417]),
            ),
            row(
                "SMUG-EXPECT-100-TE-CL",
                post(
                    &format!(
                        "Expect: 100-continue\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n"
                    ),
                    &hidden,
                ),
                BAD,
            ),
        ],
    );
}

#[test]
fn a_body_is_a_body_whatever_it_looks_like() {
    let n = INNER.len();
    let length = format!("Content-Length: {n}\r\n");
    let chunk = format!("{n:x}\r\n{INNER}\r\n0\r\n\r\n");
    run(
        "A3",
        &[
            row(
                "SMUG-GET-CL-BODY-DESYNC",
                with_body("GET", &length, INNER),
                Want::Pass,
            ),
            row(
                "SMUG-GET-TE-BODY-DESYNC",
                with_body("GET", "Transfer-Encoding: chunked\r\n", &chunk),
                Want::Pass,
            ),
            row(
                "SMUG-OPTIONS-CL-BODY-DESYNC",
                with_body("OPTIONS", &length, INNER),
                Want::Pass,
            ),
            row(
                "SMUG-OPTIONS-TE-BODY-DESYNC",
                with_body("OPTIONS", "Transfer-Encoding: chunked\r\n", &chunk),
                Want::Pass,
            ),
            row(
                "SMUG-EXPECT-100-CL-DESYNC",
                post(&format!("Expect: 100-continue\r\n{length}"), INNER),
                Want::Pass,
            ),
            row(
                "SMUG-CL0-BODY-POISON",
                post("Content-Length: 0\r\n", "X"),
                Want::ThenRefuse(&[400, 501]),
            ),
            row(
                "SMUG-NO-LENGTH-BODY-POISON",
                get("").replace("GET", "POST").replace("Host", "@AHost") + "hello\r\n",
                Want::ThenRefuse(&[400, 501]),
            ),
        ],
    );
}

/// The client that waits for 100 is given the final answer: what it sends then is not a request.
#[test]
fn an_unread_expectation_ends_the_connection() {
    for (role, address) in rig().roles() {
        for path in ["/nowhere", "/session/00000000000000000000000000000000/x"] {
            let first = format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                INNER.len()
            );
            let got = client::send(address, first.as_bytes());
            assert_eq!(got.statuses(), [404], "{role} {path}");
            assert!(got.answers[0].closes() && got.closed, "{role} {path}");
            let got = client::send(address, (first + INNER).as_bytes());
            assert_eq!(got.statuses(), [404], "{role} {path}");
        }
    }
}
