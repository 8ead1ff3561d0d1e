//! Bytes between a browser and an upstream.
//!
//! Knows no sessions: it is given an upstream and a [`Policy`]. Path and content pass byte for
//! byte; heads are rebuilt from the parsed model; what a client says about itself in trust fields
//! never passes. HTML documents may get a snippet right after `<head>`; a WebSocket upgrade
//! becomes a tunnel.

mod ask;
mod content;
pub mod counters;
mod delivery;
pub mod fields;
pub mod forward;
mod heads;
pub mod inject;
pub mod origin_guard;
pub mod policy;
pub mod pool;
#[cfg(test)]
mod tests;
mod tunnel;
mod upload;

pub use forward::Proxy;
pub use policy::{Pass, Policy};
pub use pool::Upstream;
