//! One connection: a socket, the bytes received but not yet used, and a deadline.
//!
//! An idle connection holds no buffer. What arrives after one message stays for the next, so
//! pipelined requests and early WebSocket frames are never lost.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use smol::io::{AsyncRead as _, AsyncWriteExt as _};

use super::buffer::{Buffer, SIZES};
use super::deadline::Deadline;
use super::digits;
use super::socket::Socket;

/// Reads in a row after which a connection that always has more lets other tasks of its thread
/// run: a MiB of a bulk body.
const YIELD_AFTER: u32 = 16;

/// Room for a chunk-size line: 16 hex digits and CRLF.
const CHUNK_LINE: usize = 18;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    socket: Socket,
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    /// Class of the buffer that the next bytes are read into.
    class: usize,
    /// Reads since there was last nothing to read.
    reads: u32,
    deadline: Deadline,
}

impl Conn {
    /// Wraps a socket.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            buffer: None,
            start: 0,
            end: 0,
            class: 0,
            reads: 0,
            deadline: Deadline::new(),
        }
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Moves an idle connection to this thread of the executor.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn adopt(&mut self) -> io::Result<()> {
        self.socket.adopt()
    }

    /// The deadline of what is read and written next.
    #[must_use]
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Bytes received but not yet used.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.buffer
            .as_ref()
            .map_or(&[], |b| &b.block()[self.start..self.end])
    }

    /// The same bytes, for decoding them in place.
    pub(super) fn unread_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer.block_mut()[self.start..self.end],
            None => &mut [],
        }
    }

    /// Drops `n` bytes from the front of [`Self::unread`].
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the socket away together with the bytes that came early.
    #[must_use]
    pub fn into_parts(self) -> (Socket, Vec<u8>) {
        let early = self.unread().to_vec();
        (self.socket, early)
    }

    /// Gives the buffer back when nothing is in it.
    pub fn rest(&mut self) {
        if self.start == self.end {
            self.buffer = None;
        }
    }

    /// From now on reads in pieces as large as a bulk body is read best.
    pub fn widen(&mut self) {
        self.class = SIZES.len() - 1;
    }

    /// Makes room behind the unread bytes.
    fn make_room(&mut self) -> io::Result<()> {
        let Some(buffer) = &mut self.buffer else {
            self.buffer = Some(Buffer::take(self.class));
            return Ok(());
        };
        if self.end < buffer.block().len() {
            return Ok(());
        }
        if self.start > 0 {
            buffer.block_mut().copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            return Ok(());
        }
        let class = self.class.max(buffer.class + 1);
        if class == SIZES.len() {
            return Err(io::Error::other("too many unread bytes on a connection"));
        }
        let mut wide = Buffer::take(class);
        wide.block_mut()[..self.end].copy_from_slice(buffer.block());
        self.buffer = Some(wide);
        Ok(())
    }

    /// Reads once, appending to [`Self::unread`]. 0 means the peer has closed its side. When the
    /// largest buffer is full of unread bytes the answer is an error: callers bound what they
    /// leave unread. There is no buffer while nothing is there to be read.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline goes off, else as the kernel says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let deadline = self.deadline.clone();
        deadline.guard(poll_fn(|cx| self.poll_fill(cx))).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.reads == YIELD_AFTER {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.start == self.end {
            if !self.socket.may_read() {
                self.buffer = None;
            }
            if self.socket.poll_readable(cx).is_pending() {
                self.reads = 0;
                return Poll::Pending;
            }
        }
        self.make_room()?;
        let Some(buffer) = &mut self.buffer else {
            return Poll::Ready(Ok(0));
        };
        let room = &mut buffer.block_mut()[self.end..];
        let read = Pin::new(&mut self.socket).poll_read(cx, room);
        match read {
            Poll::Ready(Ok(n)) => {
                self.end += n;
                self.reads += 1;
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.reads = 0;
                self.rest();
            }
        }
        read
    }

    /// Writes all of `bytes` and flushes. Each write must make progress within `stall`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the peer stops reading, else as the kernel says.
    pub async fn write_all(&mut self, bytes: &[u8], stall: Duration) -> io::Result<()> {
        self.write_parts(&mut [IoSlice::new(bytes)], stall).await
    }

    /// Writes all parts, in one system call where the kernel takes them, and flushes.
    ///
    /// # Errors
    /// As [`Self::write_all`].
    pub async fn write_parts(
        &mut self,
        mut parts: &mut [IoSlice<'_>],
        stall: Duration,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        let Self {
            socket, deadline, ..
        } = self;
        while !parts.is_empty() {
            deadline.arm(stall);
            let n = deadline.guard(socket.write_vectored(parts)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut parts, n);
        }
        if matches!(socket, Socket::Tls(_)) {
            deadline.guard(socket.flush()).await?;
        }
        deadline.disarm();
        Ok(())
    }

    /// Writes `head` as it is, then `piece` of a message's content, as a chunk where `chunked`.
    ///
    /// # Errors
    /// As [`Self::write_all`].
    pub async fn write_piece(
        &mut self,
        head: &[u8],
        piece: &[u8],
        chunked: bool,
        stall: Duration,
    ) -> io::Result<()> {
        if !chunked || piece.is_empty() {
            let mut parts = [IoSlice::new(head), IoSlice::new(piece)];
            return self.write_parts(&mut parts, stall).await;
        }
        let mut size = Vec::with_capacity(CHUNK_LINE);
        digits::chunk_size(&mut size, piece.len());
        let mut parts = [
            IoSlice::new(head),
            IoSlice::new(&size),
            IoSlice::new(piece),
            IoSlice::new(b"\r\n"),
        ];
        self.write_parts(&mut parts, stall).await
    }

    /// Closes after an answer that the peer must still be able to read: ends our side, then takes
    /// what still comes, up to `bytes` and `span`, because closing with unread bytes would make
    /// the kernel throw the answer away (RFC 9112 section 9.6).
    pub async fn linger(mut self, bytes: usize, span: Duration) {
        self.deadline.arm(span);
        let Self {
            socket, deadline, ..
        } = &mut self;
        let _ = deadline.guard(socket.close()).await;
        let mut taken = self.unread().len();
        self.consume(taken);
        while taken < bytes {
            match self.fill().await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    self.consume(n);
                    taken += n;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, Conn) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            client,
            Conn::new(Socket::plain(listener.accept().unwrap().0).unwrap()),
        )
    }

    #[test]
    fn a_connection_that_always_has_more_lets_others_run_in_between() {
        let (mut client, mut conn) = pair();
        let writer = std::thread::spawn(move || while client.write_all(&[0; 65_536]).is_ok() {});
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut in_a_row, mut read) = (0, 0);
        while read < 1_000 {
            match conn.poll_fill(&mut cx) {
                Poll::Pending => in_a_row = 0,
                Poll::Ready(n) => {
                    conn.consume(n.unwrap());
                    (in_a_row, read) = (in_a_row + 1, read + 1);
                }
            }
            assert!(in_a_row <= YIELD_AFTER);
        }
        drop(conn);
        writer.join().unwrap();
    }
}
