//! Protocol switches: granted, refused, cut.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{ask, proxy, upstream};
use crate::exec::{self, Stopper};
use crate::proxy::{Pass, Policy};

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
