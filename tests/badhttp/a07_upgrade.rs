//! A7: the one protocol that is switched to, and everything that is not an upgrade to it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::client::{self, Got, connect};
use crate::rig::rig;

const LINES: &str = "Host: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn upgrade(script: &str) -> String {
    let path = rig().path(&format!("scripted/{script}/A7"));
    format!("GET {path} HTTP/1.1\r\n{LINES}\r\n")
}

/// Reads until `wanted` bytes came after the head.
fn tunnelled(stream: &mut TcpStream, wanted: usize) -> (String, Vec<u8>) {
    let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = client::find(&bytes, b"\r\n\r\n")
            && bytes.len() >= end + 4 + wanted
        {
            return (client::latin1(&bytes[..end]), bytes[end + 4..].to_vec());
        }
        let n = stream.read(&mut block).unwrap();
        assert!(n > 0, "closed after {}", client::latin1(&bytes));
        bytes.extend_from_slice(&block[..n]);
    }
}

fn each(check: impl Fn(&'static str, SocketAddr)) {
    for (role, address) in rig().roles() {
        check(role, address);
    }
}

#[test]
fn a_switch_becomes_a_tunnel_with_half_close() {
    each(|role, address| {
        let mut stream = connect(address);
        stream.write_all(upgrade("ws-echo").as_bytes()).unwrap();
        let (head, early) = tunnelled(&mut stream, 5);
        assert!(head.starts_with("HTTP/1.1 101 "), "{role}: {head}");
        assert!(head.contains("Sec-WebSocket-Accept: x"), "{role}: {head}");
        assert_eq!(early, b"early", "{role}");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n\0\xff").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"GET / HTTP/1.1\r\n\r\n\0\xff", "{role}");
    });
}

#[test]
fn bytes_before_the_switch_are_kept_for_after_it() {
    each(|role, address| {
        let mut stream = connect(address);
        let bytes = upgrade("ws-late") + "sent too early";
        stream.write_all(bytes.as_bytes()).unwrap();
        let (_, echoed) = tunnelled(&mut stream, "sent too early".len());
        assert_eq!(echoed, b"sent too early", "{role}");
    });
    // The script waited before it switched: nothing may have come to it until then.
    let seen = rig().seen();
    let before = seen.matches("ws-late").count();
    assert!(before >= 2, "{before}");
    for head in seen.split("GET ").filter(|h| h.contains("ws-late")) {
        let end = head.find("\r\n\r\n").unwrap();
        assert!(!head[..end].contains("sent too early"), "{head}");
    }
}

#[test]
fn an_upgrade_that_is_refused_is_answered_and_closes() {
    each(|role, address| {
        for (script, status) in [
            ("ws-200", 200),
            ("ws-403", 403),
            ("ws-426", 426),
            ("ws-drop", 502),
            ("ws-half", 502),
            ("ws-other", 502),
            ("ws-no-upgrade", 502),
        ] {
            let second = "GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
            let got = client::send(address, (upgrade(script) + second).as_bytes());
            assert_eq!(got.statuses(), [status], "{role} {script}");
            assert!(got.answers[0].closes() && got.closed, "{role} {script}");
        }
    });
}

#[test]
fn what_is_no_upgrade_is_an_ordinary_request() {
    let path = rig().path("mirror/A7-plain");
    let close = "Connection: close\r\n";
    let rows = [
        (
            "BODY",
            format!("GET {path} HTTP/1.1\r\n{LINES}{close}Content-Length: 5\r\n\r\nhello"),
        ),
        (
            "POST",
            format!("POST {path} HTTP/1.1\r\n{LINES}{close}Content-Length: 0\r\n\r\n"),
        ),
        (
            "H2C",
            format!(
                "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            ),
        ),
        (
            "NO-CONNECTION",
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n{close}\r\n"),
        ),
        ("HTTP10", format!("GET {path} HTTP/1.0\r\n{LINES}\r\n")),
    ];
    each(|role, address| {
        for (id, request) in &rows {
            let got: Got = client::send(address, request.as_bytes());
            // A protocol that nobody named is never switched to: HTTP goes on.
            assert_eq!(got.statuses(), [200], "{role} {id}");
            let mirrored = got.answers[0].text().to_lowercase();
            for never in ["upgrade:", "connection:", "http2-settings:"] {
                assert!(!mirrored.contains(never), "{role} {id}: {mirrored}");
            }
        }
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    each(|role, address| {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            rig().path("scripted/ws-echo/A7-unasked")
        );
        let got = client::send(address, request.as_bytes());
        assert_eq!(got.statuses(), [502], "{role}");
    });
}

#[test]
fn an_odd_version_is_for_the_stream_program_to_refuse() {
    each(|role, address| {
        let request = upgrade("ws-426").replace("Version: 13", "Version: 12");
        let got = client::send(address, request.as_bytes());
        assert_eq!(got.statuses(), [426], "{role}");
        assert_eq!(got.answers[0].field("sec-websocket-version"), Some("13"));
    });
}

#[test]
fn an_upgrade_of_the_api_is_answered_without_one_and_closes() {
    for (role, address) in rig().roles() {
        let upgrade = format!("GET /livez HTTP/1.1\r\n{LINES}\r\n");
        let second = "GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
        let got = client::send(address, (upgrade + second).as_bytes());
        assert_eq!(got.statuses(), [200], "{role}");
        assert!(got.answers[0].closes() && got.closed, "{role}");
    }
}
