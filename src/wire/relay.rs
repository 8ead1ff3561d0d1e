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
use super::pipe::{Pipe, Refused};
use super::socket::Socket;
use crate::clock;

/// How long one direction may go on once the other has ended: time for the answer to a goodbye. No
/// browser ends one direction alone, and a stream program that sees its page end keeps its own
/// open for as long as the streamer lives, which may be for ever.
const LINGER: Duration = Duration::from_secs(3);
/// Pieces after which a busy direction lets other tasks of its thread run: half a MiB of copied
/// bytes, about 100 us.
const TURN: u32 = 8;
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

/// Copies both ways until both directions have ended, an error, or `cut` is done. The end of one
/// direction is passed on and the other goes on for [`LINGER`] (half-close). `a_early` and
/// `b_early` are bytes that came from each side before the tunnel stood.
pub async fn run(
    a: Socket,
    a_early: &[u8],
    b: Socket,
    b_early: &[u8],
    traffic: &Traffic,
    cut: impl Future<Output = ()>,
) {
    let mut both = Both {
        forth: Way::new(a_early, &traffic.forth),
        back: Way::new(b_early, &traffic.back),
        a,
        b,
    };
    let work = async {
        if poll_fn(|cx| both.poll(cx, 1)).await.is_ok() {
            // Boxed: it is seldom needed, and a tunnel's future lives long.
            let rest = Box::pin(poll_fn(|cx| both.poll(cx, 2)));
            let _ = Box::pin(clock::by(clock::now() + LINGER, rest)).await;
        }
    };
    // An error of either side ends the tunnel; there is nobody to tell it to.
    smol::future::or(work, cut).await;
}

/// Both directions between two sockets.
struct Both<'a> {
    a: Socket,
    b: Socket,
    forth: Way<'a>,
    back: Way<'a>,
}

impl Both<'_> {
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
struct Way<'a> {
    early: &'a [u8],
    held: Held,
    /// Size of the last pieces, the newest counting half.
    size: usize,
    /// Whether the kernel refused to splice.
    is_unfit: bool,
    is_flushed: bool,
    stage: Stage,
    turn: u32,
    count: &'a AtomicU64,
}

/// Bytes on their way.
enum Held {
    Nothing,
    Copied(Buffer, usize, usize),
    Piped(Pipe),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The sender has ended; the receiver is to be told.
    Ending,
    Ended,
}

impl<'a> Way<'a> {
    fn new(early: &'a [u8], count: &'a AtomicU64) -> Self {
        Self {
            early,
            held: Held::Nothing,
            size: 0,
            is_unfit: false,
            is_flushed: true,
            stage: Stage::Open,
            turn: 0,
            count,
        }
    }

    fn poll(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stage == Stage::Ended {
            return Poll::Ready(Ok(()));
        }
        self.turn = 0;
        loop {
            ready!(self.poll_send(to, cx))?;
            if self.stage == Stage::Ending {
                ready!(Pin::new(to).poll_close(cx))?;
                self.stage = Stage::Ended;
                return Poll::Ready(Ok(()));
            }
            self.turn += 1;
            if self.turn > TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if ready!(self.poll_take(from, to, cx))? == 0 {
                self.stage = Stage::Ending;
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
                (Held::Nothing, _) => break,
                (Held::Copied(buffer, start, end), to) => {
                    let n = ready!(Pin::new(to).poll_write(cx, &buffer.block()[*start..*end]))?;
                    *start += n;
                    if start == end {
                        self.held = Held::Nothing;
                    }
                    n
                }
                (Held::Piped(pipe), Socket::Plain(to)) => {
                    let n = ready!(pipe.poll_drain(to, cx))?;
                    if pipe.is_empty() {
                        self.held = Held::Nothing;
                    }
                    n
                }
                (Held::Piped(_), Socket::Tls(_)) => {
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
            && !self.is_unfit
            && let Some(mut pipe) = Pipe::take()
        {
            match pipe.poll_fill(from, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) => {
                    self.size = usize::midpoint(self.size, n);
                    self.held = if n > 0 {
                        Held::Piped(pipe)
                    } else {
                        Held::Nothing
                    };
                    return Poll::Ready(Ok(n));
                }
                Poll::Ready(Err(Refused::Broken(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(Refused::Unfit)) => self.is_unfit = true,
            }
        }
        let mut buffer = Buffer::bulk();
        let n = ready!(Pin::new(from).poll_read(cx, buffer.block_mut()))?;
        self.size = usize::midpoint(self.size, n);
        if n > 0 {
            self.held = Held::Copied(buffer, 0, n);
        }
        Poll::Ready(Ok(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        (far, Socket::plain(listener.accept().unwrap().0).unwrap())
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_open() {
        let ((mut left, a), (mut right, b)) = (pair(), pair());
        let tunnel = std::thread::spawn(move || {
            let traffic = Traffic::default();
            smol::block_on(run(a, b"early ", b, b"", &traffic, std::future::pending()));
            (traffic.forth.into_inner(), traffic.back.into_inner())
        });
        left.write_all(b"question").unwrap();
        left.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = String::new();
        right.read_to_string(&mut got).unwrap();
        assert_eq!(got, "early question");
        right.write_all(b"answer").unwrap();
        drop(right);
        got.clear();
        left.read_to_string(&mut got).unwrap();
        assert_eq!(got, "answer");
        assert_eq!(tunnel.join().unwrap(), (14, 6));
    }

    #[test]
    fn a_side_that_never_ends_is_not_waited_for_once_the_other_has() {
        for from_left in [true, false] {
            let ((left, a), (right, b)) = (pair(), pair());
            let tunnel = std::thread::spawn(move || {
                let (traffic, never) = (Traffic::default(), std::future::pending());
                crate::exec::block_on(run(a, b"", b, b"", &traffic, never));
            });
            let (mut leaves, mut stays) = if from_left {
                (left, right)
            } else {
                (right, left)
            };
            leaves.shutdown(std::net::Shutdown::Write).unwrap();
            tunnel.join().unwrap();
            // Both were let go, not only the one that left.
            assert_eq!(leaves.read(&mut [0; 8]).unwrap(), 0);
            assert_eq!(stays.read(&mut [0; 8]).unwrap(), 0);
        }
    }

    #[test]
    fn a_reset_on_one_side_ends_the_tunnel() {
        let ((left, a), (mut right, b)) = (pair(), pair());
        let tunnel = std::thread::spawn(move || {
            smol::block_on(run(
                a,
                b"",
                b,
                b"",
                &Traffic::default(),
                std::future::pending(),
            ));
        });
        socket2::SockRef::from(&left)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(left);
        tunnel.join().unwrap();
        assert_eq!(right.read(&mut [0; 8]).unwrap_or(0), 0);
    }

    /// Sends `total` bytes through a tunnel of `a` and `b` and checks them on the other side.
    fn flood(a: Socket, b: Socket, mut left: TcpStream, mut right: TcpStream, total: usize) {
        let tunnel = std::thread::spawn(move || {
            let traffic = Traffic::default();
            crate::exec::block_on(run(a, b"", b, b"", &traffic, std::future::pending()));
            traffic.forth.into_inner()
        });
        let sender = std::thread::spawn(move || {
            let mut sent = 0;
            // Pieces of every size, so that copying and splicing take turns.
            for size in (0..).map(|n| 1 << (n % 19)) {
                let size = size.min(total - sent);
                let piece: Vec<u8> = (sent..sent + size).map(|n| (n % 251) as u8).collect();
                left.write_all(&piece).unwrap();
                sent += size;
                if sent == total {
                    return left;
                }
            }
            left
        });
        let mut block = vec![0; 100_000];
        let mut got = 0;
        while got < total {
            let n = right.read(&mut block).unwrap();
            assert!(n > 0, "ended after {got} bytes");
            assert!(
                block[..n]
                    .iter()
                    .enumerate()
                    .all(|(i, b)| usize::from(*b) == (got + i) % 251)
            );
            got += n;
        }
        drop((sender.join().unwrap(), right));
        assert_eq!(tunnel.join().unwrap(), total as u64);
    }

    #[test]
    fn every_byte_passes_in_order_however_it_is_moved() {
        let ((left, a), (right, b)) = (pair(), pair());
        flood(a, b, left, right, 20_000_000);
    }

    #[test]
    fn a_receiver_that_stops_reading_stops_the_sender_and_the_cut_still_comes() {
        let ((mut left, a), (right, b)) = (pair(), pair());
        let (stopper, stop) = crate::exec::stop();
        let tunnel = crate::exec::spawn(async move {
            let traffic = Traffic::default();
            run(a, b"", b, b"", &traffic, async { stop.wished().await }).await;
            traffic.forth.into_inner()
        });
        left.set_write_timeout(Some(std::time::Duration::from_millis(500)))
            .unwrap();
        let block = vec![0; 65_536];
        let mut sent = 0;
        while let Ok(n) = left.write(&block) {
            sent += n;
        }
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
        drop(stopper);
        let passed = crate::exec::block_on(tunnel);
        assert!(passed > 0 && passed <= sent as u64);
        drop(right);
    }

    #[test]
    fn a_busy_tunnel_leaves_its_thread_to_others() {
        let ((mut left, a), (mut right, b)) = (pair(), pair());
        let end = left.try_clone().unwrap();
        let (mut echo_near, echo_far) = pair();
        // All three on one thread of the executor.
        let start = crate::exec::spawn(async move {
            crate::exec::spawn(async move {
                run(a, b"", b, b"", &Traffic::default(), std::future::pending()).await;
            })
            .detach();
            crate::exec::spawn(async move {
                let mut conn = super::super::Conn::new(echo_far);
                while let Ok(1..) = conn.fill().await {
                    let bytes = conn.unread().to_vec();
                    conn.consume(bytes.len());
                    let _ = conn
                        .write_all(&bytes, std::time::Duration::from_secs(5))
                        .await;
                }
            })
            .detach();
        });
        crate::exec::block_on(start);
        let sink = std::thread::spawn(move || {
            let mut block = vec![0; 262_144];
            while let Ok(1..) = right.read(&mut block) {}
        });
        let source = std::thread::spawn(move || {
            let block = vec![0; 262_144];
            while left.write_all(&block).is_ok() {}
        });
        echo_near
            .set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        let mut byte = [0];
        for n in 0..100 {
            echo_near.write_all(&[n]).unwrap();
            echo_near.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [n]);
        }
        end.shutdown(std::net::Shutdown::Both).unwrap();
        source.join().unwrap();
        sink.join().unwrap();
    }
}
