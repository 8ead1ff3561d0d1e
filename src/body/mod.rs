//! Everything said to a body: is it there, pair, launch, and leave it as it was.
//!
//! Knows Sunshine, hydrabody and the stream program's own API; knows no sessions: the worker
//! calls [`Body`]'s steps in order and keeps the [`CleanupRecord`] that the steps will leave, written
//! down *before* they are taken, so that [`Body::leave`] can undo them after a crash too.

pub mod allowlist;
mod apps;
mod bodies;
mod body_files;
pub mod experience;
pub mod gamestream;
pub mod identity;
pub mod interfaces;
pub mod pairing;
pub mod reachability;
pub mod stream_api;
pub mod sunshine;
pub mod tofu_pins;

mod leftover_pairings;
mod session_steps;
mod teardown;

pub use bodies::{Bodies, Ports, Rules};
pub use session_steps::{Body, Paired, StreamTarget};
pub use teardown::{CleanupRecord, SiblingSessions};
