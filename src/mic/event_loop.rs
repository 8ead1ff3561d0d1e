//! The event loop of all microphones: one thread with its own epoll, beside the executor's threads.
//!
//! It does not use the executor's reactor, for two reasons. First, delay: that reactor polls sockets
//! only after up to 64 ready tasks, a few milliseconds with busy tunnels, and the target is 1 ms of
//! added delay (p99). Second, cost: that reactor is edge-triggered, so a UDP socket must be read
//! until EAGAIN, four system calls a packet instead of three (wait, receive, send; see
//! docs/microphone.md). Other threads send commands through a queue and an eventfd.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::peer_connection::{DATAGRAM_MAX, PeerConnection};
use super::webrtc_peer::CloseReason;
use crate::clock;
use crate::sync::Mutex;

/// Events taken from the kernel at once: two waits serve one frame each of a hundred microphones.
const EVENTS: usize = 64;
/// The epoll key of the eventfd; ids of peers start at 1.
const WAKEUP: u64 = 0;
/// Least time until a connection's next timer, against a busy loop. Timers of DTLS and ICE are tens
/// of milliseconds at least.
const TICK: Duration = Duration::from_millis(5);
/// Pause after a failed wait, against a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Registers connections with the thread. Dropping it closes them all and ends the thread.
pub(super) struct EventLoop(Arc<CommandQueue>);

/// A registered connection. Dropping it closes the connection.
pub(super) struct Registration {
    peer: u64,
    queue: Arc<CommandQueue>,
}

enum Command {
    Register(u64, Box<PeerConnection>),
    Deregister(u64),
    Exit,
}

struct CommandQueue {
    epoll: OwnedFd,
    eventfd: OwnedFd,
    /// At most one command for each peer made or ended since the thread last emptied it.
    commands: Mutex<Vec<Command>>,
}

impl CommandQueue {
    fn push(&self, command: Command) {
        self.commands.lock().push(command);
        // It fails only when the counter is full, and then the thread has an event already.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }
}

impl EventLoop {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: each write is an event, and the counter need not be read.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &eventfd, EventData::new_u64(WAKEUP), flags)?;
        let queue = Arc::new(CommandQueue {
            epoll,
            eventfd,
            commands: Mutex::default(),
        });
        let thread = LoopThread {
            queue: queue.clone(),
            connections: HashMap::new(),
            timers: BTreeSet::new(),
        };
        thread::Builder::new()
            .name("mic".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self(queue))
    }

    /// Serves `connection` until the registration is dropped or the connection ends by itself.
    pub(super) fn register(&self, peer: u64, connection: PeerConnection) -> Registration {
        self.0.push(Command::Register(peer, Box::new(connection)));
        Registration {
            peer,
            queue: self.0.clone(),
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.0.push(Command::Exit);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.queue.push(Command::Deregister(self.peer));
    }
}

struct Registered {
    connection: Box<PeerConnection>,
    /// May be earlier than the connection's next timeout: it is not moved back for every packet.
    timer: Instant,
}

/// The state of the thread.
struct LoopThread {
    queue: Arc<CommandQueue>,
    connections: HashMap<u64, Registered>,
    timers: BTreeSet<(Instant, u64)>,
}

impl LoopThread {
    fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut buffer = [0; DATAGRAM_MAX];
        let mut now = clock::now();
        loop {
            events.clear();
            // `now` is from before the last round, which took microseconds: precise enough.
            let timeout = self.timers.first().map(|(at, _)| timespec(*at, now));
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.queue.epoll, room, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::error!(target: "mic", "cannot wait for microphones: {error}");
                    thread::park_timeout(AFTER_FAILURE);
                }
            }
            now = clock::now();
            for event in &events {
                match event.data.u64() {
                    WAKEUP => {
                        if !self.run_commands(now) {
                            return;
                        }
                    }
                    peer => self.serve(peer, now, |c| c.receive(&mut buffer, now)),
                }
            }
            self.run_timers(now);
        }
    }

    /// Runs the commands of other threads; `false` when the thread must end.
    fn run_commands(&mut self, now: Instant) -> bool {
        let commands = std::mem::take(&mut *self.queue.commands.lock());
        for command in commands {
            match command {
                Command::Register(peer, connection) => self.register(peer, connection, now),
                Command::Deregister(peer) => self.close(peer, CloseReason::Stopped),
                Command::Exit => {
                    let peers: Vec<u64> = self.connections.keys().copied().collect();
                    for peer in peers {
                        self.close(peer, CloseReason::Stopped);
                    }
                    return false;
                }
            }
        }
        true
    }

    fn register(&mut self, peer: u64, connection: Box<PeerConnection>, now: Instant) {
        // Level-triggered: one datagram of each connection per round, and no call that only
        // returns EAGAIN.
        let key = EventData::new_u64(peer);
        let added = epoll::add(&self.queue.epoll, connection.socket(), key, EventFlags::IN);
        let timer = now + TICK;
        self.timers.insert((timer, peer));
        let registered = Registered { connection, timer };
        self.connections.insert(peer, registered);
        if let Err(error) = added {
            log::error!(target: "mic", "cannot wait for a microphone: {error}");
            self.close(peer, CloseReason::Broken);
        }
    }

    /// Serves the connections whose timer has expired.
    fn run_timers(&mut self, now: Instant) {
        if self.timers.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        // Timers that are set from here on are later than `now`.
        let later = self.timers.split_off(&(now, u64::MAX));
        for (_, peer) in std::mem::replace(&mut self.timers, later) {
            self.serve(peer, now, |c| c.handle_timeout(now).map(Some));
        }
    }

    /// Runs one step of a connection, and sets its timer if the step returns the next timeout.
    fn serve(
        &mut self,
        peer: u64,
        now: Instant,
        step: impl FnOnce(&mut PeerConnection) -> Result<Option<Instant>, CloseReason>,
    ) {
        let Some(registered) = self.connections.get_mut(&peer) else {
            return;
        };
        match catch_panic(|| step(&mut registered.connection)) {
            Ok(None) => {}
            Ok(Some(timeout)) => {
                let timeout = timeout.max(now + TICK);
                if timeout < registered.timer || registered.timer <= now {
                    self.timers.remove(&(registered.timer, peer));
                    self.timers.insert((timeout, peer));
                    registered.timer = timeout;
                }
            }
            Err(reason) => self.close(peer, reason),
        }
    }

    fn close(&mut self, peer: u64, reason: CloseReason) {
        if let Some(registered) = self.connections.remove(&peer) {
            self.timers.remove(&(registered.timer, peer));
            let _ = catch_panic(|| {
                registered.connection.close(reason, clock::now());
                Ok(())
            });
        }
    }
}

/// Runs a step of one connection. A panic closes that connection and no other.
fn catch_panic<T>(step: impl FnOnce() -> Result<T, CloseReason>) -> Result<T, CloseReason> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
        log::error!(target: "mic", "the webrtc stack panicked, its microphone is closed");
        Err(CloseReason::Broken)
    })
}

/// The time from `now` until `at`.
fn timespec(at: Instant, now: Instant) -> Timespec {
    let span = at.saturating_duration_since(now);
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_panics_closes_its_connection_and_not_the_thread() {
        let outcome: Result<(), CloseReason> = catch_panic(|| panic!("on purpose"));
        assert_eq!(outcome, Err(CloseReason::Broken));
        assert_eq!(catch_panic(|| Ok(7)), Ok(7));
    }
}
