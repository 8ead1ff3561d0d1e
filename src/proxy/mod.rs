//! Bytes between a browser and an upstream.
//!
//! Knows no sessions: it is given an upstream and a [`Policy`]. Path and content pass byte for
//! byte; heads are rebuilt from the parsed model; what a client says about itself in trust fields
//! never passes. HTML documents may get a snippet right after `<head>`; a WebSocket upgrade
//! becomes a tunnel.

pub(crate) mod counters;
pub(crate) mod forward;
pub(crate) mod headers;
mod heads;
pub(crate) mod inject;
pub(crate) mod origin_guard;
pub(crate) mod policy;
mod request_body;
mod request_buffer;
mod response_body;
#[cfg(test)]
mod tests;
mod tunnel;
pub(crate) mod upstream_pool;
mod upstream_request;

pub use forward::Proxy;
pub(crate) use policy::Pass;
pub use policy::Policy;
pub use upstream_pool::Upstream;
