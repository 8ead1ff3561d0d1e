//! One registered descriptor, and what the kernel has said of it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;
use rustix::event::epoll::EventFlags;

use super::reactor::Reactor;

const READABLE: usize = 1;
const WRITABLE: usize = 2;
/// The peer has ended its side or the connection is broken: reads find an end, not a block.
const HUNG_UP: usize = 4;
/// Counts events above the flags, so that a verdict formed before an event does not erase it.
const EVENT: usize = 8;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Something to read, or the end.
    Read,
    /// Room to write.
    Write,
}

/// What an operation found out about readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing: all that there was has been taken, the next call would block.
    Nothing,
    /// Perhaps something: only the next call can tell.
    Perhaps,
}

/// What the kernel has said, and who waits for more.
#[derive(Debug)]
pub(super) struct State {
    flags: AtomicUsize,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl State {
    /// `ready` says that both directions are worth a try before the kernel has told.
    pub(super) fn new(ready: bool) -> Self {
        Self {
            flags: AtomicUsize::new(if ready { READABLE | WRITABLE } else { 0 }),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    /// Remembers an event, and hands over who waits for it.
    pub(super) fn note(&self, flags: EventFlags, wakers: &mut Vec<Waker>) {
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let hung_up = broken || flags.contains(EventFlags::RDHUP);
        let reads = hung_up || flags.contains(EventFlags::IN);
        let writes = broken || flags.contains(EventFlags::OUT);
        let mut set = 0;
        set |= if reads { READABLE } else { 0 };
        set |= if writes { WRITABLE } else { 0 };
        set |= if hung_up { HUNG_UP } else { 0 };
        let _ = self
            .flags
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| {
                Some(flags.wrapping_add(EVENT) | set)
            });
        if reads {
            wakers.extend(self.reader.take());
        }
        if writes {
            wakers.extend(self.writer.take());
        }
    }
}

/// A registered descriptor, which must be non-blocking and must be closed with the source. One
/// task at a time may wait for each direction.
#[derive(Debug)]
pub struct Source {
    state: Arc<State>,
    reactor: &'static Reactor,
    key: usize,
}

impl Source {
    /// `ready` says that both directions are worth a try before the kernel has told.
    pub(super) fn register(
        reactor: &'static Reactor,
        fd: impl AsFd,
        ready: bool,
    ) -> io::Result<Self> {
        let (state, key) = reactor.register(fd.as_fd(), ready)?;
        Ok(Self {
            state,
            reactor,
            key,
        })
    }

    /// Moves to another reactor; nothing that was told before counts there.
    pub(super) fn move_to(&mut self, reactor: &'static Reactor, fd: impl AsFd) -> io::Result<()> {
        if std::ptr::eq(self.reactor, reactor) {
            return Ok(());
        }
        self.reactor.forget(fd.as_fd())?;
        *self = Self::register(reactor, fd, true)?;
        Ok(())
    }

    /// Runs `call` as soon as it may succeed, until it says anything but "would block".
    ///
    /// # Errors
    /// As `call`.
    pub fn poll_call<T>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<(T, Left)>,
    ) -> Poll<io::Result<T>> {
        loop {
            let before = std::task::ready!(self.poll_flags(direction, cx));
            match call() {
                Ok((value, left)) => {
                    // The end of the stream comes without another event: keep looking for it.
                    if left == Left::Nothing && before & HUNG_UP == 0 {
                        self.clear(before, direction.flag());
                    }
                    return Poll::Ready(Ok(value));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.clear(before, direction.flag() | HUNG_UP);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits until a call may succeed. Readiness stays until a call finds it gone.
    pub fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_flags(direction, cx).map(drop)
    }

    /// Whether a call may succeed, as far as the thread of this source has heard.
    #[must_use]
    pub fn is_ready(&self, direction: Direction) -> bool {
        self.state.flags.load(Ordering::Acquire) & direction.flag() != 0
    }

    fn poll_flags(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<usize> {
        let flags = self.state.flags.load(Ordering::Acquire);
        if flags & direction.flag() != 0 {
            return Poll::Ready(flags);
        }
        match direction {
            Direction::Read => self.state.reader.register(cx.waker()),
            Direction::Write => self.state.writer.register(cx.waker()),
        }
        // The event may have come just before the waker was there.
        let flags = self.state.flags.load(Ordering::Acquire);
        if flags & direction.flag() != 0 {
            return Poll::Ready(flags);
        }
        Poll::Pending
    }

    /// Takes flags away unless an event has come since `before`.
    fn clear(&self, before: usize, flags: usize) {
        let _ = self
            .state
            .flags
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now / EVENT == before / EVENT).then_some(now & !flags)
            });
    }
}

impl Direction {
    fn flag(self) -> usize {
        match self {
            Self::Read => READABLE,
            Self::Write => WRITABLE,
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.reactor.release(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::reactor::Batch;
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (far, near)
    }

    fn reactor() -> &'static Reactor {
        Box::leak(Box::new(Reactor::new().unwrap()))
    }

    /// One read, and how many calls it took.
    fn read(source: &Source, mut near: &TcpStream, room: usize) -> (Poll<usize>, usize) {
        let mut calls = 0;
        let mut block = vec![0; room];
        let got = source.poll_call(
            Direction::Read,
            &mut Context::from_waker(Waker::noop()),
            || {
                calls += 1;
                let n = near.read(&mut block)?;
                Ok((
                    n,
                    if n < room {
                        Left::Nothing
                    } else {
                        Left::Perhaps
                    },
                ))
            },
        );
        (got.map(Result::unwrap), calls)
    }

    #[test]
    fn a_short_read_saves_the_call_that_would_block_and_loses_nothing() {
        let ((mut far, near), reactor) = (pair(), reactor());
        let source = Source::register(reactor, &near, true).unwrap();
        let mut batch = Batch::new();
        reactor.wait(true, &mut batch);
        far.write_all(b"abc").unwrap();
        reactor.wait(true, &mut batch);
        assert_eq!(read(&source, &near, 8), (Poll::Ready(3), 1));
        assert_eq!(read(&source, &near, 8), (Poll::Pending, 0));
        far.write_all(b"defg").unwrap();
        reactor.wait(true, &mut batch);
        assert_eq!(read(&source, &near, 4), (Poll::Ready(4), 1));
        assert_eq!(read(&source, &near, 4), (Poll::Pending, 1));
    }

    #[test]
    fn an_end_that_came_with_the_last_bytes_is_not_waited_for() {
        let ((mut far, near), reactor) = (pair(), reactor());
        let source = Source::register(reactor, &near, true).unwrap();
        let mut batch = Batch::new();
        far.write_all(b"abc").unwrap();
        drop(far);
        // The kernel may tell of bytes and end separately.
        while source.state.flags.load(Ordering::Acquire) & HUNG_UP == 0 {
            reactor.wait(true, &mut batch);
        }
        assert_eq!(read(&source, &near, 8), (Poll::Ready(3), 1));
        assert_eq!(read(&source, &near, 8), (Poll::Ready(0), 1));
    }

    #[test]
    fn an_event_between_a_call_and_its_verdict_is_kept() {
        let ((mut far, near), reactor) = (pair(), reactor());
        let source = Source::register(reactor, &near, true).unwrap();
        let mut batch = Batch::new();
        reactor.wait(true, &mut batch);
        let _ = read(&source, &near, 8);
        far.write_all(b"a").unwrap();
        reactor.wait(true, &mut batch);
        let mut context = Context::from_waker(Waker::noop());
        let got = source.poll_call(Direction::Read, &mut context, || {
            let n = (&near).read(&mut [0; 8])?;
            far.write_all(b"b").unwrap();
            reactor.wait(true, &mut batch);
            Ok((n, Left::Nothing))
        });
        assert!(matches!(got, Poll::Ready(Ok(1))));
        assert_eq!(read(&source, &near, 8), (Poll::Ready(1), 1));
    }

    #[test]
    fn a_source_that_moved_hears_from_its_new_reactor_only() {
        let ((mut far, near), old, new) = (pair(), reactor(), reactor());
        let mut source = Source::register(old, &near, true).unwrap();
        source.move_to(new, &near).unwrap();
        let mut batch = Batch::new();
        new.wait(true, &mut batch);
        assert_eq!(read(&source, &near, 8), (Poll::Pending, 1));
        far.write_all(b"a").unwrap();
        old.wait(false, &mut batch);
        assert!(!source.is_ready(Direction::Read));
        new.wait(true, &mut batch);
        assert_eq!(read(&source, &near, 8), (Poll::Ready(1), 1));
    }

    #[test]
    fn slots_are_used_again() {
        let reactor = reactor();
        let (_far, near) = pair();
        let first = Source::register(reactor, &near, true).unwrap().key;
        let (_far, near) = pair();
        assert_eq!(Source::register(reactor, &near, true).unwrap().key, first);
    }
}
