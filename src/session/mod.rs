//! The session room: one stream process per session, from admit to ended.
//!
//! It knows processes, directories and ports of this machine; it knows no HTTP and no body. Two
//! promises: a session that ended has left no process, port or file behind, and a worker that
//! starts again finds what its predecessor left. Roles enter through [`supervisor::Supervisor`]
//! (start, watch, end), [`workspace::SessionsDir`], [`ports::Ports`], [`ledger::Ledger`] and
//! [`orphans`].

pub mod cgroup;
mod gate;
pub mod inherited;
pub mod ledger;
pub mod lifecycle;
pub mod orphans;
pub mod ports;
pub mod private_dir;
pub mod processes;
pub mod program;
pub mod program_config;
pub mod running;
pub mod salvage;
pub mod session_log;
pub mod state_lock;
pub mod supervisor;
pub mod tree;
pub mod workspace;

#[cfg(test)]
mod process_tests;
#[cfg(test)]
pub(crate) mod testing;
