//! File descriptors: how many this process may have, and whether strangers may have one more.
//!
//! Connections come from strangers and without end; probes, stream processes, ledger entries and
//! records need descriptors, too. So a part of them is set aside: a connection whose descriptor would
//! lie in it is closed, and idle ones give way. The kernel gives the lowest number that is free, so
//! the number of a new descriptor tells how many are taken, without counting them.

use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Least set aside: a worker's 15 sessions with four each, files, listeners and calls to bodies.
const RESERVE_MIN: u64 = 128;
/// Most set aside: what a machine's sessions can need.
const RESERVE_MAX: u64 = 512;
/// The part of the limit that is set aside, one in so many, between those bounds.
const RESERVE_PART: u64 = 4;
/// Descriptors of a connection and the upstream connection that serves it.
const PER_CONNECTION: u64 = 2;
/// Stands in for a kernel that sets no limit: the default maximum of Linux (`fs.nr_open`).
const UNLIMITED: u64 = 1_048_576;

/// The soft limit that this process was started with: what its children get.
static AT_START: OnceLock<Rlimit> = OnceLock::new();
static PROBLEM: OnceLock<String> = OnceLock::new();

/// Raises the soft limit to the hard one. systemd's default soft limit, 1,024, is for programs that
/// use `select`; this one does not.
pub fn raise() {
    let limit = *AT_START.get_or_init(|| getrlimit(Resource::Nofile));
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!(target: "exec", "cannot raise the limit of descriptors to {:?}: {error}", limit.maximum);
    }
}

/// The limit for children: the one that this process was started with.
#[must_use]
pub fn of_children() -> Rlimit {
    *AT_START.get_or_init(|| getrlimit(Resource::Nofile))
}

fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

fn reserve(limit: u64) -> u64 {
    let reserve = (limit / RESERVE_PART).clamp(RESERVE_MIN, RESERVE_MAX);
    reserve.min(limit / 2)
}

/// Whether this descriptor lies in the part that is set aside, so that a connection must not keep it.
pub fn is_reserved(descriptor: impl AsFd) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or_default();
    let limit = limit();
    number >= limit - reserve(limit)
}

/// The connections that can be served at once: `wanted`, or as many as the descriptors allow, which
/// is then said in the log and by [`problem`].
pub fn connections(wanted: usize) -> usize {
    let limit = limit();
    let most = usize::try_from((limit - reserve(limit)) / PER_CONNECTION).unwrap_or(wanted);
    if most >= wanted {
        return wanted;
    }
    let problem = PROBLEM.get_or_init(|| {
        format!(
            "{limit} file descriptors allow {most} connections, server.connections_max is {wanted}: raise LimitNOFILE of the unit"
        )
    });
    log::warn!(target: "exec", "{problem}");
    most
}

/// What [`connections`] had to say, for health.
#[must_use]
pub fn problem() -> Option<String> {
    PROBLEM.get().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_every_limit_is_set_aside() {
        for (limit, kept) in [(64, 32), (256, 128), (1_024, 256), (524_288, 512)] {
            assert_eq!(reserve(limit), kept, "{limit}");
        }
    }

    #[test]
    fn a_descriptor_far_below_the_limit_is_not_reserved() {
        assert!(!is_reserved(std::io::stdin()));
    }
}
