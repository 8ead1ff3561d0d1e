//! One connection: a socket, the bytes received but not yet used, and a deadline.
//!
//! An idle connection holds no buffer. What arrives after one message stays for the next, so
//! pipelined requests and early WebSocket frames are never lost.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use smol::io::{AsyncRead as _, AsyncWriteExt as _};

use super::alarm::Alarm;
use super::head::{Limits, Refusal, RequestHead, ResponseHead, Scanner};
use super::socket::Socket;

/// Buffer sizes: a head of a browser, the largest head, a bulk body (the size at which a copy
/// loop stops gaining).
const SIZES: [usize; 3] = [4 * 1024, 32 * 1024, 64 * 1024];
/// Idle buffers kept of each size, at most 6.4 MiB in all.
const SPARE: usize = 64;

/// Reads in a row after which a connection that always has more lets other tasks of its thread
/// run: a MiB of a bulk body.
const TURN: u32 = 16;

static POOLS: [Mutex<Vec<Box<[u8]>>>; 3] = [const { Mutex::new(Vec::new()) }; 3];

/// A pooled block of memory that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    block: Box<[u8]>,
    class: usize,
}

impl Buffer {
    /// One of the largest size.
    pub(super) fn bulk() -> Self {
        Self::take(SIZES.len() - 1)
    }

    pub(super) fn block(&self) -> &[u8] {
        &self.block
    }

    pub(super) fn block_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }

    fn take(class: usize) -> Self {
        let spare = POOLS[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Self {
            block: spare.unwrap_or_else(|| vec![0; SIZES[class]].into_boxed_slice()),
            class,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOLS[self.class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if pool.len() < SPARE {
            pool.push(std::mem::take(&mut self.block));
        }
    }
}

/// Why no head could be read.
#[derive(Debug)]
pub enum HeadError {
    /// The peer broke off or the kernel failed.
    Io(io::Error),
    /// The bytes are no acceptable head.
    Refused(Refusal),
    /// The deadline came; `started` says whether part of a head was there.
    Timeout {
        /// Whether at least one byte had come.
        started: bool,
    },
}

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
    turn: u32,
    alarm: Alarm,
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
            turn: 0,
            alarm: Alarm::new(),
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
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Bytes received but not yet used.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.buffer
            .as_ref()
            .map_or(&[], |b| &b.block[self.start..self.end])
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
        if self.end < buffer.block.len() {
            return Ok(());
        }
        if self.start > 0 {
            buffer.block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            return Ok(());
        }
        let class = self.class.max(buffer.class + 1);
        if class == SIZES.len() {
            return Err(io::Error::other("too many unread bytes on a connection"));
        }
        let mut wide = Buffer::take(class);
        wide.block[..self.end].copy_from_slice(&buffer.block);
        self.buffer = Some(wide);
        Ok(())
    }

    /// Reads once, appending to [`Self::unread`]. 0 means the peer has closed its side. When the
    /// largest buffer is full of unread bytes the answer is an error: callers bound what they
    /// leave unread. There is no buffer while nothing is there to be read.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the alarm goes off, else as the kernel says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let alarm = self.alarm.clone();
        alarm.guard(poll_fn(|cx| self.poll_fill(cx))).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.turn == TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.start == self.end {
            if !self.socket.may_read() {
                self.buffer = None;
            }
            if self.socket.poll_readable(cx).is_pending() {
                self.turn = 0;
                return Poll::Pending;
            }
        }
        self.make_room()?;
        let Some(buffer) = &mut self.buffer else {
            return Poll::Ready(Ok(0));
        };
        let room = &mut buffer.block[self.end..];
        let read = Pin::new(&mut self.socket).poll_read(cx, room);
        match read {
            Poll::Ready(Ok(n)) => {
                self.end += n;
                self.turn += 1;
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.turn = 0;
                self.rest();
            }
        }
        read
    }

    /// Reads a request head. `None` when the peer closed before the first byte. `idle` bounds the
    /// wait for the first byte, `span` that for the rest of the head.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub async fn read_request(
        &mut self,
        limits: &Limits,
        idle: Duration,
        span: Duration,
    ) -> Result<Option<RequestHead>, HeadError> {
        let Some(len) = self.read_head(limits, idle, span).await? else {
            return Ok(None);
        };
        let head = RequestHead::parse(&self.unread()[..len], limits).map_err(HeadError::Refused)?;
        self.consume(len);
        Ok(Some(head))
    }

    /// Reads a response head. `None` when the peer closed before the first byte.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub async fn read_response(
        &mut self,
        limits: &Limits,
        span: Duration,
    ) -> Result<Option<ResponseHead>, HeadError> {
        let Some(len) = self.read_head(limits, span, span).await? else {
            return Ok(None);
        };
        let head =
            ResponseHead::parse(&self.unread()[..len], limits).map_err(HeadError::Refused)?;
        self.consume(len);
        Ok(Some(head))
    }

    async fn read_head(
        &mut self,
        limits: &Limits,
        idle: Duration,
        span: Duration,
    ) -> Result<Option<usize>, HeadError> {
        let mut scanner = Scanner::default();
        let mut started = !self.unread().is_empty();
        self.alarm.arm(if started { span } else { idle });
        loop {
            if let Some(len) = scanner
                .scan(self.unread(), limits)
                .map_err(HeadError::Refused)?
            {
                self.alarm.disarm();
                return Ok(Some(len));
            }
            match self.fill().await {
                Ok(0) if !started => return Ok(None),
                Ok(0) => return Err(HeadError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) if !started => {
                    started = true;
                    self.alarm.arm(span);
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Err(HeadError::Timeout { started });
                }
                Err(e) => return Err(HeadError::Io(e)),
            }
        }
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
        let Self { socket, alarm, .. } = self;
        while !parts.is_empty() {
            alarm.arm(stall);
            let n = alarm.guard(socket.write_vectored(parts)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut parts, n);
        }
        if matches!(socket, Socket::Tls(_)) {
            alarm.guard(socket.flush()).await?;
        }
        alarm.disarm();
        Ok(())
    }

    /// Closes after an answer that the peer must still be able to read: ends our side, then takes
    /// what still comes, up to `bytes` and `span`, because closing with unread bytes would make
    /// the kernel throw the answer away (RFC 9112 section 9.6).
    pub async fn linger(mut self, bytes: usize, span: Duration) {
        self.alarm.arm(span);
        let Self { socket, alarm, .. } = &mut self;
        let _ = alarm.guard(socket.close()).await;
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

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (TcpStream, Conn) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            client,
            Conn::new(Socket::plain(listener.accept().unwrap().0).unwrap()),
        )
    }

    fn request(conn: &mut Conn) -> Result<Option<RequestHead>, HeadError> {
        smol::block_on(conn.read_request(&Limits::REQUEST, SOON, SOON))
    }

    #[test]
    fn pipelined_requests_are_read_one_after_the_other() {
        let (mut client, mut conn) = pair();
        client
            .write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        drop(client);
        assert_eq!(request(&mut conn).unwrap().unwrap().target, "/1");
        assert_eq!(request(&mut conn).unwrap().unwrap().target, "/2");
        assert!(request(&mut conn).unwrap().is_none());
    }

    #[test]
    fn a_head_larger_than_the_first_buffer_is_read_whole() {
        let (mut client, mut conn) = pair();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(12_000)
        );
        client.write_all(head.as_bytes()).unwrap();
        assert_eq!(
            request(&mut conn)
                .unwrap()
                .unwrap()
                .fields
                .get("x")
                .unwrap()
                .len(),
            12_000
        );
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
            assert!(in_a_row <= TURN);
        }
        drop(conn);
        writer.join().unwrap();
    }

    #[test]
    fn half_a_head_times_out_as_started_and_silence_as_idle() {
        let (mut client, mut conn) = pair();
        let short = Duration::from_millis(1);
        let silent = smol::block_on(conn.read_request(&Limits::REQUEST, short, SOON));
        assert!(matches!(silent, Err(HeadError::Timeout { started: false })));
        client.write_all(b"GET / HT").unwrap();
        let half = smol::block_on(conn.read_request(&Limits::REQUEST, SOON, short));
        assert!(matches!(half, Err(HeadError::Timeout { started: true })));
    }

    #[test]
    fn a_line_without_end_is_refused_at_the_limit() {
        let (mut client, mut conn) = pair();
        let writer = std::thread::spawn(move || {
            let _ = client.write_all(b"GET / HTTP/1.1\r\nX: ");
            while client.write_all(&[b'a'; 65_536]).is_ok() {}
        });
        let refused = request(&mut conn);
        assert!(matches!(
            refused,
            Err(HeadError::Refused(Refusal::HeadTooLarge(_)))
        ));
        drop(conn);
        writer.join().unwrap();
    }
}
