//! What of a request arrives at the upstream, and how often.

use super::{OK, ask, proxy, upstream};
use crate::proxy::Policy;

#[test]
fn path_and_content_arrive_byte_for_byte_and_claims_do_not() {
    let (origin, seen) = upstream(&[OK]);
    let policy = Policy {
        set: vec![("x-forwarded-user", "session-1".into())],
        cookies: Some(&["mlSession"]),
        ..Policy::default()
    };
    let (address, _stop) = proxy(origin, policy);
    let request = "POST /session/1/a/../%2e%2E//x;y?q=%00&{} HTTP/1.1\r\nHost: neck\r\nX-Forwarded-User: root\r\nX_Forwarded_User: root\r\nAuthorization: Bearer x\r\nCookie: a=b; mlSession=c\r\nX-Secret: s\r\nConnection: close, x-secret\r\nForwarded: for=1\r\nContent-Length: 5\r\n\r\n\u{0}\u{1}<&>";
    let answer = ask(address, request);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
        "{answer}"
    );
    let got = seen.lock().unwrap()[0].clone();
    assert!(
        got.starts_with("POST /session/1/a/../%2e%2E//x;y?q=%00&{} HTTP/1.1\r\n"),
        "{got}"
    );
    assert!(got.ends_with("\r\n\r\n\u{0}\u{1}<&>"), "{got}");
    assert!(
        got.contains("x-forwarded-user: session-1\r\n") && got.contains("cookie: mlSession=c\r\n"),
        "{got}"
    );
    for never in ["root", "Bearer", "a=b", "X-Secret", "for=1", "connection"] {
        assert!(!got.contains(never), "{never} in {got}");
    }
}

#[test]
fn chunked_content_is_forwarded_as_content_not_as_bytes() {
    let (origin, seen) = upstream(&[
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-T: 1\r\nSet-Cookie: a\r\n\r\n",
    ]);
    let (address, _stop) = proxy(origin, Policy::default());
    let answer = ask(
        address,
        "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX-Forwarded-User: root\r\n\r\n",
    );
    assert!(
        answer.ends_with("2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"),
        "{answer}"
    );
    let got = seen.lock().unwrap()[0].clone();
    assert!(
        got.ends_with("content-length: 3\r\n\r\nabc") && !got.contains("root"),
        "{got}"
    );
}

#[test]
fn a_stale_connection_is_replaced_once_and_unseen() {
    let (origin, seen) = upstream(&[OK, "!", OK]);
    let (address, _stop) = proxy(origin, Policy::default());
    let get = |n: u8| format!("GET /{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(ask(address, &get(1)).contains(" 200 OK"));
    // The second answer is nothing at all: the upstream closed the idle connection.
    assert!(ask(address, &get(2)).contains(" 200 OK"));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn large_chunked_content_is_streamed_as_chunks() {
    let (origin, seen) = upstream(&[OK]);
    let (address, _stop) = proxy(origin, Policy::default());
    let piece = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let answer = ask(
        address,
        &format!(
            "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{}0\r\n\r\n",
            piece.repeat(20)
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let got = seen.lock().unwrap()[0].clone();
    assert!(
        got.contains("transfer-encoding: chunked\r\n"),
        "{}",
        &got[..300]
    );
    assert_eq!(
        got.matches('x').count() - got[..got.find("\r\n\r\n").unwrap()].matches('x').count(),
        20 * 0x1000
    );
}

#[test]
fn a_post_whose_connection_breaks_is_not_sent_twice() {
    let (origin, seen) = upstream(&["!", OK]);
    let (address, _stop) = proxy(origin, Policy::default());
    let answer = ask(
        address,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
    );
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}
