//! Pipes for `splice(2)`: bytes go from socket to socket without being copied through us.
//!
//! A pipe is taken from a small pool only while bytes are in it, so that idle tunnels cost no
//! descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::tcp::Tcp;
use crate::descriptors;
use crate::exec::{Direction, Left};

/// Bytes a pipe is asked to hold: more slots than the usual 16, which small packets fill soon.
const CAPACITY: usize = 256 * 1024;
/// Pipes there may be at once. The kernel gives one unprivileged user 64 MiB of them
/// (`pipe-user-pages-soft`); more tunnels in flight copy.
const MOST: usize = 256;
/// Empty pipes kept for the next bytes.
const SPARE: usize = 32;

static POOL: Mutex<Vec<(OwnedFd, OwnedFd)>> = Mutex::new(Vec::new());
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// A pipe and how many bytes are in it. Goes back to the pool when it is dropped empty.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    held: usize,
}

/// Why nothing was spliced.
#[derive(Debug)]
pub(super) enum SpliceError {
    /// The connection is broken.
    Broken(io::Error),
    /// The kernel does not splice these; copying works.
    Unsupported,
}

impl Pipe {
    /// An empty pipe; `None` when there are too many or the kernel has none to give.
    pub(super) fn take() -> Option<Self> {
        let spare = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
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
        // One of the usual size does too.
        let _ = rustix::pipe::fcntl_setpipe_size(&ends.0, CAPACITY);
        Some(Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what the socket has into the empty pipe. `Ok(0)` is the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        from: &Tcp,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, SpliceError>> {
        let Some((_, inlet)) = &self.ends else {
            return Poll::Ready(Err(SpliceError::Unsupported));
        };
        // The pipe is empty: what would block is the socket.
        let moved = from.source().poll_call(Direction::Read, cx, || {
            splice(from.get_ref(), inlet, CAPACITY)
        });
        Poll::Ready(match ready!(moved) {
            Ok(n) => {
                self.held = n;
                Ok(n)
            }
            Err(error) if is_unsupported(&error) => Err(SpliceError::Unsupported),
            Err(error) => Err(SpliceError::Broken(error)),
        })
    }

    /// Moves what is in the pipe to the socket; the number of bytes it took.
    pub(super) fn poll_drain(&mut self, to: &Tcp, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some((outlet, _)) = &self.ends else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let held = self.held;
        // The pipe is not empty: what would block is the socket.
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
    // A short splice means no empty socket: the pipe's slots may have been full.
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
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            if pool.len() < SPARE {
                return pool.push(ends);
            }
        }
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
