//! Starting stream processes, and taking over those of an earlier worker.
//!
//! Every process belongs to a tree that can be ended whole: a cgroup where there is one, else a
//! process group; `gate` puts it there before it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_process::{Child, Stdio};
use rustix::process::{Signal, kill_process_group};

use super::cgroup::{Cgroup, CgroupLimits, Cgroups};
use super::cgroup_exec;
use super::ledger::LedgerEntry;
use super::output_log::SessionLog;
use super::process_tree::Tree;
use super::processes::{self, ProcessIdentity};
use super::stream_process::StreamProcess;
use super::stream_program::{self, StreamProgram};
use super::workspace::Workspace;
use crate::ids::SessionId;
use crate::{clock, descriptors, exec};

/// Time to end a process whose create was cancelled, as for any session.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);

/// Why a stream process was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The session's directory has no room for its output.
    #[error("cannot make the output pipe in {}: {error}, check space and rights of sessions.dir", .workspace.display())]
    Output {
        /// The directory.
        workspace: PathBuf,
        /// What failed.
        #[source]
        error: io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot start {}: {error}, check sessions.web_server and the limits of the worker", .executable.display())]
    Program {
        /// The program.
        executable: PathBuf,
        /// What failed.
        #[source]
        error: io::Error,
    },
}

/// Why a session of an earlier worker is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    /// Its process is gone, or its pid is another's now.
    #[error("its process is gone")]
    Gone,
    /// The process does not work in the session's directory.
    #[error("process {pid} does not work in its directory")]
    NotInWorkspace {
        /// Its pid.
        pid: u32,
    },
    /// The kernel refuses to watch it.
    #[error("its process cannot be watched: {0}")]
    Watch(#[source] io::Error),
}

/// Starts and adopts the stream processes of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    cgroups: Option<Cgroups>,
    limits: CgroupLimits,
    log_max_bytes: u64,
}

impl Spawner {
    /// A supervisor with cgroups where they can be had; says which way it goes.
    #[must_use]
    pub(crate) fn new(limits: CgroupLimits, log_max_bytes: u64) -> Self {
        let cgroups = Cgroups::find().filter(|_| cgroup_exec::is_there());
        match &cgroups {
            Some(found) if found.has_limits() => {
                log::info!(target: "worker", "sessions run in cgroups with limits");
            }
            Some(_) => log::info!(target: "worker", "sessions run in cgroups without limits"),
            None => {
                log::info!(target: "worker", "no cgroups here, sessions run in process groups");
            }
        }
        Self::with(cgroups, limits, log_max_bytes)
    }

    /// A supervisor that uses these cgroups, or none.
    #[must_use]
    pub(crate) fn with(cgroups: Option<Cgroups>, limits: CgroupLimits, log_max_bytes: u64) -> Self {
        Self {
            cgroups,
            limits,
            log_max_bytes,
        }
    }

    /// Where session groups are made, when they are.
    #[must_use]
    pub(crate) fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// Starts `program` in `workspace`. Dropping the future ends what it has started by then.
    ///
    /// # Errors
    /// When the program or its surroundings are missing; nothing runs then.
    pub(crate) async fn spawn(
        &self,
        program: &StreamProgram,
        workspace: &Workspace,
    ) -> Result<StreamProcess, SpawnError> {
        let (this, program, workspace) = (self.clone(), program.clone(), workspace.clone());
        let executable = program.executable.clone();
        let mut unclaimed = smol::unblock(move || this.start(&program, &workspace)).await?;
        unclaimed.0.take().ok_or_else(|| SpawnError::Program {
            executable,
            error: io::Error::other("it was claimed before"),
        })
    }

    /// Takes over the session that `entry` tells of, when its process still works in its directory.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn adopt(&self, entry: &LedgerEntry) -> Result<StreamProcess, AdoptError> {
        let leader = entry.process.ok_or(AdoptError::Gone)?;
        let (workspace, id) = (entry.workspace.clone(), entry.id.clone());
        if !leader.is_alive() {
            return Err(AdoptError::Gone);
        }
        let cwd = processes::working_directory(leader.pid);
        if !cwd.is_some_and(|cwd| cwd.starts_with(&workspace)) {
            return Err(AdoptError::NotInWorkspace { pid: leader.pid });
        }
        let log = SessionLog::open(&workspace, self.log_max_bytes);
        let copying = log
            .inspect_err(|error| {
                log::warn!(target: "session", session = id.as_str(); "output is no longer kept: {error}");
            })
            .ok()
            .map(|log| log.copy(id.clone()));
        let tree = Tree {
            leader: Some(leader),
            is_leader_pinned: false,
            workspace,
            cgroup: entry
                .cgroup
                .as_deref()
                .and_then(|path| Cgroup::recorded(path, &id)),
        };
        StreamProcess::new(id, tree, leader, None, copying).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => AdoptError::Gone,
            _ => AdoptError::Watch(error),
        })
    }

    fn start(
        &self,
        program: &StreamProgram,
        workspace: &Workspace,
    ) -> Result<Unclaimed, SpawnError> {
        let failed = |error| SpawnError::Program {
            executable: program.executable.clone(),
            error,
        };
        stream_program::is_executable(&program.executable).map_err(failed)?;
        let (log, output) =
            SessionLog::create(workspace.path(), self.log_max_bytes).map_err(|error| {
                SpawnError::Output {
                    workspace: workspace.path().to_owned(),
                    error,
                }
            })?;
        let cgroup = self.cgroup(workspace.id(), &program.executable);
        let environment = cgroup_exec::environment(workspace.path());
        let gated = cgroup.and_then(|cgroup| {
            match cgroup_exec::through(program, workspace.path(), &environment, &output, &cgroup) {
                Ok(child) => Some((child, Some(cgroup))),
                Err(error) => {
                    log::warn!(target: "session", session = workspace.id().as_str(); "cannot start inside cgroup {cgroup}, a process group must do: {error}");
                    let _ = cgroup.kill().and_then(|()| cgroup.remove());
                    None
                }
            }
        });
        let (child, cgroup) = match gated {
            Some(started) => started,
            None => {
                let mut command = std::process::Command::new(&program.executable);
                command.args(&program.args).env_clear().envs(environment);
                let child = cgroup_exec::launch(command, workspace.path(), Stdio::null(), &output)
                    .map_err(failed)?;
                // It runs already: no gate holds it.
                descriptors::give_back(Some(child.id()));
                (child, None)
            }
        };
        let pid = child.id();
        let watched = watch(child, workspace, cgroup.clone(), log);
        if watched.is_err() {
            // Out of descriptors: a process that cannot be watched must not run.
            if let Some(pid) = processes::raw(pid) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            if let Some(cgroup) = cgroup {
                let _ = cgroup.kill().and_then(|()| cgroup.remove());
            }
        }
        watched
            .map(|running| Unclaimed(Some(running)))
            .map_err(failed)
    }

    fn cgroup(&self, id: &SessionId, executable: &Path) -> Option<Cgroup> {
        let cgroups = self.cgroups.as_ref()?;
        // `env` would take such a path for a variable.
        if executable.as_os_str().as_encoded_bytes().contains(&b'=') {
            return None;
        }
        cgroups
            .create(id, self.limits)
            .inspect_err(|error| {
                log::warn!(target: "session", session = id.as_str(); "no cgroup, a process group must do: {error}");
            })
            .ok()
    }
}

/// Ends the session's processes when nobody came for them: the create was cancelled meanwhile.
struct Unclaimed(Option<StreamProcess>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            let ending = async move { running.end(clock::now() + CANCEL_DEADLINE).await };
            exec::spawn(ending).detach();
        }
    }
}

fn watch(
    child: Child,
    workspace: &Workspace,
    cgroup: Option<Cgroup>,
    log: SessionLog,
) -> io::Result<StreamProcess> {
    // The child is unreaped, so the table has it even when it has died already.
    let leader = ProcessIdentity::of(child.id()).ok_or(io::ErrorKind::NotFound)?;
    let tree = Tree {
        leader: Some(leader),
        is_leader_pinned: true,
        workspace: workspace.path().to_owned(),
        cgroup,
    };
    let id = workspace.id().clone();
    let copying = log.copy(id.clone());
    StreamProcess::new(id, tree, leader, Some(child), Some(copying))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{self, Scratch};

    #[test]
    fn a_start_that_nobody_waits_for_leaves_no_process() {
        for cgroups in [None, testing::cgroups()] {
            let supervisor = Spawner::with(cgroups, CgroupLimits::default(), 1_024);
            let scratch = Scratch::new();
            let id = SessionId::random().unwrap();
            let workspace = scratch.sessions().create(&id).unwrap();
            let program = scratch.program("exec sleep 300");
            let unclaimed = supervisor.start(&program, &workspace).unwrap();
            let leader = unclaimed.0.as_ref().unwrap().identity();
            assert!(leader.is_alive());
            drop(unclaimed);
            testing::eventually("the process to be reaped", || {
                ProcessIdentity::of(leader.pid) != Some(leader)
            });
            testing::eventually("the cgroup to be removed", || {
                supervisor.cgroups().and_then(|c| c.existing(&id)).is_none()
            });
        }
    }

    #[test]
    fn a_program_whose_path_looks_like_a_variable_starts_all_the_same() {
        let supervisor = Spawner::with(testing::cgroups(), CgroupLimits::default(), 1_024);
        let scratch = Scratch::new();
        let id = SessionId::random().unwrap();
        let workspace = scratch.sessions().create(&id).unwrap();
        let mut program = scratch.program("");
        program.executable = scratch.script("a=b/program", "exit 5");
        let running = exec::block_on(supervisor.spawn(&program, &workspace)).unwrap();
        let exit = exec::block_on(running.exited());
        assert_eq!(exit, crate::session::stream_process::Exit::Code(5));
    }
}
