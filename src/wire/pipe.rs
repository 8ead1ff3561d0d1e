//! Pipes for `splice(2)`: the kernel moves bytes from socket to socket without a copy into user
//! space.
//!
//! A tunnel holds a pipe from the pool only while bytes are in it, so idle tunnels cost no
//! descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::tcp::Tcp;
use crate::descriptors;
use crate::exec::{Direction, Left};
use crate::sync::Mutex;

/// Capacity requested for a pipe, in bytes. The default has 16 slots, which small packets fill
/// quickly.
const CAPACITY: usize = 256 * 1024;
/// Most pipes at once. The kernel allows one unprivileged user 64 MiB of them
/// (`pipe-user-pages-soft`); tunnels that get none copy.
const MOST: usize = 256;
/// Empty pipes kept for reuse.
const SPARE: usize = 32;

static POOL: Mutex<Vec<(OwnedFd, OwnedFd)>> = Mutex::new(Vec::new());
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// A pipe and the number of bytes in it. It returns to the pool when it is dropped empty.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    held: usize,
}

/// Why nothing was spliced.
#[derive(Debug)]
pub(super) enum SpliceError {
    /// The connection failed.
    Io(io::Error),
    /// The kernel cannot splice these descriptors; copying works.
    Unsupported,
}

impl Pipe {
    /// An empty pipe; `None` when [`MOST`] are in use or the kernel refuses one.
    pub(super) fn take() -> Option<Self> {
        let spare = POOL.lock().pop();
        if spare.is_some() {
            return Some(Self {
                ends: spare,
                held: 0,
            });
        }
        if LIVE.fetch_add(1, Ordering::Relaxed) >= MOST {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        // Two descriptors; without one, bytes are copied.
        let made = (descriptors::take_one() && descriptors::take_one())
            .then(|| rustix::pipe::pipe_with(flags).ok());
        let Some(ends) = made.flatten() else {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // On failure the default size is used.
        let _ = rustix::pipe::fcntl_setpipe_size(&ends.0, CAPACITY);
        Some(Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Whether it holds no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves the socket's bytes into the empty pipe. `Ok(0)` is the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        from: &Tcp,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, SpliceError>> {
        let Some((_, inlet)) = &self.ends else {
            return Poll::Ready(Err(SpliceError::Unsupported));
        };
        // The pipe is empty, so EAGAIN can only come from the socket.
        let moved = from.source().poll_call(Direction::Read, cx, || {
            splice(from.get_ref(), inlet, CAPACITY)
        });
        Poll::Ready(match ready!(moved) {
            Ok(n) => {
                self.held = n;
                Ok(n)
            }
            Err(error) if is_unsupported(&error) => Err(SpliceError::Unsupported),
            Err(error) => Err(SpliceError::Io(error)),
        })
    }

    /// Moves the pipe's bytes to the socket. Returns how many the socket accepted.
    pub(super) fn poll_drain(&mut self, to: &Tcp, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some((outlet, _)) = &self.ends else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let held = self.held;
        // The pipe is not empty, so EAGAIN can only come from the socket.
        let moved = to
            .source()
            .poll_call(Direction::Write, cx, || splice(outlet, to.get_ref(), held));
        let n = ready!(moved)?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.held -= n;
        Poll::Ready(Ok(n))
    }
}

fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> io::Result<(usize, Left)> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let n = rustix::pipe::splice(from, None, to, None, most, flags)?;
    // A short splice does not prove that the socket is empty: the pipe's slots may be full.
    Ok((n, Left::Perhaps))
}

fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        if self.held == 0 {
            let mut pool = POOL.lock();
            if pool.len() < SPARE {
                return pool.push(ends);
            }
        }
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
