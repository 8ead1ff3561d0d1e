//! hydraneckwebrtc: the neck between browsers and GPU bodies.
//!
//! One binary, two roles. A *controller* takes session requests and routes them; a *worker* runs
//! one stream process per session, pairs it with the body's Sunshine, supervises it and proxies
//! browsers to it. `tests/layers.rs` holds the table of which room may import which.

// main
mod cli;
// roles
mod controller;
#[cfg(feature = "demo")]
mod demo;
mod update;
mod worker;
// domains
mod body;
mod dashboard;
mod etcd;
mod mic;
mod proxy;
mod records;
mod session;
// being a server and a client
mod acme;
mod http;
mod metrics;
mod page;
mod turn;
// bytes and shapes
mod protocol;
mod tls;
mod wire;
// ground
mod atomic_file;
mod clock;
mod config;
mod descriptors;
mod exec;
mod ids;
mod log;
mod secret;
mod sync;

pub use cli::main;

#[doc(hidden)]
pub mod testing;
