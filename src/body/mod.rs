//! Everything said to a body: is it there, pair, launch, and leave it as it was.
//!
//! Knows Sunshine, hydrabody and the stream program's own API; knows no sessions: the worker
//! calls [`Body`]'s steps in order and keeps the [`Traces`] that the steps will leave, written
//! down *before* they are taken, so that [`Body::leave`] can undo them after a crash too.

mod apps;
mod bodies;
pub mod experience;
mod files;
pub mod gamestream;
pub mod identity;
pub mod interfaces;
pub mod networks;
pub mod pairing;
pub mod pins;
pub mod program;
pub mod reachability;
pub mod sunshine;

mod leave;
mod tidy;
mod visit;

pub use bodies::{Bodies, Ports, Rules};
pub use leave::{Departure, Neighbours, Traces};
pub use visit::{Body, Paired, StreamTarget};
