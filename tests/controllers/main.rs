//! Several controllers, one fleet: the real binary and a real etcd on loopback.
//!
//! One test, one bench and one etcd of its own. `HYDRANECK_STORE_AWAY=60s` takes the store away
//! for a minute instead of some seconds, `HYDRANECK_STORE_STEPS=300` makes the chaos longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub
)]

#[path = "../neck/support/mod.rs"]
mod support;

mod client;
mod cluster;
mod faults;
mod fleet;
mod refused;
mod sick;
mod unsure;
