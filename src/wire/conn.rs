//! One connection: a socket, a buffer of bytes that were received but not yet used, and a deadline.
//!
//! An idle connection holds no buffer. Bytes that follow one message are kept for the next, so
//! pipelined requests and early WebSocket frames are not lost.

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

/// Reads in a row after which a connection yields to the other tasks of its thread: 256 KiB of a
/// large body.
const YIELD_AFTER: u32 = 4;

/// Longest chunk-size line that is written, in bytes: 16 hex digits and CRLF.
const CHUNK_LINE: usize = 18;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    socket: Socket,
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    /// Least class (index in [`SIZES`]) of the next buffer.
    class: usize,
    /// Reads since the last one that found nothing, see [`YIELD_AFTER`].
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

    /// The underlying socket.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Moves an idle connection to this thread of the executor.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn move_to_this_thread(&mut self) -> io::Result<()> {
        self.socket.move_to_this_thread()
    }

    /// The deadline of reads and writes.
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

    /// The same bytes, to decode them in place.
    pub(super) fn unread_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer.block_mut()[self.start..self.end],
            None => &mut [],
        }
    }

    /// Removes `n` bytes from the front of [`Self::unread`].
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The socket, and the bytes that were read from it but not used.
    #[must_use]
    pub fn into_parts(self) -> (Socket, Vec<u8>) {
        let early = self.unread().to_vec();
        (self.socket, early)
    }

    /// Returns the buffer to the pool if it is empty.
    pub fn release_buffer(&mut self) {
        if self.start == self.end {
            self.buffer = None;
        }
    }

    /// Uses buffers of the largest size from now on: for large bodies.
    pub fn use_large_buffer(&mut self) {
        self.class = SIZES.len() - 1;
    }

    /// Makes room after the unread bytes: in the buffer, or with a larger one.
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

    /// Reads once and appends to [`Self::unread`]. Returns 0 when the peer has closed its side.
    /// Fails when the largest buffer is full: callers limit what they leave unread. No buffer is
    /// held while the socket has nothing to read.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline passes, else the error of the kernel.
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
                self.release_buffer();
            }
        }
        read
    }

    /// Writes all of `bytes` and flushes. Each write must make progress within `stall`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the peer stops reading, else the error of the kernel.
    pub async fn write_all(&mut self, bytes: &[u8], stall: Duration) -> io::Result<()> {
        self.write_parts(&mut [IoSlice::new(bytes)], stall).await
    }

    /// Writes all parts, in one system call if the kernel accepts them at once, and flushes.
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
            deadline.set(stall);
            let n = deadline.guard(socket.write_vectored(parts)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut parts, n);
        }
        if matches!(socket, Socket::Tls(_)) {
            deadline.guard(socket.flush()).await?;
        }
        deadline.clear();
        Ok(())
    }

    /// Writes `head` unchanged, then `piece` of the content, as a chunk if `chunked`.
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

    /// Closes so that the peer can still read our last response: shuts down our side, then reads
    /// and drops what arrives, up to `bytes` and `span`. Closing with unread bytes would make the
    /// kernel send a reset, and the peer would lose the response (RFC 9112 section 9.6).
    pub async fn linger(mut self, bytes: usize, span: Duration) {
        self.deadline.set(span);
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
    use std::net::TcpStream;

    fn pair() -> (TcpStream, Conn) {
        let (client, socket) = crate::wire::tests::pair();
        (client, Conn::new(socket))
    }

    #[test]
    fn a_connection_with_unlimited_input_yields_to_other_tasks() {
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
