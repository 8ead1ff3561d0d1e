//! Tunnels: bytes in both directions after a protocol switch, until both sides end or it is cut.
//!
//! Large pieces between two connections without TLS are spliced; small pieces, and everything under
//! TLS, are copied through a pooled buffer. An idle tunnel holds neither a pipe nor a buffer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use smol::io::{AsyncRead as _, AsyncWrite as _};

use super::buffer::Buffer;
use super::pipe::{Pipe, SpliceError};
use super::socket::Socket;
use crate::clock;

/// Half-close timeout: after one side's FIN, the tunnel is closed when the other direction is idle
/// for this long. Browsers never close one direction alone, and a stream program whose page has
/// closed keeps its own side open as long as the streamer lives, possibly for ever.
const LINGER: Duration = Duration::from_secs(3);
/// Pieces after which a busy direction yields to the other tasks of its thread: 512 KiB of copied
/// bytes, about 100 us.
const YIELD_AFTER: u32 = 8;
/// Least average piece, in bytes, that is spliced: for smaller ones copying is cheaper than passing
/// references to pages.
const SPLICE_FROM: usize = 16 * 1024;

/// Bytes that went through a tunnel.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes from `a` to `b`.
    pub forth: AtomicU64,
    /// Bytes from `b` to `a`.
    pub back: AtomicU64,
}

impl Traffic {
    fn total(&self) -> u64 {
        self.forth.load(Ordering::Relaxed) + self.back.load(Ordering::Relaxed)
    }
}

/// Moves bytes in both directions until both have ended, one fails, or `cut` completes. The end of
/// one direction is passed on as a FIN; the other continues until it is idle for [`LINGER`].
/// `a_early` and `b_early` are bytes that were received from each side before the tunnel started.
pub(crate) async fn run(
    a: Socket,
    a_early: &[u8],
    b: Socket,
    b_early: &[u8],
    traffic: &Traffic,
    cut: impl Future<Output = ()>,
) {
    let mut tunnel = Tunnel {
        forth: Direction::new(a_early, &traffic.forth),
        back: Direction::new(b_early, &traffic.back),
        a,
        b,
    };
    let work = async {
        if poll_fn(|cx| tunnel.poll(cx, 1)).await.is_ok() {
            // Boxed to keep the long-lived future small: a half-close is rare.
            let mut rest = Box::pin(poll_fn(|cx| tunnel.poll(cx, 2)));
            let mut moved = traffic.total();
            while clock::by(clock::now() + LINGER, &mut rest).await.is_err() {
                let before = std::mem::replace(&mut moved, traffic.total());
                if moved == before {
                    break;
                }
            }
        }
    };
    // An error of either side ends the tunnel; nobody can be told.
    smol::future::or(work, cut).await;
}

/// Two sockets and both directions between them.
struct Tunnel<'a> {
    a: Socket,
    b: Socket,
    forth: Direction<'a>,
    back: Direction<'a>,
}

impl Tunnel<'_> {
    /// Moves what can be moved; ready when `enough` directions have ended.
    fn poll(&mut self, cx: &mut Context<'_>, enough: usize) -> Poll<io::Result<()>> {
        let forth = self.forth.poll(&mut self.a, &mut self.b, cx)?;
        let back = self.back.poll(&mut self.b, &mut self.a, cx)?;
        let ended = usize::from(forth.is_ready()) + usize::from(back.is_ready());
        if ended >= enough {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

/// One direction: reads from one socket, writes to the other.
struct Direction<'a> {
    early: &'a [u8],
    in_flight: InFlight,
    /// Moving average of the sizes of pieces, in bytes.
    size: usize,
    /// The kernel refused to splice.
    cannot_splice: bool,
    is_flushed: bool,
    half_close: HalfClose,
    moves: u32,
    count: &'a AtomicU64,
}

/// Bytes that were read and are not yet written.
enum InFlight {
    Nothing,
    Copied(Buffer, usize, usize),
    Piped(Pipe),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HalfClose {
    Open,
    /// The sender has ended its side; the FIN to the receiver is not sent yet.
    Closing,
    Closed,
}

impl<'a> Direction<'a> {
    fn new(early: &'a [u8], count: &'a AtomicU64) -> Self {
        Self {
            early,
            in_flight: InFlight::Nothing,
            size: 0,
            cannot_splice: false,
            is_flushed: true,
            half_close: HalfClose::Open,
            moves: 0,
            count,
        }
    }

    fn poll(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.half_close == HalfClose::Closed {
            return Poll::Ready(Ok(()));
        }
        self.moves = 0;
        loop {
            ready!(self.poll_write(to, cx))?;
            if self.half_close == HalfClose::Closing {
                ready!(Pin::new(to).poll_close(cx))?;
                self.half_close = HalfClose::Closed;
                return Poll::Ready(Ok(()));
            }
            self.moves += 1;
            if self.moves > YIELD_AFTER {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_read(from, to, cx))? == 0 {
                self.half_close = HalfClose::Closing;
            }
        }
    }

    /// Writes everything that is in flight.
    fn poll_write(&mut self, to: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.early.is_empty() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, self.early))?;
            self.early = &self.early[n..];
            self.count_written(n)?;
        }
        loop {
            let n = match (&mut self.in_flight, &mut *to) {
                (InFlight::Nothing, _) => break,
                (InFlight::Copied(buffer, start, end), to) => {
                    let n = ready!(Pin::new(to).poll_write(cx, &buffer.block()[*start..*end]))?;
                    *start += n;
                    if start == end {
                        self.in_flight = InFlight::Nothing;
                    }
                    n
                }
                (InFlight::Piped(pipe), Socket::Plain(to)) => {
                    let n = ready!(pipe.poll_drain(to, cx))?;
                    if pipe.is_empty() {
                        self.in_flight = InFlight::Nothing;
                    }
                    n
                }
                (InFlight::Piped(_), Socket::Tls(_)) => {
                    return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                }
            };
            self.count_written(n)?;
        }
        if !self.is_flushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn count_written(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        self.is_flushed = false;
        Ok(())
    }

    /// Reads the next piece; 0 is the end of the stream.
    fn poll_read(
        &mut self,
        from: &mut Socket,
        to: &Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(from.poll_readable(cx));
        if let (Socket::Plain(from), Socket::Plain(_)) = (&*from, to)
            && self.size >= SPLICE_FROM
            && !self.cannot_splice
            && let Some(mut pipe) = Pipe::take()
        {
            match pipe.poll_fill(from, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) => {
                    self.size = usize::midpoint(self.size, n);
                    self.in_flight = if n > 0 {
                        InFlight::Piped(pipe)
                    } else {
                        InFlight::Nothing
                    };
                    return Poll::Ready(Ok(n));
                }
                Poll::Ready(Err(SpliceError::Io(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(SpliceError::Unsupported)) => self.cannot_splice = true,
            }
        }
        let mut buffer = Buffer::largest();
        let n = ready!(Pin::new(from).poll_read(cx, buffer.block_mut()))?;
        self.size = usize::midpoint(self.size, n);
        if n > 0 {
            self.in_flight = InFlight::Copied(buffer, 0, n);
        }
        Poll::Ready(Ok(n))
    }
}

#[cfg(test)]
mod tests;
