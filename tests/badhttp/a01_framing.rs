//! A1: where a body ends must have one reading (RFC 9112 section 6.3).

use crate::rows::{Want, get, post, row, run};

const BAD: Want = Want::Refuse(&[400]);
const CODING: Want = Want::Refuse(&[501]);

#[test]
fn a_request_whose_framing_has_two_readings_is_refused() {
    let cl = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hello");
    let te = |value: &str| {
        post(
            &format!("Transfer-Encoding: {value}\r\n"),
            "5\r\nhello\r\n0\r\n\r\n",
        )
    };
    run(
        "A1",
        &[
            row(
                "SMUG-CL-TE-BOTH",
                post(
                    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                    "0\r\n\r\n",
                ),
                BAD,
            ),
            row(
                "SMUG-DUPLICATE-CL-SAME",
                post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
                BAD,
            ),
            row(
                "SMUG-DUPLICATE-CL",
                post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
                BAD,
            ),
            row("SMUG-CL-COMMA-SAME", cl("5, 5"), BAD),
            row("SMUG-CL-COMMA-DIFFERENT", cl("5, 6"), BAD),
            row("SMUG-CL-NEGATIVE", cl("-5"), BAD),
            row("SMUG-CL-LEADING-ZEROS", cl("005"), BAD),
            row("SMUG-CL-OCTAL", cl("0o5"), BAD),
            row("SMUG-CL-HEX-PREFIX", cl("0x5"), BAD),
            row("SMUG-CL-INTERNAL-SPACE", cl("5 5"), BAD),
            row("SMUG-CL-UNDERSCORE", cl("5_5"), BAD),
            row("SMUG-CL-PLUS", cl("+5"), BAD),
            row("MAL-CL-OVERFLOW", cl("18446744073709551621"), BAD),
            row("MAL-CL-EMPTY", cl(""), BAD),
            row("SMUG-TE-XCHUNKED", te("xchunked"), BAD),
            row("SMUG-TE-GZIP-CHUNKED", te("gzip, chunked"), CODING),
            row("SMUG-TE-CHUNKED-IDENTITY", te("chunked, identity"), BAD),
            row("SMUG-TE-DOUBLE-CHUNKED", te("chunked, chunked"), BAD),
            row("SMUG-TE-NOT-FINAL-CHUNKED", te("chunked, gzip"), BAD),
            row("SMUG-TE-LEADING-COMMA", te(", chunked"), BAD),
            row("SMUG-TE-EMPTY-VALUE", te(""), BAD),
            row(
                "SMUG-TE-DUPLICATE-HEADERS",
                te("chunked\r\nTransfer-Encoding: identity"),
                BAD,
            ),
            row(
                "SMUG-TE-HTTP10",
                "POST @P HTTP/1.0\r\nHost: h\r\n@ATransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                BAD,
            ),
            row("SMUG-TE-OBS-FOLD", te("\r\n chunked"), BAD),
        ],
    );
}

#[test]
fn a_request_whose_framing_has_one_reading_passes() {
    run(
        "A1",
        &[
            row(
                "SMUG-TE-CASE-MISMATCH",
                post("Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
                Want::Pass,
            ),
            row(
                "SMUG-TE-TRAILING-SPACE",
                post(
                    "Transfer-Encoding: chunked \t\r\n",
                    "5\r\nhello\r\n0\r\n\r\n",
                ),
                Want::Pass,
            ),
            row(
                "COMP-CL-OWS",
                post("Content-Length:\t 5 \r\n", "hello"),
                Want::Pass,
            ),
            row("COMP-GET-NO-BODY", get(""), Want::Pass),
        ],
    );
}
