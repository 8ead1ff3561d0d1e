//! One cgroup (version 2) per session: nothing leaves it by forking, and `cgroup.kill` ends it whole.
//!
//! Session groups are made beside the worker's own processes. Limits need the `memory` and `pids`
//! controllers, which the kernel gives only to children of a group without processes, so they work
//! where the unit says `Delegate=yes` and `DelegateSubgroup=worker`: the worker is in a leaf then.
//! (The worker never moves itself there: an older systemd could not start it again beside the
//! sessions that it kept.) Elsewhere groups without limits are tried; without cgroup v2 or the right
//! to make groups, [`Cgroups::find`] answers `None` and process groups must do.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ids::SessionId;

/// The leaf where `DelegateSubgroup=` puts the worker.
const WORKER_LEAF: &str = "worker";
/// What a session's group is called, before its id.
const PREFIX: &str = "session-";
/// Deepest nesting below a session's group that is emptied and removed; streams make none.
const DEPTH_MAX: usize = 8;

/// Bounds on what one session may use; `None` leaves the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupLimits {
    /// Bytes of memory.
    pub memory_max: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
}

/// Where session groups are made.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    base: PathBuf,
    limits: bool,
}

/// One session's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroups {
    /// Finds the place for session groups and proves it by making and removing one.
    #[must_use]
    pub(crate) fn find() -> Option<Self> {
        let own = own_group()?;
        let is_leaf = own.file_name().is_some_and(|n| n == WORKER_LEAF);
        match own.parent().filter(|_| is_leaf) {
            Some(unit) => Self::at(unit.to_owned(), true),
            None => Self::at(own, false),
        }
    }

    /// Session groups below `base`, when groups can be made there.
    fn at(base: PathBuf, is_delegated: bool) -> Option<Self> {
        let probe = base.join(format!("probe-{}", crate::ids::label()));
        fs::create_dir(&probe).ok()?;
        let has_kill = probe.join("cgroup.kill").exists();
        let _ = fs::remove_dir(&probe);
        if !has_kill {
            return None;
        }
        let control = base.join("cgroup.subtree_control");
        for controller in ["+memory", "+pids"].iter().filter(|_| is_delegated) {
            if let Err(error) = fs::write(&control, controller) {
                log::warn!(target: "worker", "cannot enable {controller} in {}, sessions go without that limit: {error}", control.display());
            }
        }
        let enabled = fs::read_to_string(&control).unwrap_or_default();
        let limits = ["memory", "pids"]
            .iter()
            .all(|c| enabled.split_whitespace().any(|e| e == *c));
        Some(Self { base, limits })
    }

    /// Whether [`CgroupLimits`] are enforced here.
    #[must_use]
    pub(crate) fn has_limits(&self) -> bool {
        self.limits
    }

    /// Makes the session's group; one left over from before is emptied first.
    ///
    /// # Errors
    /// When the group cannot be made.
    pub(crate) fn create(&self, id: &SessionId, limits: CgroupLimits) -> io::Result<Cgroup> {
        let cgroup = Cgroup {
            path: self.base.join(format!("{PREFIX}{id}")),
        };
        match fs::create_dir(&cgroup.path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => cgroup.kill()?,
            other => other?,
        }
        let set = |file: &str, value: Option<u64>| {
            let path = cgroup.path.join(file);
            match value.filter(|_| self.limits && path.exists()) {
                Some(value) => fs::write(path, value.to_string()),
                None => Ok(()),
            }
        };
        set("memory.max", limits.memory_max)?;
        // Out of memory ends the session, not a random half of it.
        set("memory.oom.group", limits.memory_max.map(|_| 1))?;
        set("pids.max", limits.pids_max)?;
        Ok(cgroup)
    }

    /// The session's group as a predecessor made it, when it is still there.
    #[must_use]
    pub(crate) fn existing(&self, id: &SessionId) -> Option<Cgroup> {
        let path = self.base.join(format!("{PREFIX}{id}"));
        path.is_dir().then_some(Cgroup { path })
    }
}

impl Cgroup {
    /// The group that a ledger names, when it still exists and is indeed the group of `id`: the
    /// ledger is a file, and `cgroup.kill` in a wrong place would be a catastrophe.
    #[must_use]
    pub(crate) fn recorded(path: &Path, id: &SessionId) -> Option<Self> {
        let named = path
            .file_name()
            .is_some_and(|n| *n == *format!("{PREFIX}{id}"));
        let inside = mount_point().is_some_and(|mount| path.starts_with(mount));
        let plain = path.components().all(|c| {
            matches!(
                c,
                std::path::Component::RootDir | std::path::Component::Normal(_)
            )
        });
        (named && inside && plain && path.is_dir()).then(|| Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the process (all its threads) in; what it forks from now on is born inside.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// The processes inside, nested groups included.
    #[must_use]
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for group in self.groups() {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
        }
        pids
    }

    /// Whether any process lives inside.
    #[must_use]
    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|l| l == "populated 1"))
    }

    /// Sends SIGKILL to everything inside, forks in flight included.
    ///
    /// # Errors
    /// When the kernel refuses; a group that is gone is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes the empty group with its nested groups.
    ///
    /// # Errors
    /// `ResourceBusy` while processes are inside.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for group in self.groups().iter().rev() {
            match fs::remove_dir(group) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// This group and those nested in it, parents first.
    fn groups(&self) -> Vec<PathBuf> {
        let mut groups = vec![self.path.clone()];
        let mut level = groups.clone();
        for _ in 0..DEPTH_MAX {
            level = level.iter().flat_map(|g| subdirectories(g)).collect();
            groups.extend(level.iter().cloned());
        }
        groups
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `unified` below it on hybrid machines.
fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|l| l.strip_prefix("0::/"))?;
    // Outside the cgroup namespace the path would start with `..`.
    (!own.starts_with("..")).then_some(())?;
    Some(mount_point()?.join(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{self, Scratch, Stray};

    #[test]
    fn a_killed_group_is_empty_and_can_be_removed() {
        let Some(cgroups) = testing::cgroups() else {
            return;
        };
        let id = SessionId::random().unwrap();
        let cgroup = cgroups.create(&id, CgroupLimits::default()).unwrap();
        let mut child = Stray::sleeping(Path::new("/"));
        cgroup.add(child.pid()).unwrap();
        assert!(cgroup.is_populated());
        assert_eq!(cgroup.pids(), [child.pid()]);
        assert!(cgroup.remove().is_err());
        assert_eq!(cgroups.existing(&id), Some(cgroup.clone()));
        assert_eq!(Cgroup::recorded(cgroup.path(), &id), Some(cgroup.clone()));

        cgroup.kill().unwrap();
        child.wait();
        testing::eventually("the group to be empty", || !cgroup.is_populated());
        cgroup.remove().unwrap();
        assert_eq!(cgroups.existing(&id), None);
        cgroup.kill().unwrap();
    }

    #[test]
    fn a_nested_group_is_removed_with_its_parent() {
        let Some(cgroups) = testing::cgroups() else {
            return;
        };
        let id = SessionId::random().unwrap();
        let cgroup = cgroups.create(&id, CgroupLimits::default()).unwrap();
        fs::create_dir_all(cgroup.path().join("a/b")).unwrap();
        cgroup.remove().unwrap();
        assert!(!cgroup.path().exists());
    }

    #[test]
    fn limits_are_written_where_the_controllers_are_and_left_out_where_they_are_not() {
        // The kernel makes these files; a directory of our own stands for a group with controllers,
        // which the machine of the tests need not have.
        let limits = CgroupLimits {
            memory_max: Some(1 << 30),
            pids_max: Some(64),
        };
        let files = ["memory.max", "memory.oom.group", "pids.max"];
        for (has_limits, limits, expected) in [
            (true, limits, ["1073741824", "1", "64"]),
            (true, CgroupLimits::default(), ["", "", ""]),
            (false, limits, ["", "", ""]),
        ] {
            let scratch = Scratch::new();
            let id = SessionId::random().unwrap();
            let group = scratch.path().join(format!("session-{id}"));
            fs::create_dir(&group).unwrap();
            for file in files {
                fs::write(group.join(file), "").unwrap();
            }
            let cgroups = Cgroups {
                base: scratch.path().to_owned(),
                limits: has_limits,
            };
            cgroups.create(&id, limits).unwrap();
            let written = files.map(|file| fs::read_to_string(group.join(file)).unwrap());
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_ledger_cannot_name_another_group() {
        let id = SessionId::random().unwrap();
        let scratch = Scratch::new();
        let elsewhere = scratch.path().join(format!("session-{id}"));
        fs::create_dir(&elsewhere).unwrap();
        assert_eq!(Cgroup::recorded(&elsewhere, &id), None);
        assert_eq!(Cgroup::recorded(Path::new("/sys/fs/cgroup"), &id), None);
        if let Some(mount) = mount_point() {
            assert_eq!(Cgroup::recorded(&mount, &id), None);
            let dotted = mount.join(format!("../{}/session-{id}", mount.display()));
            assert_eq!(Cgroup::recorded(&dotted, &id), None);
        }
    }

    #[test]
    fn a_directory_that_is_no_cgroup_gives_no_groups() {
        let scratch = Scratch::new();
        assert!(Cgroups::at(scratch.path().to_owned(), true).is_none());
        assert!(Cgroups::at(scratch.path().join("missing"), true).is_none());
    }
}
