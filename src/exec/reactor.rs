//! Readiness of file descriptors, one reactor a thread of the executor.
//!
//! A descriptor is registered once, edge-triggered, for both directions; what the kernel says is
//! remembered in the [`Source`] until a call would block. A wait therefore costs no system call
//! of its own, and a read that has emptied the socket is not followed by one that only says so.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::source::State;

use crate::sync::Mutex;

/// Events taken from the kernel at once: more would let the first tasks wait for too long.
const EVENTS: usize = 256;
/// The key of the reactor's own descriptor, by which other threads interrupt a wait.
const BELL: u64 = u64::MAX;

/// The kernel's word on many descriptors.
pub(super) struct Reactor {
    epoll: OwnedFd,
    bell: OwnedFd,
    sources: Mutex<Sources>,
}

#[derive(Default)]
struct Sources {
    slots: Vec<Option<Arc<State>>>,
    free: Vec<usize>,
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

/// What a thread reuses from one wait to the next.
pub(super) struct Batch {
    events: Vec<epoll::Event>,
    wakers: Vec<Waker>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            events: Vec::with_capacity(EVENTS),
            wakers: Vec::with_capacity(2 * EVENTS),
        }
    }
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: every ring is an event, nobody has to read the counter.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), flags)?;
        Ok(Self {
            epoll,
            bell,
            sources: Mutex::default(),
        })
    }

    /// Ends a wait of the reactor's thread, or the next one.
    pub(super) fn ring(&self) {
        // A counter at its limit still rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Takes what the kernel has to say and wakes those who wait for it; blocks until there is
    /// something where `patient`.
    pub(super) fn wait(&self, patient: bool, batch: &mut Batch) {
        let Batch { events, wakers } = batch;
        events.clear();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, room, (!patient).then_some(&at_once)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => log::error!(target: "exec", "cannot wait for sockets: {error}"),
        }
        let sources = self.sources.lock();
        for event in events.iter() {
            let key = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            // A descriptor that was closed meanwhile has no slot, or another's: a false alarm
            // there costs one call that would block.
            if let Some(Some(state)) = sources.slots.get(key) {
                state.note(event.flags, wakers);
            }
        }
        drop(sources);
        for waker in wakers.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn register(
        &self,
        fd: BorrowedFd<'_>,
        ready: bool,
    ) -> io::Result<(Arc<State>, usize)> {
        let state = Arc::new(State::new(ready));
        let mut sources = self.sources.lock();
        let key = sources.free.pop().unwrap_or(sources.slots.len());
        if key == sources.slots.len() {
            sources.slots.push(None);
        }
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, fd, EventData::new_u64(key as u64), flags) {
            sources.free.push(key);
            return Err(error.into());
        }
        sources.slots[key] = Some(Arc::clone(&state));
        Ok((state, key))
    }

    /// Has the kernel report nothing more of a descriptor.
    pub(super) fn forget(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Gives a slot back. The kernel forgets a descriptor by itself when it is closed.
    pub(super) fn release(&self, key: usize) {
        let mut sources = self.sources.lock();
        sources.slots[key] = None;
        sources.free.push(key);
    }
}
