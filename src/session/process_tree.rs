//! Ending everything that a session has started, and proof that it is gone.
//!
//! Three nets, each for what escapes the one before: the session's cgroup; the leader's process
//! group; and every process that works in the session's directory ([`processes::is_in_workspace`]),
//! which finds what left the group by `setsid`. SIGKILL also ends what is stopped or hangs. Without
//! a cgroup a program that leaves its group *and* the directory *and* clears its environment
//! escapes; streams don't.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitOptions, kill_process_group, waitpid};

use super::cgroup::Cgroup;
use super::processes::{self, ProcessIdentity};
use crate::clock;

/// Pause between looking whether all are gone: a killed process takes a few milliseconds.
const POLL: Duration = Duration::from_millis(10);
/// Longest pause, once it takes longer.
const POLL_MAX: Duration = Duration::from_millis(100);

/// What belongs to a session.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// The leader of the process group.
    pub leader: Option<ProcessIdentity>,
    /// The leader is our own child and not yet reaped, so its pid names its group and no other.
    pub is_leader_pinned: bool,
    /// The session's directory, absolute and without symlinks.
    pub workspace: PathBuf,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
}

/// What killing a tree came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Killed {
    /// Processes that had to be killed.
    pub killed: BTreeSet<u32>,
    /// Processes still there at the deadline; only one in an uninterruptible wait survives.
    pub left: Vec<u32>,
}

impl Tree {
    /// Kills the whole tree and looks until nothing of it is left or `deadline` has come; then
    /// removes the cgroup.
    pub(crate) async fn kill(&self, deadline: Instant) -> Killed {
        let mut killed = BTreeSet::new();
        let mut pause = POLL;
        let left = loop {
            let tree = self.clone();
            let (survivors, so_far, removed) = smol::unblock(move || {
                let survivors = tree.strike(&mut killed);
                let removed = match &tree.cgroup {
                    Some(cgroup) if survivors.is_empty() => cgroup.remove(),
                    _ => Ok(()),
                };
                (survivors, killed, removed)
            })
            .await;
            killed = so_far;
            // A group that is busy holds one that was born or is dying while we looked.
            if survivors.is_empty() && removed.is_ok() {
                break survivors;
            }
            if clock::now() >= deadline {
                if let (Some(cgroup), Err(error)) = (&self.cgroup, removed) {
                    log::warn!(target: "cleanup", "cannot remove cgroup {cgroup}: {error}");
                }
                break survivors;
            }
            clock::sleep(pause).await;
            pause = (pause * 2).min(POLL_MAX);
        };
        Killed { killed, left }
    }

    /// Sends SIGKILL to all that live; answers who lived.
    fn strike(&self, killed: &mut BTreeSet<u32>) -> Vec<u32> {
        let members = self.members();
        if let Some(cgroup) = self.cgroup.as_ref().filter(|c| c.is_populated())
            && let Err(error) = cgroup.kill()
        {
            log::warn!(target: "cleanup", "cannot kill cgroup {cgroup}: {error}");
        }
        if let Some(group) = self.group()
            && let Some(pid) = processes::raw(group)
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        for member in &members {
            // Gone already is as good as killed.
            let _ = member.signal(Signal::KILL);
            killed.insert(member.pid);
        }
        self.collect(killed);
        members.iter().map(|m| m.pid).collect()
    }

    fn members(&self) -> Vec<ProcessIdentity> {
        let us = std::process::id();
        let group = self.group();
        let inside: BTreeSet<u32> = self
            .cgroup
            .as_ref()
            .map(|c| c.pids().into_iter().collect())
            .unwrap_or_default();
        processes::all()
            .into_iter()
            .filter(|s| !s.is_zombie && s.identity.pid != us)
            .filter(|s| {
                let pid = s.identity.pid;
                group == Some(s.group)
                    || inside.contains(&pid)
                    || self.leader == Some(s.identity)
                    || processes::is_in_workspace(pid, &self.workspace)
            })
            .map(|s| s.identity)
            .collect()
    }

    /// The processes of the tree that run `streamer`, except the leader. Its name is enough: an update
    /// puts the next version elsewhere. A program that streams by running itself again (the test
    /// card) is told apart by its first argument. Blocking.
    #[must_use]
    pub(crate) fn streamers(&self, streamer: &Path) -> Vec<ProcessIdentity> {
        let wanted = streamer
            .canonicalize()
            .unwrap_or_else(|_| streamer.to_owned());
        let mut members = self.members();
        members.retain(|m| {
            Some(*m) != self.leader
                && processes::executable(m.pid)
                    .is_some_and(|exe| exe == wanted || exe.file_name() == wanted.file_name())
                && (!self.leads_itself(&wanted) || processes::has_argument(m.pid, "streamer"))
        });
        members
    }

    fn leads_itself(&self, executable: &Path) -> bool {
        let leader = self.leader.and_then(|l| processes::executable(l.pid));
        leader.is_some_and(|exe| exe.file_name() == executable.file_name())
    }

    /// The process group, while its number certainly means ours: the kernel gives a pid to nobody
    /// while its first owner is unreaped.
    fn group(&self) -> Option<u32> {
        let leader = self.leader?;
        (self.is_leader_pinned || leader.is_alive()).then_some(leader.pid)
    }

    /// Orphans of a session come to us when we are process 1 of a container, and nobody else
    /// collects them. The leader is left to its owner.
    fn collect(&self, killed: &BTreeSet<u32>) {
        let us = std::process::id();
        for &pid in killed {
            let is_ours = processes::stat(pid).is_some_and(|s| s.is_zombie && s.parent == us);
            if is_ours
                && self.leader.map(|l| l.pid) != Some(pid)
                && let Some(pid) = processes::raw(pid)
            {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
    }
}
