//! The kernel's process table as `/proc` shows it: who is who, who is alive, whose is it.
//!
//! A pid alone names nothing for long, so processes are named by pid *and* start time, and signals
//! go through a pidfd that was checked against both.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Most bytes of a foreign environment that are searched; ours is under 1 KiB and comes first.
const ENVIRON_MAX: u64 = 128 * 1024;

/// One process for its whole life: a reused pid has another start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// Clock ticks from boot to its start (field 22 of `/proc/<pid>/stat`).
    pub start_time: u64,
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// Its parent's pid.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Dead, waiting for its parent to notice.
    pub is_zombie: bool,
}

impl ProcessIdentity {
    /// The process that has `pid` now.
    #[must_use]
    pub(crate) fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|s| s.identity)
    }

    /// Whether this very process runs (or sleeps, or is stopped); a zombie does not.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|s| s.identity == *self && !s.is_zombie)
    }

    /// A descriptor that stands for this process and no later one of the same pid.
    ///
    /// # Errors
    /// `NotFound` when the process is gone (also when its pid was given away).
    pub(crate) fn pidfd(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the process is gone");
        let fd = pidfd_open(raw(self.pid).ok_or_else(gone)?, PidfdFlags::empty())?;
        // Checked after opening: from here on the descriptor and the identity agree.
        if Self::of(self.pid) == Some(*self) {
            Ok(fd)
        } else {
            Err(gone())
        }
    }

    /// Sends `signal` to this process and to no other.
    ///
    /// # Errors
    /// When the process is gone or may not be signalled.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.pidfd()?, signal)?)
    }
}

/// Names the machine's life from one start to the next: identities mean nothing beyond it.
#[must_use]
pub(crate) fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// `pid` as the kernel's type; zero and out-of-range values are nobody.
pub(super) fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The entry of `pid` in the process table.
#[must_use]
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in field 2 may hold spaces and parentheses, so fields are counted from the last `)`.
fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let dead = matches!(*fields.first()?, "Z" | "X" | "x");
    // A leader thread that ended before its siblings shows as Z while the process lives on.
    let is_zombie = dead && number(20)? <= 1;
    Some(Stat {
        identity: ProcessIdentity {
            pid,
            start_time: number(22)?,
        },
        parent: u32::try_from(number(4)?).ok()?,
        group: u32::try_from(number(5)?).ok()?,
        is_zombie,
    })
}

/// Every process that can be seen. Blocking: call it off the executor's threads.
#[must_use]
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect()
}

/// Whether the process works in `workspace` (absolute, without symlinks): its working directory or
/// its program is inside, or it was started with it as `HOME`, which survives `setsid`, double
/// forks and changes of directory.
#[must_use]
pub(crate) fn is_in_workspace(pid: u32, workspace: &Path) -> bool {
    let inside = |link: &str| link_of(pid, link).is_some_and(|path| path.starts_with(workspace));
    inside("cwd") || inside("exe") || has_home(pid, workspace)
}

/// The process that leads its group and works in `workspace`; of several the oldest. Blocking.
#[must_use]
pub(crate) fn leader_in(workspace: &Path) -> Option<ProcessIdentity> {
    let leaders = all().into_iter().filter(|s| {
        let pid = s.identity.pid;
        let works_there = || working_directory(pid).is_some_and(|cwd| cwd.starts_with(workspace));
        s.group == pid && !s.is_zombie && works_there()
    });
    let leaders = leaders.map(|s| s.identity);
    leaders.min_by_key(|identity| identity.start_time)
}

/// The process's working directory.
#[must_use]
pub(crate) fn working_directory(pid: u32) -> Option<PathBuf> {
    link_of(pid, "cwd")
}

/// The process's executable.
#[must_use]
pub(crate) fn executable(pid: u32) -> Option<PathBuf> {
    link_of(pid, "exe")
}

/// Whether the process was started with exactly this argument.
#[must_use]
pub(crate) fn has_argument(pid: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0)
        .skip(1)
        .any(|a| a == argument.as_bytes())
}

fn link_of(pid: u32, link: &str) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/{link}")).ok()?;
    // The kernel marks removed files and directories this way.
    match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(removed) => Some(PathBuf::from(removed)),
        None => Some(path),
    }
}

fn has_home(pid: u32, workspace: &Path) -> bool {
    let mut environ = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|f| f.take(ENVIRON_MAX).read_to_end(&mut environ));
    let home = [b"HOME=", workspace.as_os_str().as_encoded_bytes()].concat();
    read.is_ok() && environ.split(|b| *b == 0).any(|pair| pair == home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) Z (b) c) S 7 9 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 12345 0 0";
        let stat = parse_stat(42, line).unwrap();
        assert_eq!((stat.parent, stat.group, stat.is_zombie), (7, 9, false));
        assert_eq!(stat.identity.start_time, 12_345);
        assert_eq!(parse_stat(42, "42 (torn"), None);
        assert_eq!(parse_stat(42, "42 (torn) S 1"), None);
    }

    #[test]
    fn a_dead_leader_thread_is_no_zombie_while_its_siblings_live() {
        let line = |threads| format!("42 (x) Z 7 9 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0");
        assert!(parse_stat(42, &line(1)).unwrap().is_zombie);
        assert!(!parse_stat(42, &line(4)).unwrap().is_zombie);
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let me = ProcessIdentity::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let reused = ProcessIdentity {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!reused.is_alive());
        assert!(reused.pidfd().is_err());
        assert!(reused.signal(Signal::KILL).is_err());
        for nobody in [0, u32::MAX] {
            assert_eq!(ProcessIdentity::of(nobody), None);
        }
    }

    #[test]
    fn all_processes_hold_this_one() {
        let me = std::process::id();
        assert!(all().iter().any(|s| s.identity.pid == me));
        let cwd = std::env::current_dir().unwrap();
        assert!(is_in_workspace(me, &cwd));
        assert!(!is_in_workspace(me, Path::new("/nowhere/at/all")));
    }
}
