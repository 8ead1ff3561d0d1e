//! Everything said to a body: is it there, pair, launch, and leave it as it was.
//!
//! Knows Sunshine, hydrabody and the stream program's own API; knows no sessions: the worker
//! calls [`SessionBody`]'s steps in order and keeps the [`CleanupRecord`] that the steps will leave, written
//! down *before* they are taken, so that [`SessionBody::leave`] can undo them after a crash too.

pub(crate) mod allowlist;
mod apps;
mod bodies;
mod body_files;
pub(crate) mod experience;
pub(crate) mod gamestream;
pub(crate) mod identity;
pub(crate) mod interfaces;
pub(crate) mod pairing;
pub(crate) mod reachability;
pub(crate) mod stream_api;
pub(crate) mod sunshine;
pub(crate) mod tofu_pins;

mod leftover_pairings;
mod session_steps;
mod teardown;

pub(crate) use bodies::{Bodies, BodyPorts, Rules};
pub(crate) use session_steps::{Paired, SessionBody, StreamTarget, TargetError};
pub(crate) use teardown::{CleanupRecord, SiblingSessions};
