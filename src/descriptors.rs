//! What this process may still open: file descriptors are one pool for visitors, strangers,
//! sessions, probes and files.
//!
//! Connections from outside take from what is left beyond a part that is set aside, so that probes,
//! starts of stream processes, the ledger and the records find descriptors whoever connects.

use std::fs;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::clock;
use crate::sync::Mutex;

/// Descriptors set aside for the process itself: threads, listeners, calls to bodies, controllers
/// and services, ledger and records.
const OWN: usize = 64;
/// Descriptors set aside for each session slot: output pipe and pidfd, a probe, and while its
/// process starts three more.
const PER_SESSION: usize = 6;
/// Descriptors that a connection takes: its own and that to the stream process or worker behind it.
const PER_CONNECTION: usize = 2;
/// Below this part of the room, one in so many, descriptors are short; below half of it nobody is
/// let in, so that the connections that are in can reach what they asked for.
const SHORT_PART: usize = 8;
/// Longest time until the open descriptors are counted again.
const RECOUNT: Duration = Duration::from_secs(1);
/// Shortest time until then when none was left: counting takes up to a millisecond in a thousand.
const RECOUNT_EMPTY: Duration = Duration::from_millis(10);
/// How long a shortage stays in `problems`, so that somebody who looks once a minute sees it.
const SHOWN: Duration = Duration::from_secs(60);

/// Set aside; see [`plan`].
static ASIDE: AtomicUsize = AtomicUsize::new(OWN);
/// Connections that are to be served at once; see [`plan`].
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
/// Whether they were short at the last count.
static SHORT: AtomicBool = AtomicBool::new(false);
/// The soft limit that the process was started with.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();
/// What may be opened until the next count.
static GRANT: Mutex<Grant> = Mutex::new(Grant {
    left: 0,
    counted: None,
});
/// The last shortage.
static SHORTAGE: Mutex<Option<(Instant, String)>> = Mutex::new(None);

struct Grant {
    left: usize,
    counted: Option<Instant>,
}

/// Raises the soft limit to the hard one: the soft one, 1,024 by default, only protects programs
/// that use select(2).
pub(crate) fn raise() {
    let given = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: given.maximum,
        maximum: given.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            let _ = GIVEN.set(given);
        }
        Err(error) => {
            log::warn!(target: "exec", "cannot raise the limit of open files from {}: {error}; set LimitNOFILE", limit());
        }
    }
}

/// Gives a child, or with `None` this process, the limit back that we were started with: a program
/// that walks through all possible descriptors at its start must not find a billion.
pub(crate) fn give_back(child: Option<u32>) {
    let Some(given) = GIVEN.get() else { return };
    let pid = match child {
        Some(child) => match i32::try_from(child).ok().and_then(Pid::from_raw) {
            Some(pid) => Some(pid),
            None => return,
        },
        None => None,
    };
    // One that is gone already needs none.
    let _ = prlimit(pid, Resource::Nofile, *given);
}

/// Sets descriptors aside for this many sessions. Says what is wrong when the limit is too low for
/// this many connections beside them.
pub(crate) fn plan(sessions: usize, connections: usize) -> Option<String> {
    ASIDE.store(OWN + sessions * PER_SESSION, Ordering::Relaxed);
    CONNECTIONS.store(connections, Ordering::Relaxed);
    misfit(connections)
}

/// The limit of open descriptors.
#[must_use]
pub(crate) fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// What connections may take: the limit without what is set aside, and at least half of it.
#[must_use]
pub(crate) fn room() -> usize {
    let limit = limit();
    limit - ASIDE.load(Ordering::Relaxed).min(limit / 2)
}

/// What is wrong with this many connections, if the limit is too low for them.
fn misfit(connections: usize) -> Option<String> {
    let (limit, room) = (limit(), room());
    let needed = connections
        .saturating_mul(PER_CONNECTION)
        .saturating_add(limit - room);
    (needed > limit).then(|| {
        format!(
            "server.connections_max {connections} needs {needed} open files and the limit is \
             {limit}: set LimitNOFILE={needed} or lower server.connections_max to {}",
            room / PER_CONNECTION
        )
    })
}

/// Takes one for a new connection from outside. `false` when those that are left are needed by the
/// connections that are in.
pub(crate) fn admit() -> bool {
    take(room() / SHORT_PART / 2)
}

/// Takes one for a connection that somebody who is in asks for.
pub(crate) fn take_one() -> bool {
    take(0)
}

/// Takes one unless only `kept` are left.
fn take(kept: usize) -> bool {
    let mut grant = GRANT.lock();
    let age = grant
        .counted
        .map_or(RECOUNT, |at| clock::now().saturating_duration_since(at));
    if age >= RECOUNT || (grant.left <= kept && age >= RECOUNT_EMPTY) {
        count(&mut grant);
    }
    if grant.left <= kept {
        return false;
    }
    grant.left -= 1;
    true
}

/// Whether hardly any are left: idle connections give way then.
pub(crate) fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Counts again, so that [`is_short`] says how it is now.
pub(crate) fn look() {
    count(&mut GRANT.lock());
}

fn count(grant: &mut Grant) {
    let (used, room) = (used(), room());
    grant.left = room.saturating_sub(used);
    grant.counted = Some(clock::now());
    let is_short = grant.left < room / SHORT_PART;
    SHORT.store(is_short, Ordering::Relaxed);
    if is_short {
        let limit = limit();
        note(format!(
            "{used} of {limit} open files are in use and {} are set aside, idle connections are \
             closed: raise LimitNOFILE",
            limit - room
        ));
    }
}

/// Open descriptors; 0 where the kernel does not tell, and then only its refusals are heeded.
fn used() -> usize {
    const OPEN: &str = "/proc/self/fd";
    // Linux 6.2 and later say the number at once.
    match fs::metadata(OPEN) {
        Ok(found) if found.len() > 0 => usize::try_from(found.len()).unwrap_or(usize::MAX),
        Ok(_) => match fs::read_dir(OPEN) {
            Ok(all) => all.count(),
            Err(error) if is_shortage(&error) => limit(),
            Err(_) => 0,
        },
        Err(_) => 0,
    }
}

/// Whether a call failed because this process or machine ran out of something, which says nothing of
/// the peer: EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL (no free port), ENOSPC (epoll watches).
#[must_use]
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let all = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::NOSPC,
    ];
    all.iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Remembers a shortage for [`problems`]; the first one is logged.
pub(crate) fn note(what: String) {
    let now = clock::now();
    let mut last = SHORTAGE.lock();
    if last.as_ref().is_none_or(|(at, _)| is_over(*at, now)) {
        log::warn!(target: "exec", "{what}");
    }
    *last = Some((now, what));
}

fn is_over(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= SHOWN
}

/// What an operator should know: a limit that is too low, and the shortage of the last minute.
#[must_use]
pub(crate) fn problems() -> Vec<String> {
    let last = SHORTAGE.lock();
    let last = last.as_ref().filter(|(at, _)| !is_over(*at, clock::now()));
    let mut all: Vec<String> = last.map(|(_, what)| what.clone()).into_iter().collect();
    all.extend(misfit(CONNECTIONS.load(Ordering::Relaxed)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_for_the_connections_is_named_with_the_remedy() {
        assert_eq!(misfit(1), None);
        let told = misfit(limit()).unwrap();
        assert!(told.contains("LimitNOFILE="), "{told}");
        assert!(told.contains(&limit().to_string()), "{told}");
    }

    #[test]
    fn shortages_of_this_machine_are_told_from_what_a_peer_does() {
        let of = |errno: Errno| is_shortage(&io::Error::from(errno));
        assert!(of(Errno::MFILE) && of(Errno::ADDRNOTAVAIL) && of(Errno::NOMEM));
        assert!(!of(Errno::CONNREFUSED) && !of(Errno::TIMEDOUT));
        assert!(!is_shortage(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = used();
        let more: Vec<_> = (0..200)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        assert!(used() >= before.max(200), "{before} {}", used());
        drop(more);
    }
}
