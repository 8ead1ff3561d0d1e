//! A client that sends any bytes and parses the response strictly.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for bytes or for the end of a connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }

    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }
}

/// Everything that came back on one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    pub(crate) interim: Vec<u16>,
    pub(crate) answers: Vec<Response>,
    /// Bytes after the last whole answer.
    pub(crate) rest: Vec<u8>,
    /// Whether the server ended the connection, in time.
    pub(crate) closed: bool,
}

impl Got {
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(|a| a.status).collect()
    }
}

/// Bytes as text, one character each.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends `bytes` and reads until the server closes.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> Got {
    let mut stream = connect(address);
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(bytes);
    finish(&mut stream, false)
}

/// As [`send`], ending our side after the bytes.
pub(crate) fn send_and_end(address: SocketAddr, bytes: &[u8]) -> Got {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    finish(&mut stream, false)
}

/// As [`send`]; the first answer is to `HEAD` and has no content.
pub(crate) fn send_head(address: SocketAddr, bytes: &[u8]) -> Got {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    finish(&mut stream, true)
}

/// Reads until the server closes.
pub(crate) fn finish(stream: &mut TcpStream, to_head: bool) -> Got {
    let mut bytes = Vec::new();
    let mut block = vec![0; 65_536];
    let closed = loop {
        match stream.read(&mut block) {
            Ok(0) => break true,
            Ok(n) => bytes.extend_from_slice(&block[..n]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break true,
            Err(_) => break false,
        }
    };
    split(&bytes, closed, to_head)
}

/// Splits what came into answers.
pub(crate) fn split(bytes: &[u8], closed: bool, to_head: bool) -> Got {
    let mut got = Got {
        closed,
        ..Got::default()
    };
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let head = latin1(&rest[..end]);
        let Some(status) = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|h| h.get(..3))
            .and_then(|s| s.parse::<u16>().ok())
        else {
            break;
        };
        let after = &rest[end + 4..];
        if status < 200 && status != 101 {
            got.interim.push(status);
            rest = after;
            continue;
        }
        let mut answer = Response {
            status,
            head,
            body: Vec::new(),
        };
        let bodiless = status == 101 || status == 204 || status == 304;
        let taken = if bodiless || (to_head && got.answers.is_empty()) {
            Some(0)
        } else if answer.field("transfer-encoding").is_some() {
            chunked(after, &mut answer.body)
        } else if let Some(n) = answer.field("content-length") {
            let n = n.parse::<usize>().unwrap();
            (after.len() >= n).then(|| {
                answer.body.extend_from_slice(&after[..n]);
                n
            })
        } else {
            answer.body.extend_from_slice(after);
            closed.then_some(after.len())
        };
        let Some(taken) = taken else { break };
        got.answers.push(answer);
        rest = &after[taken..];
    }
    got.rest = rest.to_vec();
    got
}

fn chunked(bytes: &[u8], body: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let size = usize::from_str_radix(&latin1(&bytes[at..at + line]), 16).ok()?;
        at += line + 2;
        if size == 0 {
            let end = find(&bytes[at - 2..], b"\r\n\r\n")?;
            return Some(at - 2 + end + 4);
        }
        let data = bytes.get(at..at + size)?;
        body.extend_from_slice(data);
        at += size + 2;
    }
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}
