//! Whatever the upstream answers, clients get one honest answer or a clear end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::{ask, proxy, upstream};
use crate::proxy::Policy;

#[test]
fn answers_of_every_framing_reach_the_client_whole() {
    for (answer, want) in [
        (
            "!HTTP/1.0 200 OK\r\n\r\nuntil close",
            "b\r\nuntil close\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "\r\n\r\nok",
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: e\r\n\r\n",
            "\r\n\r\n",
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            "\r\n\r\n",
        ),
        (
            "HTTP/1.1 520 Odd\r\nContent-Length: 1\r\n\r\nx",
            "\r\n\r\nx",
        ),
    ] {
        let (origin, _) = upstream(Box::leak(Box::new([answer])));
        let (address, _stop) = proxy(origin, Policy::default());
        let got = ask(
            address,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert!(got.ends_with(want), "{answer:?} -> {got:?}");
        assert!(got.to_lowercase().contains("\r\ndate: "), "{got:?}");
        assert!(!got.contains("204 No Content\r\nContent-Length"), "{got:?}");
    }
}

#[test]
fn malformed_answers_become_502_and_cut_ones_are_never_whole() {
    for answer in [
        "!",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let (origin, _) = upstream(Box::leak(Box::new([answer])));
        let (address, _stop) = proxy(origin, Policy::default());
        let got = ask(
            address,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert!(
            got.starts_with("HTTP/1.1 502 ") && got.contains("\"bad_gateway\""),
            "{answer:?} -> {got:?}"
        );
    }
    let (origin, _) = upstream(&["!HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]);
    let (address, _stop) = proxy(origin, Policy::default());
    let got = ask(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        got.contains("Content-Length: 9") || got.contains("content-length: 9"),
        "{got}"
    );
    assert!(got.ends_with("short"), "{got}");
}

#[test]
fn a_browser_sees_a_page_where_a_program_sees_json() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let policy = Policy {
        error_page: Some(Arc::new(|status| format!("<h1>{status}</h1>"))),
        ..Policy::default()
    };
    let (address, _stop) = proxy(dead, policy);
    let page = ask(
        address,
        "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
    );
    assert!(
        page.starts_with("HTTP/1.1 502 ") && page.ends_with("<h1>502</h1>"),
        "{page}"
    );
    let json = ask(
        address,
        "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    );
    assert!(json.contains("\"request_id\""), "{json}");
}

#[test]
fn memory_stays_flat_when_a_client_stops_reading() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = listener.local_addr().unwrap();
    let (sent, written) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut block = [0; 4096];
        let _ = stream.read(&mut block);
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        let (mut total, block) = (0_usize, vec![0_u8; 65_536]);
        while let Ok(n) = stream.write(&block) {
            total += n;
        }
        sent.send(total).unwrap();
    });
    let (address, _stop) = proxy(origin, Policy::default());
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let total = written.recv_timeout(Duration::from_secs(60)).unwrap();
    // What fits into kernel buffers on the way, and no more.
    assert!(
        total < 64 * 1024 * 1024,
        "{total} bytes were taken from the upstream"
    );
}
