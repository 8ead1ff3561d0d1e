//! What an earlier worker left: sessions that still run are found, the rest is cleared away.
//!
//! Runs at start, under the state directory's lock, so that whatever carries this state directory's
//! mark belongs to no living worker. Each act is one `[cleanup]` line.

use std::collections::HashSet;
use std::time::Duration;

use super::cgroup::{Cgroup, Cgroups};
use super::ledger::LedgerEntry;
use super::process_tree::Tree;
use super::processes;
use super::workspace::{SessionsDir, Workspace};
use crate::clock;
use crate::ids::SessionId;

/// How long killed processes may take to vanish before the start goes on without proof.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// The ledger's sessions, sorted by whether they live.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Their stream process lives and works in their directory.
    pub adoptable: Vec<LedgerEntry>,
    /// It does not.
    pub dead: Vec<LedgerEntry>,
}

/// What clearing one session away came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reaped {
    /// The session.
    pub id: SessionId,
    /// Processes that were killed.
    pub killed: usize,
    /// Whether no process and no file of it is left.
    pub is_clean: bool,
}

/// Tells the living sessions from the dead. Blocking.
#[must_use]
pub(crate) fn survey(mut entries: Vec<LedgerEntry>) -> Survey {
    let boot = processes::boot();
    // The machine was started anew: the process is dead, and its pid and start time may be another's.
    for entry in entries
        .iter_mut()
        .filter(|e| e.boot.is_some() && e.boot != boot)
    {
        entry.process = None;
        entry.cgroup = None;
    }
    let (adoptable, dead) = entries.into_iter().partition(|entry| {
        entry.process.is_some_and(|p| {
            p.is_alive()
                && processes::working_directory(p.pid)
                    .is_some_and(|cwd| cwd.starts_with(&entry.workspace))
        })
    });
    Survey { adoptable, dead }
}

/// Ends what is left of a dead session: its processes by cgroup, process group and directory, and
/// its directory. The pairing on the body is the caller's.
pub(crate) async fn reap(
    entry: &LedgerEntry,
    sessions: &SessionsDir,
    cgroups: Option<&Cgroups>,
) -> Reaped {
    let cgroup = entry
        .cgroup
        .as_deref()
        .and_then(|path| Cgroup::recorded(path, &entry.id))
        .or_else(|| cgroups?.existing(&entry.id));
    let recorded = Workspace::recorded(&entry.workspace, &entry.id);
    let workspace = recorded.unwrap_or_else(|| sessions.of(&entry.id));
    let tree = Tree {
        leader: entry.process,
        is_leader_pinned: false,
        workspace: workspace.path().to_owned(),
        cgroup,
    };
    clear(workspace, tree, "session").await
}

/// Ends and removes what carries this worker's mark in `sessions.dir` but is no session in `known`.
pub(crate) async fn sweep(
    sessions: &SessionsDir,
    known: &HashSet<SessionId>,
    cgroups: Option<&Cgroups>,
) -> Vec<Reaped> {
    let dir = sessions.clone();
    let leftovers = smol::unblock(move || dir.leftovers()).await;
    let mut reaped = Vec::new();
    for workspace in leftovers {
        if known.contains(workspace.id()) {
            continue;
        }
        let tree = Tree {
            leader: None,
            is_leader_pinned: false,
            workspace: workspace.path().to_owned(),
            cgroup: cgroups.and_then(|c| c.existing(workspace.id())),
        };
        reaped.push(clear(workspace, tree, "leftover").await);
    }
    reaped
}

async fn clear(workspace: Workspace, tree: Tree, kind: &str) -> Reaped {
    let id = workspace.id().clone();
    let killed = tree.kill(clock::now() + KILL_DEADLINE).await;
    let removed = smol::unblock(move || workspace.remove()).await;
    let count = killed.killed.len();
    match (&removed, killed.left.is_empty()) {
        (Ok(()), true) => {
            log::info!(target: "cleanup", "{kind} {id} reaped killed={count}");
        }
        (Ok(()), false) => {
            log::error!(target: "cleanup", "{kind} {id} not reaped, processes {:?} survive SIGKILL", killed.left);
        }
        (Err(error), _) => log::error!(target: "cleanup", "{kind} {id} not reaped: {error}"),
    }
    Reaped {
        id,
        killed: count,
        is_clean: removed.is_ok() && killed.left.is_empty(),
    }
}
