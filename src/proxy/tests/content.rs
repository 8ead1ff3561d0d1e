//! Content that is too large to be taken in whole: it streams, and may break off on either side.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{ask, proxy};
use crate::proxy::Policy;

const PATIENCE: Duration = Duration::from_secs(10);
/// More than is taken in before it is forwarded.
const LARGE: usize = 20_000;
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An upstream that answers every head with `early` at once, goes on reading the content as
/// servers do, and says `OK` after it. Tells how many bytes of the content came before it ended,
/// and whether that was all.
fn eager(early: &'static [u8]) -> (SocketAddr, Receiver<(usize, bool)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            std::thread::spawn(move || serve(stream, early, |n, whole| tell.send((n, whole))));
        }
    });
    (address, told)
}

fn serve<E>(stream: TcpStream, early: &[u8], tell: impl Fn(usize, bool) -> Result<(), E>) {
    let (mut got, mut block) = (Vec::new(), vec![0; 65_536]);
    let mut more = |got: &mut Vec<u8>| {
        let n = (&stream).read(&mut block).unwrap_or(0);
        got.extend_from_slice(&block[..n]);
        n > 0
    };
    loop {
        let end = loop {
            if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !more(&mut got) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
        got.drain(..end);
        let is_chunked = head.contains("transfer-encoding: chunked");
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "));
        let length = length.map_or(0, |n| n.parse::<usize>().unwrap());
        let is_whole = |got: &[u8]| match is_chunked {
            true => got.ends_with(b"0\r\n\r\n"),
            false => got.len() >= length,
        };
        let has_content = is_chunked || length > 0;
        if has_content {
            (&stream).write_all(early).unwrap();
        }
        while !is_whole(&got) {
            if !more(&mut got) {
                let _ = tell(got.len(), false);
                return;
            }
        }
        if has_content {
            let _ = tell(got.len(), true);
        }
        got.clear();
        if (&stream).write_all(OK).is_err() {
            return;
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut got, mut block) = (String::new(), [0; 1024]);
    while !got.ends_with(end) {
        let n = stream.read(&mut block).unwrap();
        assert!(n > 0, "ended after {got:?}");
        got.push_str(&String::from_utf8_lossy(&block[..n]));
    }
    got
}

/// What the next request is would be up to whoever sent the rest of this one's content.
#[test]
fn a_connection_whose_request_was_not_sent_whole_is_never_used_again() {
    let early = b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno";
    let (origin, told) = eager(early);
    let (address, _stop) = proxy(origin, Policy::default());
    let mut stream = connect(address);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[b'x'; LARGE]).unwrap();
    let got = read_until(&mut stream, "no");
    assert!(
        got.starts_with("HTTP/1.1 413 ") && got.contains("connection: close"),
        "{got}"
    );
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    assert!(ask(address, GET).starts_with("HTTP/1.1 200 "));
    let (sent, whole) = told.recv_timeout(PATIENCE).unwrap();
    assert!(!whole && sent <= LARGE, "{sent} bytes, whole: {whole}");
}

#[test]
fn an_interim_answer_does_not_end_the_content() {
    let (origin, told) = eager(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n");
    let (address, _stop) = proxy(origin, Policy::default());
    let mut stream = connect(address);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[b'x'; LARGE]).unwrap();
    let got = read_until(&mut stream, "\r\n\r\n");
    assert!(got.starts_with("HTTP/1.1 103 "), "{got}");
    stream.write_all(&[b'x'; LARGE]).unwrap();
    let got = read_until(&mut stream, "ok");
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (2 * LARGE, true));
}

#[test]
fn content_that_breaks_off_or_turns_bad_is_never_ended_for_the_upstream() {
    let large = format!("{:x}\r\n{}\r\n", 3 * LARGE, "x".repeat(3 * LARGE));
    for bad in ["zz\r\n", "1\r\nxy", "1\n", "0\r\nX : y\r\n\r\n"] {
        let (origin, told) = eager(b"");
        let (address, _stop) = proxy(origin, Policy::default());
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{large}{bad}{GET}"
        );
        let got = ask(address, &request);
        assert!(got.starts_with("HTTP/1.1 400 "), "{bad:?}: {got}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{bad:?}: {got}");
        let (_, whole) = told.recv_timeout(PATIENCE).unwrap();
        assert!(!whole, "{bad:?}");
    }
}
