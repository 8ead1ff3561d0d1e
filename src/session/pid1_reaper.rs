//! Orphans that a worker inherits as process 1 of a container: nobody else reaps them.
//!
//! Elsewhere init does it, and the worker does not make itself a subreaper: it would gain zombies
//! and could not tell whose they were. Our own children are collected by those who started them,
//! within seconds; what stays a zombie for longer was never ours to begin with.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::{WaitOptions, waitpid};

use super::processes::{self, ProcessIdentity};
use crate::clock;

/// A zombie is an orphan's when it is seen twice this far apart: ending a session takes 5 s.
const GRACE: Duration = Duration::from_secs(60);

/// Reaps inherited zombies for ever when this is process 1, else ends at once.
pub(crate) async fn reap() {
    if std::process::id() != 1 {
        return;
    }
    let mut seen = HashSet::new();
    loop {
        clock::sleep(GRACE).await;
        seen = smol::unblock(move || collect(&seen)).await;
    }
}

/// Reaps the zombies in `seen`; answers those that may be reaped next time.
fn collect(seen: &HashSet<ProcessIdentity>) -> HashSet<ProcessIdentity> {
    let us = std::process::id();
    let zombies = processes::all()
        .into_iter()
        .filter(|s| s.is_zombie && s.parent == us);
    let (stale, fresh): (HashSet<_>, HashSet<_>) =
        zombies.map(|s| s.identity).partition(|z| seen.contains(z));
    for pid in stale.iter().filter_map(|z| processes::raw(z.pid)) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing;

    #[test]
    #[allow(clippy::zombie_processes)] // the zombie is the point
    fn a_zombie_is_reaped_when_it_is_seen_again() {
        let child = std::process::Command::new("true").spawn().unwrap();
        let zombie = ProcessIdentity::of(child.id()).unwrap();
        testing::eventually("the child to die", || !zombie.is_alive());
        assert!(collect(&HashSet::new()).contains(&zombie));
        assert_eq!(ProcessIdentity::of(zombie.pid), Some(zombie));
        assert!(!collect(&HashSet::from([zombie])).contains(&zombie));
        assert_ne!(ProcessIdentity::of(zombie.pid), Some(zombie));
    }
}
