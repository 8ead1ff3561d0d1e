//! The switchboard: one thread that serves the lines of all microphones.
//!
//! Sound comes in small datagrams, fifty a second from each visitor. One thread with a readiness
//! queue of its own takes them with two system calls each and wakes nobody else; tunnels and
//! requests on the executor's threads do not delay it. It takes orders from other threads by an
//! inbox and a bell.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::peer_connection::{DATAGRAM_MAX, PeerConnection};
use super::session_table::locked;
use super::webrtc_peer::CloseReason;
use crate::clock;

/// Events taken from the kernel at once: a frame's time of a hundred microphones in two goes.
const EVENTS: usize = 64;
/// The key of the bell; peers are counted from 1.
const BELL: u64 = 0;
/// Pause before an expired timer is served again, against spinning. DTLS and ICE count in tens
/// of milliseconds at least.
const TICK: Duration = Duration::from_millis(5);
/// Pause after a wait that failed, against spinning.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Starts and ends lines. Dropping it ends them all, and the thread.
pub(super) struct EventLoop(Arc<CommandQueue>);

/// A line's place on the switchboard. Dropping it ends the line.
pub(super) struct Registration {
    peer: u64,
    inbox: Arc<CommandQueue>,
}

enum Command {
    Close,
    Register(u64, Box<PeerConnection>),
    Deregister(u64),
}

struct CommandQueue {
    epoll: OwnedFd,
    bell: OwnedFd,
    /// As many as peers were made and ended since the thread last looked.
    orders: Mutex<Vec<Command>>,
}

impl CommandQueue {
    fn post(&self, order: Command) {
        locked(&self.orders).push(order);
        // A counter at its limit still rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

impl EventLoop {
    /// A switchboard without lines.
    pub(super) fn start() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: every ring is an event, nobody has to read the counter.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), flags)?;
        let inbox = Arc::new(CommandQueue {
            epoll,
            bell,
            orders: Mutex::default(),
        });
        let desk = Desk {
            inbox: inbox.clone(),
            lines: HashMap::new(),
            alarms: BTreeSet::new(),
        };
        thread::Builder::new()
            .name("mic".to_owned())
            .spawn(move || desk.work())?;
        Ok(Self(inbox))
    }

    /// Serves `line` until its plug is dropped or it ends by itself.
    pub(super) fn plug(&self, peer: u64, line: PeerConnection) -> Registration {
        self.0.post(Command::Register(peer, Box::new(line)));
        Registration {
            peer,
            inbox: self.0.clone(),
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.0.post(Command::Close);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.inbox.post(Command::Deregister(self.peer));
    }
}

struct Entry {
    line: Box<PeerConnection>,
    /// Its alarm; rings too early rather than being set anew for every packet.
    alarm: Instant,
}

/// What the thread works on.
struct Desk {
    inbox: Arc<CommandQueue>,
    lines: HashMap<u64, Entry>,
    alarms: BTreeSet<(Instant, u64)>,
}

impl Desk {
    fn work(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut buffer = [0; DATAGRAM_MAX];
        let mut now = clock::now();
        loop {
            events.clear();
            // A round takes microseconds: an alarm may be late by as much.
            let patience = self.alarms.first().map(|(at, _)| timespec(*at, now));
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.inbox.epoll, room, patience.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::error!(target: "mic", "cannot wait for microphones: {error}");
                    thread::park_timeout(AFTER_FAILURE);
                }
            }
            now = clock::now();
            for event in &events {
                match event.data.u64() {
                    BELL => {
                        if !self.take_orders(now) {
                            return;
                        }
                    }
                    peer => self.serve(peer, now, |line| line.receive(&mut buffer, now)),
                }
            }
            self.ring(now);
        }
    }

    /// Carries out what other threads want; `false` when this is the end.
    fn take_orders(&mut self, now: Instant) -> bool {
        let orders = std::mem::take(&mut *locked(&self.inbox.orders));
        for order in orders {
            match order {
                Command::Register(peer, line) => self.plug(peer, line, now),
                Command::Deregister(peer) => self.hang_up(peer, CloseReason::Stopped),
                Command::Close => {
                    let peers: Vec<u64> = self.lines.keys().copied().collect();
                    for peer in peers {
                        self.hang_up(peer, CloseReason::Stopped);
                    }
                    return false;
                }
            }
        }
        true
    }

    fn plug(&mut self, peer: u64, line: Box<PeerConnection>, now: Instant) {
        // Level-triggered: one datagram of each line in turn, and no call that only would block.
        let key = EventData::new_u64(peer);
        let added = epoll::add(&self.inbox.epoll, line.socket(), key, EventFlags::IN);
        let alarm = now + TICK;
        self.alarms.insert((alarm, peer));
        self.lines.insert(peer, Entry { line, alarm });
        if let Err(error) = added {
            log::error!(target: "mic", "cannot wait for a microphone: {error}");
            self.hang_up(peer, CloseReason::Broken);
        }
    }

    /// Serves the lines whose time has come.
    fn ring(&mut self, now: Instant) {
        if self.alarms.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        // Alarms that are set from here on lie after `now`.
        let later = self.alarms.split_off(&(now, u64::MAX));
        for (_, peer) in std::mem::replace(&mut self.alarms, later) {
            self.serve(peer, now, |line| line.settle(now).map(Some));
        }
    }

    /// Lets a line do one thing, and sets its alarm when that says when it wants to be served.
    fn serve(
        &mut self,
        peer: u64,
        now: Instant,
        step: impl FnOnce(&mut PeerConnection) -> Result<Option<Instant>, CloseReason>,
    ) {
        let Some(entry) = self.lines.get_mut(&peer) else {
            return;
        };
        match guarded(|| step(&mut entry.line)) {
            Ok(None) => {}
            Ok(Some(due)) => {
                let due = due.max(now + TICK);
                if due < entry.alarm || entry.alarm <= now {
                    self.alarms.remove(&(entry.alarm, peer));
                    self.alarms.insert((due, peer));
                    entry.alarm = due;
                }
            }
            Err(ending) => self.hang_up(peer, ending),
        }
    }

    fn hang_up(&mut self, peer: u64, ending: CloseReason) {
        if let Some(entry) = self.lines.remove(&peer) {
            self.alarms.remove(&(entry.alarm, peer));
            let _ = guarded(|| {
                entry.line.close(ending, clock::now());
                Ok(())
            });
        }
    }
}

/// Runs a step of one line, whose panic ends that line and no other.
fn guarded<T>(step: impl FnOnce() -> Result<T, CloseReason>) -> Result<T, CloseReason> {
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
    fn a_step_that_panics_ends_its_line_and_not_the_thread() {
        let outcome: Result<(), CloseReason> = guarded(|| panic!("on purpose"));
        assert_eq!(outcome, Err(CloseReason::Broken));
        assert_eq!(guarded(|| Ok(7)), Ok(7));
    }
}
