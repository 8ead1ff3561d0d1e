//! Bytes between a browser and an upstream.
//!
//! Knows no sessions: it is given an upstream and a [`Policy`]. Path and content pass byte for
//! byte; heads are rebuilt from the parsed model; what a client says about itself in trust fields
//! never passes. HTML documents may get a snippet right after `<head>`; a WebSocket upgrade
//! becomes a tunnel.

mod content;
pub mod counters;
pub mod fields;
pub mod forward;
pub mod inject;
pub mod pool;
#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use forward::{Pass, Policy, Proxy};
pub use pool::Upstream;
