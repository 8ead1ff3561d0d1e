//! Being a server and a client of JSON APIs.
//!
//! Knows requests, replies, routes, bearer tokens and deadlines; knows no session and no worker.
//! Everything that comes in or goes out passes `wire`; `async-h1` encodes and decodes API
//! messages in memory, behind it.

pub mod audit;
pub mod auth;
pub mod bucket;
pub mod call;
mod certificates;
pub mod client;
pub mod codec;
pub mod common_routes;
mod connection;
mod connection_limit;
pub mod event_bus;
pub mod exchange;
pub mod idempotency;
pub mod keyed;
mod listen;
pub mod openapi;
pub mod reply;
pub mod router;
pub mod server;
pub mod sse;

pub use call::{Call, Handler};
pub use exchange::{Done, Exchange, Rest};
pub use reply::{Failure, Reply};

#[cfg(test)]
mod staying;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tls;
