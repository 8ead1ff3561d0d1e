//! Being a server and a client of JSON APIs.
//!
//! Knows requests, replies, routes, bearer tokens and deadlines; knows no session and no worker.
//! Everything that comes in or goes out passes `wire`; `async-h1` encodes and decodes API
//! messages in memory, behind it.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod call;
mod certificates;
pub(crate) mod client;
pub(crate) mod codec;
pub(crate) mod common_routes;
mod connection;
mod connection_limit;
pub(crate) mod event_bus;
pub(crate) mod exchange;
pub(crate) mod idempotency;
mod listen;
pub(crate) mod openapi;
pub(crate) mod rate_limit;
pub(crate) mod reply;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod sse;

pub(crate) use call::{Call, Handler};
pub(crate) use exchange::UpgradedConnection;
pub use exchange::{Done, Exchange};
pub(crate) use reply::Failure;
pub use reply::Reply;

#[cfg(test)]
mod staying;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tls;
