//! The session room: one stream process per session, from admit to ended.
//!
//! It knows processes, directories and ports of this machine; it knows no HTTP and no body. Two
//! promises: a session that ended has left no process, port or file behind, and a worker that
//! starts again finds what its predecessor left. Roles enter through [`spawner::Spawner`]
//! (start, watch, end), [`workspace::SessionsDir`], [`ports::Ports`], [`ledger::Ledger`] and
//! [`orphans`].

pub mod cgroup;
mod cgroup_exec;
pub mod ledger;
pub mod lifecycle;
pub mod output_log;
pub mod pid1_reaper;
pub mod ports;
pub mod private_dir;
pub mod process_tree;
pub mod processes;
pub mod program_config;
pub mod recovery;
pub mod salvage;
pub mod spawner;
pub mod state_lock;
pub mod stream_process;
pub mod stream_program;
pub mod workspace;

#[cfg(test)]
mod process_tests;
#[cfg(test)]
pub(crate) mod testing;
