//! The proxy between real sockets: a scripted upstream that records every byte it gets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{Pass, Policy, Proxy, Upstream};
use crate::exec::{self, Stopper};
use crate::http::client::Client;
use crate::http::server::{Admission, Listener, Service};
use crate::http::{Done, Exchange};
use crate::tls::Trust;

struct Through {
    proxy: Proxy,
    upstream: Upstream,
    policy: Policy,
}

#[async_trait]
impl Service for Through {
    async fn serve(&self, exchange: Exchange) -> Done {
        self.proxy
            .forward(exchange, &self.upstream, &self.policy)
            .await
    }
}

fn proxy(upstream: SocketAddr, policy: Policy) -> (SocketAddr, Stopper) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stopper, stop) = exec::stop();
    let proxy = Proxy::new(Client::new(&Trust::WebPki).unwrap());
    let service = Arc::new(Through {
        proxy,
        upstream: Upstream::Address(upstream),
        policy,
    });
    exec::spawn(listener.serve(service, Admission::default(), stop, Duration::ZERO)).detach();
    (address, stopper)
}

type Recorded = Arc<Mutex<Vec<String>>>;

/// An upstream that answers the n-th request of its life with the n-th answer. An answer that
/// begins with `!` closes the connection after it.
fn upstream(answers: &'static [&'static str]) -> (SocketAddr, Recorded) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Recorded::default();
    let record = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut got = Vec::new();
            let mut block = [0; 65_536];
            while let Ok(n) = stream.read(&mut block) {
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&block[..n]);
                if !is_whole(&got) {
                    continue;
                }
                record
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&got).into_owned());
                got.clear();
                let Some(answer) = answers.next() else { return };
                let _ = stream.write_all(answer.trim_start_matches('!').as_bytes());
                if answer.starts_with('!') {
                    break;
                }
            }
        }
    });
    (address, seen)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let lower = head.to_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    match lower
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
    {
        Some(n) => body.len() >= n.parse::<usize>().unwrap(),
        None => true,
    }
}

/// Sends and reads until the proxy closes.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"e\"\r\nX-Own: caf\u{e9}\r\n\r\nok";

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

#[test]
fn an_upgrade_becomes_a_tunnel_that_keeps_early_bytes_and_can_be_cut() {
    let (origin, _) = upstream(&[
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nearly",
        "echo",
    ]);
    let stoppers: Arc<Mutex<Vec<Stopper>>> = Arc::default();
    let kept = Arc::clone(&stoppers);
    let policy = Policy {
        on_tunnel: Some(Arc::new(move || {
            let (stopper, cut) = exec::stop();
            kept.lock().unwrap().push(stopper);
            Box::pin(std::future::ready(Pass {
                cut,
                keep: Box::new(()),
            }))
        })),
        ..Policy::default()
    };
    let (address, _stop) = proxy(origin, policy);
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // "GET" is sent again as a frame, so that the scripted upstream takes it for a request.
    stream
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .unwrap();
    let mut got = String::new();
    let mut block = [0; 1024];
    while !got.ends_with("early") {
        let n = stream.read(&mut block).unwrap();
        assert!(n > 0, "closed after {got}");
        got.push_str(&String::from_utf8_lossy(&block[..n]));
    }
    assert!(
        got.starts_with("HTTP/1.1 101 Switching Protocols\r\n")
            && got.contains("Sec-WebSocket-Accept: x"),
        "{got}"
    );
    stream.write_all(b"frame\r\n\r\n").unwrap();
    stream.read_exact(&mut block[..4]).unwrap();
    assert_eq!(&block[..4], b"echo");
    stoppers.lock().unwrap().clear();
    assert_eq!(stream.read(&mut block).unwrap(), 0);
}

#[test]
fn a_refused_upgrade_is_answered_and_closes() {
    let (origin, _) = upstream(&["HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"]);
    let (address, _stop) = proxy(origin, Policy::default());
    let got = ask(
        address,
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert!(
        got.starts_with("HTTP/1.1 403 ") && got.contains("connection: close"),
        "{got}"
    );
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
