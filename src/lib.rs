//! hydraneckwebrtc: the neck between browsers and GPU bodies.
//!
//! One binary, two roles. A *controller* takes session requests and routes them; a *worker* runs
//! one stream process per session, pairs it with the body's Sunshine, supervises it and proxies
//! browsers to it. `tests/layers.rs` holds the table of which room may import which.

// main
pub mod cli;
// roles
pub mod controller;
pub mod demo;
pub mod testcard;
pub mod update;
pub mod worker;
// domains
pub mod body;
pub mod dashboard;
pub mod etcd;
pub mod mic;
pub mod proxy;
pub mod records;
pub mod session;
// being a server and a client
pub mod acme;
pub mod http;
pub mod metrics;
pub mod page;
pub mod turn;
// bytes and shapes
pub mod protocol;
pub mod tls;
pub mod wire;
// ground
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod exec;
pub mod ids;
pub mod log;
pub mod secret;
