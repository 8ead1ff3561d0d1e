//! A streamed answer of lines.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::Serialize;
use smol::channel::{Receiver, Sender, bounded};
use smol::io::AsyncRead;
use smol::stream::Stream as _;

use crate::http::Reply;

/// Lines that wait to be sent; a host list is the longest answer.
const WAITING_MAX: usize = 16;

/// Where lines are put; the answer ends when it is dropped.
pub(super) struct Lines(Sender<Vec<u8>>);

impl Lines {
    /// Adds a line; one that nobody reads any more is dropped.
    pub(super) async fn put(&self, value: &(impl Serialize + Sync)) {
        if let Ok(mut line) = serde_json::to_vec(value) {
            line.push(b'\n');
            let _ = self.0.send(line).await;
        }
    }
}

/// An answer and the place to put its lines.
pub(super) fn reply() -> (Reply, Lines) {
    let (sender, receiver) = bounded(WAITING_MAX);
    let content = Content {
        lines: Box::pin(receiver),
        rest: io::Cursor::default(),
    };
    let reply = Reply::stream("application/x-ndjson", content);
    (reply, Lines(sender))
}

struct Content {
    lines: Pin<Box<Receiver<Vec<u8>>>>,
    rest: io::Cursor<Vec<u8>>,
}

impl AsyncRead for Content {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let n = io::Read::read(&mut this.rest, buf)?;
            if n > 0 || buf.is_empty() {
                return Poll::Ready(Ok(n));
            }
            match ready!(this.lines.as_mut().poll_next(cx)) {
                Some(line) => this.rest = io::Cursor::new(line),
                None => return Poll::Ready(Ok(0)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smol::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn lines_come_whole_and_in_order_through_a_small_buffer() {
        let (sender, receiver) = bounded(2);
        let mut content = Content {
            lines: Box::pin(receiver),
            rest: io::Cursor::default(),
        };
        smol::block_on(async {
            let lines = Lines(sender);
            lines.put(&"a long first line").await;
            lines.put(&2).await;
            drop(lines);
            let mut text = String::new();
            let mut piece = [0; 4];
            loop {
                match content.read(&mut piece).await.unwrap() {
                    0 => break,
                    n => text.push_str(std::str::from_utf8(&piece[..n]).unwrap()),
                }
            }
            assert_eq!(text, "\"a long first line\"\n2\n");
        });
    }
}
