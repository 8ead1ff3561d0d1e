//! Compares our parse of a byte stream with hyper's.
//!
//! The wire room is stricter: it may refuse what hyper accepts. What it accepts, hyper must parse the
//! same way: the same requests with the same methods, targets and content. Any difference would allow
//! request smuggling.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::wire::chunked::{self, ChunkEvent};
use crate::wire::framing::Framing;
use crate::wire::head::{HeadLimits, HeadScanner, RequestHead, Version};

/// Turns that the reference gets to read a stream of at most some kilobytes.
const TURNS: usize = 10_000;

/// What browsers send in targets and RFC 3986 does not have: the reference refuses them.
const BROWSERS_ONLY: [char; 5] = ['`', '{', '}', '|', '^'];

/// One request as somebody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Method and target.
    pub line: String,
    /// Content.
    pub body: Vec<u8>,
    /// Whether its end was seen.
    pub whole: bool,
}

/// Our reading: every whole request until one is refused, cut, or the last.
#[must_use]
pub fn ours(bytes: &[u8]) -> Vec<Heard> {
    let (mut rest, mut heard) = (bytes, Vec::new());
    while let Some((head, n)) = head(rest) {
        rest = &rest[n..];
        let Some((body, n)) = body(rest, head.framing) else {
            break;
        };
        rest = &rest[n..];
        let line = format!("{} {}", head.method.as_str(), head.target);
        heard.push(Heard {
            line,
            body,
            whole: true,
        });
        if !head.keep_alive || head.is_upgrade || head.version == Version::Http10 {
            break;
        }
    }
    heard
}

fn head(bytes: &[u8]) -> Option<(RequestHead, usize)> {
    let whole = HeadScanner::default().scan(bytes, &HeadLimits::REQUEST);
    // However the bytes arrive, the verdict is the same.
    let mut scanner = HeadScanner::default();
    let mut pieces = Ok(None);
    for end in 1..=bytes.len() {
        pieces = scanner.scan(&bytes[..end], &HeadLimits::REQUEST);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(
        pieces.ok().flatten(),
        whole.ok().flatten(),
        "{}",
        show(bytes)
    );
    let n = whole.ok()??;
    let head = RequestHead::parse(&bytes[..n], &HeadLimits::REQUEST).ok()?;
    Some((head, n))
}

fn body(bytes: &[u8], framing: Framing) -> Option<(Vec<u8>, usize)> {
    match framing {
        Framing::Empty => Some((Vec::new(), 0)),
        Framing::Length(n) => {
            let n = usize::try_from(n).ok()?;
            bytes.get(..n).map(|b| (b.to_vec(), n))
        }
        Framing::Chunked => {
            let whole = dechunk(bytes, usize::MAX);
            for piece in [1, 2, 3, 7] {
                assert_eq!(dechunk(bytes, piece), whole, "{} by {piece}", show(bytes));
            }
            whole
        }
        Framing::UntilClose => None,
    }
}

/// Content and length of a chunked body whose bytes arrive `piece` by `piece`.
fn dechunk(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
    let (mut scanner, mut body) = (chunked::ChunkScanner::default(), Vec::new());
    let (mut at, mut there) = (0, 0);
    loop {
        match scanner.step(&bytes[at..there]).ok()? {
            ChunkEvent::Skip(n) => at += n,
            ChunkEvent::Data(n) => {
                body.extend_from_slice(&bytes[at..at + n]);
                at += n;
            }
            ChunkEvent::End(n, _) => return Some((body, at + n)),
            ChunkEvent::More if there == bytes.len() => return None,
            ChunkEvent::More => there = there.saturating_add(piece).min(bytes.len()),
        }
    }
}

/// hyper's reading.
#[must_use]
pub fn reference(bytes: &[u8]) -> Vec<Heard> {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let heard = Rc::clone(&heard);
        async move {
            let (head, mut content) = request.into_parts();
            let target = head.uri.path_and_query().map_or("", |p| p.as_str());
            let line = format!("{} {target}", head.method);
            let at = heard.borrow().len();
            heard.borrow_mut().push(Heard {
                line,
                body: Vec::new(),
                whole: false,
            });
            loop {
                match poll_fn(|cx| Pin::new(&mut content).poll_frame(cx)).await {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            heard.borrow_mut()[at].body.extend_from_slice(&data);
                        }
                    }
                    Some(Err(_)) => break,
                    None => {
                        heard.borrow_mut()[at].whole = true;
                        break;
                    }
                }
            }
            Ok::<_, Infallible>(Response::new(Nothing))
        }
    });
    let memory = Memory {
        bytes: bytes.to_vec(),
        at: 0,
    };
    {
        let mut builder = http1::Builder::new();
        builder.half_close(true).header_read_timeout(None);
        let mut connection = pin!(builder.serve_connection(memory, service));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..TURNS {
            if connection.as_mut().poll(&mut cx).is_ready() {
                break;
            }
        }
    }
    heard.take()
}

/// Fails when the two read differently.
pub fn compare(bytes: &[u8]) {
    let (ours, theirs) = (ours(bytes), reference(bytes));
    for (n, own) in ours.iter().enumerate() {
        let other = theirs.get(n);
        if other.is_none() && own.line.contains(BROWSERS_ONLY) {
            break;
        }
        assert_eq!(Some(own), other, "request {n} of {}", show(bytes));
    }
}

/// A body alone, behind a head that announces it.
pub fn compare_chunks(body: &[u8]) {
    const HEAD: &[u8] = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bytes = [HEAD, body].concat();
    compare(&bytes);
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

struct Nothing;

impl hyper::body::Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

struct Memory {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let n = buf.remaining().min(self.bytes.len() - self.at);
        buf.put_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
