//! The stream program of these tests: a recording relay in front of the built-in test card.
//!
//! `mirror/` answers with the request as it came, `scripted/<name>/` by a table, everything else
//! is the test card's. Every byte that arrives is appended to the file that the wrapper names,
//! before anything is answered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hydraneckwebrtc::testing::{clock, exec};

use crate::a09_upstream::script;
use crate::client::{find, latin1};

/// What the wrapper script passes on.
pub(crate) const RECORD: &str = "BADHTTP_RECORD";
pub(crate) const BINARY: &str = "BADHTTP_BINARY";

/// One thing a scripted upstream does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Pauses.
    Wait(Duration),
    /// Closes the connection.
    Close,
    /// Closes the connection with a reset.
    Reset,
    /// Sends back what comes until the peer ends its side.
    Echo,
    /// Sends bytes until nobody takes any.
    Flood,
}

pub(crate) fn run() {
    let record = std::env::var(RECORD).unwrap();
    let record = OpenOptions::new().create(true).append(true).open(record);
    let record = Arc::new(Mutex::new(record.unwrap()));
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read("server/config.json").unwrap()).unwrap();
    let own = config["web_server"]["bind_address"].as_str().unwrap();
    let listener = TcpListener::bind(own).unwrap();
    let behind = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let card = Command::new(std::env::var(BINARY).unwrap())
        .args(["testcard", "--bind-address", &behind.to_string()])
        .spawn()
        .unwrap();
    watch(card);
    for stream in listener.incoming().flatten() {
        let record = Arc::clone(&record);
        std::thread::spawn(move || {
            let _ = serve(stream, behind, &record);
        });
    }
}

/// Ends with the test card.
fn watch(mut card: Child) {
    std::thread::spawn(move || {
        let status = card.wait();
        std::process::exit(status.ok().and_then(|s| s.code()).unwrap_or(1));
    });
}

fn serve(mut stream: TcpStream, behind: SocketAddr, record: &Mutex<File>) -> io::Result<()> {
    loop {
        let mut bytes = Vec::new();
        while !is_whole(&bytes) {
            if take(&mut stream, &mut bytes, record).unwrap_or(0) == 0 {
                return note(record, "broken off", &bytes);
            }
            if wants_early_answer(&bytes) {
                break;
            }
        }
        if is_whole(&bytes) {
            note(record, "whole", &bytes)?;
        }
        let (line, target) = first_line(&bytes);
        let inner = target.splitn(4, '/').nth(3).unwrap_or_default();
        if inner.starts_with("mirror") {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                bytes.len()
            );
            stream.write_all(head.as_bytes())?;
            if !line.starts_with("HEAD") {
                stream.write_all(&bytes)?;
            }
            continue;
        }
        let Some(name) = inner.strip_prefix("scripted/") else {
            return pass_on(stream, &bytes, behind);
        };
        let name = name.split(['/', '?']).next().unwrap_or_default();
        for act in script(name) {
            match act {
                Act::Send(bytes) => stream.write_all(&bytes)?,
                Act::Wait(span) => exec::block_on(clock::sleep(span)),
                Act::Close => return stream.shutdown(Shutdown::Both),
                Act::Reset => {
                    return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                Act::Echo => {
                    let mut block = Vec::new();
                    while take(&mut stream, &mut block, record)? > 0 {
                        stream.write_all(&block)?;
                        block.clear();
                    }
                    return stream.shutdown(Shutdown::Write);
                }
                Act::Flood => loop {
                    stream.write_all(&[b'x'; 65_536])?;
                },
            }
        }
    }
}

fn first_line(bytes: &[u8]) -> (String, String) {
    let line = latin1(bytes.split(|b| *b == b'\r').next().unwrap_or_default());
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    (line, target)
}

/// Records what became of a request that has begun.
fn note(record: &Mutex<File>, what: &str, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let text = noted(what, &first_line(bytes).1);
    record.lock().unwrap().write_all(text.as_bytes())
}

/// How it stands in the record: `target` was received `whole`, or its connection ended before
/// that and it was `broken off`.
pub(crate) fn noted(what: &str, target: &str) -> String {
    format!("<<{what} {target}>>")
}

fn take(stream: &mut TcpStream, bytes: &mut Vec<u8>, record: &Mutex<File>) -> io::Result<usize> {
    let mut block = [0; 65_536];
    let n = stream.read(&mut block)?;
    record.lock().unwrap().write_all(&block[..n])?;
    bytes.extend_from_slice(&block[..n]);
    Ok(n)
}

/// The request goes to the test card, which is asked to close after its answer.
fn pass_on(mut stream: TcpStream, request: &[u8], behind: SocketAddr) -> io::Result<()> {
    let mut card = TcpStream::connect(behind)?;
    let end = find(request, b"\r\n").unwrap_or(0) + 2;
    card.write_all(&request[..end])?;
    if find(request, b"upgrade: websocket").is_none() {
        card.write_all(b"connection: close\r\n")?;
    }
    card.write_all(&request[end..])?;
    let (mut up, mut down) = (stream.try_clone()?, card.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut up, &mut down);
        let _ = down.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut card, &mut stream);
    stream.shutdown(Shutdown::Both)
}

/// Answered after the head: the content is for the script to ignore.
fn wants_early_answer(bytes: &[u8]) -> bool {
    find(bytes, b"/scripted/early-").is_some() && find(bytes, b"\r\n\r\n").is_some()
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = (latin1(&bytes[..end]).to_lowercase(), &bytes[end + 4..]);
    if head.contains("\r\ntransfer-encoding: chunked") {
        return body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n");
    }
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |n| n.trim().parse().unwrap())
}
