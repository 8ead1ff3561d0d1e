//! The session room: one stream process per session, from admit to ended.
//!
//! It knows processes, directories and ports of this machine; it knows no HTTP and no body. Two
//! promises: a session that ended has left no process, port or file behind, and a worker that
//! starts again finds what its predecessor left. Roles enter through [`spawner::Spawner`]
//! (start, watch, end), [`workspace::SessionsDir`], [`ports::Ports`], [`ledger::Ledger`] and
//! [`orphans`].

pub(crate) mod cgroup;
mod cgroup_exec;
pub(crate) mod ledger;
pub(crate) mod lifecycle;
pub(crate) mod output_log;
pub(crate) mod pid1_reaper;
pub(crate) mod ports;
pub(crate) mod private_dir;
pub(crate) mod process_tree;
pub(crate) mod processes;
pub(crate) mod program_config;
pub(crate) mod recovery;
pub(crate) mod salvage;
pub(crate) mod spawner;
pub(crate) mod state_lock;
pub(crate) mod stream_process;
pub(crate) mod stream_program;
pub(crate) mod workspace;

#[cfg(test)]
mod process_tests;
#[cfg(test)]
pub(crate) mod testing;
