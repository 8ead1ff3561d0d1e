//! Heads in tables: one row, one result.

use super::limits::RELAYED_BYTES;
use super::*;

fn parse_request(head: &[u8]) -> Result<RequestHead, u16> {
    let len = HeadScanner::default()
        .scan(head, &HeadLimits::REQUEST)
        .map_err(HeadRefusal::status)?
        .ok_or(0_u16)?;
    RequestHead::parse(&head[..len], &HeadLimits::REQUEST).map_err(HeadRefusal::status)
}

#[test]
fn a_plain_request_is_accepted_with_its_raw_target() {
    let head =
        parse_request(b"GET /a/../%2e%2e/x?y=1 HTTP/1.1\r\nHost: a:80\r\nX: caf\xc3\xa9\r\n\r\n")
            .unwrap();
    assert_eq!(head.target, "/a/../%2e%2e/x?y=1");
    assert_eq!((head.path(), head.query()), ("/a/../%2e%2e/x", Some("y=1")));
    assert_eq!(head.fields.get("x"), Some(&b"caf\xc3\xa9"[..]));
    assert!(head.keep_alive && !head.is_upgrade);
}

#[test]
fn malformed_heads_are_refused_with_their_status() {
    for (head, status) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET /public HTTP/1.1\r\nHost: x/session/1?\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: u:p@x\r\n\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.01\r\nHost: a\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http:/// HTTP/1.0\r\n\r\n", 400),
        (b"GET http://u@a/ HTTP/1.0\r\n\r\n", 400),
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\r\nGET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"\r\nGET /\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
    ] {
        assert_eq!(
            parse_request(head).map(|_| ()),
            Err(status),
            "{}",
            String::from_utf8_lossy(head)
        );
    }
}

#[test]
fn limits_are_exact_to_the_byte() {
    let with_head = |n: usize| {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.resize(n - 4, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        head
    };
    assert!(parse_request(&with_head(HeadLimits::REQUEST.head)).is_ok());
    assert_eq!(
        parse_request(&with_head(HeadLimits::REQUEST.head + 1)).map(|_| ()),
        Err(431)
    );
    let with_lines = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(n - 1)
        )
        .into_bytes()
    };
    assert!(parse_request(&with_lines(100)).is_ok());
    assert_eq!(parse_request(&with_lines(101)).map(|_| ()), Err(431));
    let target =
        |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n - 1)).into_bytes();
    assert!(parse_request(&target(8_000)).is_ok());
    assert_eq!(parse_request(&target(8_001)).map(|_| ()), Err(414));
    assert_eq!(parse_request(&target(65_536)).map(|_| ()), Err(414));
    assert_eq!(parse_request(&vec![b'A'; 1 << 20]).map(|_| ()), Err(501));
}

#[test]
fn a_head_relayed_by_a_neck_may_exceed_the_limits_by_what_it_added() {
    let head = |via: &str, lines: usize, bytes: usize| {
        let mut head = format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n");
        head.push_str(&"X: y\r\n".repeat(lines - 3));
        head.push_str("X: ");
        head.push_str(&"z".repeat(bytes - head.len() - 4));
        head.push_str("\r\n\r\n");
        parse_request(head.as_bytes()).map(|h| h.fields.len())
    };
    let most = HeadLimits::REQUEST.head + RELAYED_BYTES;
    let via = "1.1 hydraneckwebrtc";
    assert_eq!(head(via, 108, most), Ok(108));
    assert_eq!(head(via, 109, most), Err(431));
    assert_eq!(head(via, 100, most + 1), Err(431));
    assert_eq!(head("1.1 other", 101, 1_000), Err(431));
    assert_eq!(
        head("1.1 other", 100, HeadLimits::REQUEST.head + 1),
        Err(431)
    );
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let head = b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    for cut in 0..head.len() {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.scan(&head[..cut], &HeadLimits::REQUEST), Ok(None));
        assert_eq!(
            scanner.scan(head, &HeadLimits::REQUEST),
            Ok(Some(head.len()))
        );
    }
    assert_eq!(parse_request(head).unwrap().target, "/x");
    let mut answer = HeadScanner::default();
    assert!(
        answer
            .scan(b"\r\nHTTP/1.1 200 OK\r\n\r\n", &HeadLimits::RESPONSE)
            .is_err()
    );
}

#[test]
fn a_head_split_anywhere_is_read_the_same() {
    let head = b"GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\nrest";
    for cut in 0..head.len() - 4 {
        let mut scanner = HeadScanner::default();
        let first = scanner.scan(&head[..cut], &HeadLimits::REQUEST).unwrap();
        assert_eq!(first, None);
        assert_eq!(
            scanner.scan(head, &HeadLimits::REQUEST),
            Ok(Some(head.len() - 4))
        );
    }
}

#[test]
fn only_a_valid_websocket_request_is_an_upgrade() {
    let up = |line: &str, extra: &str| {
        parse_request(
            format!("{line} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{extra}\r\n").as_bytes(),
        )
        .unwrap()
        .is_upgrade
    };
    assert!(up("GET /", "Connection: keep-alive, Upgrade\r\n"));
    assert!(!up("GET /", ""));
    assert!(!up("POST /", "Connection: upgrade\r\n"));
    assert!(!up("GET /", "Connection: upgrade\r\nContent-Length: 3\r\n"));
}

#[test]
fn the_number_of_connection_options_is_limited() {
    let head = |n: usize| {
        let options = vec!["close"; n].join(",");
        parse_request(
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n").as_bytes(),
        )
        .map(|head| head.keep_alive)
    };
    assert_eq!(head(1), Ok(false));
    assert_eq!(head(16), Ok(false));
    assert_eq!(head(17), Err(400));
}

#[test]
fn a_response_of_any_status_is_parsed() {
    let parse = |text: &str| ResponseHead::parse(text.as_bytes(), &HeadLimits::RESPONSE);
    assert_eq!(
        parse("HTTP/1.1 520 Odd\r\nA: b\r\n\r\n").unwrap().status,
        520
    );
    assert_eq!(parse("HTTP/1.0 299\r\n\r\n").unwrap().reason, "");
    assert!(parse("HTTP/1.1 099 x\r\n\r\n").is_err());
    assert!(parse("HTTP/2 200 x\r\n\r\n").is_err());
}
