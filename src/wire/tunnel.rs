//! Tunnels: bytes both ways after a protocol switch, until both sides are done or it is cut.
//!
//! Large pieces between two plain connections are spliced; small ones, and all under TLS, are
//! copied through a pooled buffer. While nothing is in flight a tunnel holds neither.

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

/// How long one direction may be silent once the other has ended: time for the answer to a goodbye.
/// No browser ends one direction alone, and a stream program that sees its page end keeps its own
/// open for as long as the streamer lives, which may be for ever. What still moves goes on.
const LINGER: Duration = Duration::from_secs(3);
/// Pieces after which a busy direction lets other tasks of its thread run: half a MiB of copied
/// bytes, about 100 us.
const YIELD_AFTER: u32 = 8;
/// Size of pieces from which on splicing pays: below, two references to pages cost more than
/// copying them.
const SPLICE_FROM: usize = 16 * 1024;

/// What went through a tunnel.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes from `a` to `b`.
    pub forth: AtomicU64,
    /// Bytes from `b` to `a`.
    pub back: AtomicU64,
}

impl Traffic {
    fn total(&self) -> u64 {
        let ways = [&self.forth, &self.back];
        ways.iter().map(|way| way.load(Ordering::Relaxed)).sum()
    }
}

/// Copies both ways until both directions have ended, an error, or `cut` is done. The end of one
/// direction is passed on and the other goes on until it is silent for [`LINGER`] (half-close).
/// `a_early` and `b_early` are bytes that came from each side before the tunnel stood.
pub async fn run(
    a: Socket,
    a_early: &[u8],
    b: Socket,
    b_early: &[u8],
    traffic: &Traffic,
    cut: impl Future<Output = ()>,
) {
    let mut both = Tunnel {
        forth: Direction::new(a_early, &traffic.forth),
        back: Direction::new(b_early, &traffic.back),
        a,
        b,
    };
    let work = async {
        if poll_fn(|cx| both.poll(cx, 1)).await.is_ok() {
            // Boxed: it is seldom needed, and a tunnel's future lives long.
            let mut rest = Box::pin(poll_fn(|cx| both.poll(cx, 2)));
            let mut moved = traffic.total();
            while clock::by(clock::now() + LINGER, &mut rest).await.is_err() {
                let before = std::mem::replace(&mut moved, traffic.total());
                if moved == before {
                    break;
                }
            }
        }
    };
    // An error of either side ends the tunnel; there is nobody to tell it to.
    smol::future::or(work, cut).await;
}

/// Both directions between two sockets.
struct Tunnel<'a> {
    a: Socket,
    b: Socket,
    forth: Direction<'a>,
    back: Direction<'a>,
}

impl Tunnel<'_> {
    /// Moves what there is to move; ready when `enough` directions have ended.
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

/// One direction.
struct Direction<'a> {
    early: &'a [u8],
    held: InFlight,
    /// Size of the last pieces, the newest counting half.
    size: usize,
    /// Whether the kernel refused to splice.
    cannot_splice: bool,
    is_flushed: bool,
    stage: HalfClose,
    moves: u32,
    count: &'a AtomicU64,
}

/// Bytes on their way.
enum InFlight {
    Nothing,
    Copied(Buffer, usize, usize),
    Piped(Pipe),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HalfClose {
    Open,
    /// The sender has ended; the receiver is to be told.
    Ending,
    Ended,
}

impl<'a> Direction<'a> {
    fn new(early: &'a [u8], count: &'a AtomicU64) -> Self {
        Self {
            early,
            held: InFlight::Nothing,
            size: 0,
            cannot_splice: false,
            is_flushed: true,
            stage: HalfClose::Open,
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
        if self.stage == HalfClose::Ended {
            return Poll::Ready(Ok(()));
        }
        self.moves = 0;
        loop {
            ready!(self.poll_send(to, cx))?;
            if self.stage == HalfClose::Ending {
                ready!(Pin::new(to).poll_close(cx))?;
                self.stage = HalfClose::Ended;
                return Poll::Ready(Ok(()));
            }
            self.moves += 1;
            if self.moves > YIELD_AFTER {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_take(from, to, cx))? == 0 {
                self.stage = HalfClose::Ending;
            }
        }
    }

    /// Sends all that is held.
    fn poll_send(&mut self, to: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.early.is_empty() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, self.early))?;
            self.early = &self.early[n..];
            self.passed(n)?;
        }
        loop {
            let n = match (&mut self.held, &mut *to) {
                (InFlight::Nothing, _) => break,
                (InFlight::Copied(buffer, start, end), to) => {
                    let n = ready!(Pin::new(to).poll_write(cx, &buffer.block()[*start..*end]))?;
                    *start += n;
                    if start == end {
                        self.held = InFlight::Nothing;
                    }
                    n
                }
                (InFlight::Piped(pipe), Socket::Plain(to)) => {
                    let n = ready!(pipe.poll_drain(to, cx))?;
                    if pipe.is_empty() {
                        self.held = InFlight::Nothing;
                    }
                    n
                }
                (InFlight::Piped(_), Socket::Tls(_)) => {
                    return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                }
            };
            self.passed(n)?;
        }
        if !self.is_flushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn passed(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        self.is_flushed = false;
        Ok(())
    }

    /// Takes the next piece; 0 is the end.
    fn poll_take(
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
                    self.held = if n > 0 {
                        InFlight::Piped(pipe)
                    } else {
                        InFlight::Nothing
                    };
                    return Poll::Ready(Ok(n));
                }
                Poll::Ready(Err(SpliceError::Broken(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(SpliceError::Unsupported)) => self.cannot_splice = true,
            }
        }
        let mut buffer = Buffer::bulk();
        let n = ready!(Pin::new(from).poll_read(cx, buffer.block_mut()))?;
        self.size = usize::midpoint(self.size, n);
        if n > 0 {
            self.held = InFlight::Copied(buffer, 0, n);
        }
        Poll::Ready(Ok(n))
    }
}

#[cfg(test)]
mod tests;
