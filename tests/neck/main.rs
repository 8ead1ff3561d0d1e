//! The real binary over real sockets: what operators, browsers and faults get to see.
//!
//! One test, one bench: own directory, ports, body and processes, so that all run at once and
//! none knows of another. `HYDRANECK_SOAK=1000` makes the soak the whole one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod support;

mod api_input;
mod bodies;
mod capacity;
mod chaos;
mod clocks;
mod commands;
mod dashboard;
mod demo;
mod faults;
mod fleet;
mod floods;
mod interfaces;
mod lifecycle;
mod logs;
mod long;
mod owners;
mod pages;
mod program;
mod records;
mod restart;
mod runbook;
mod soak;
mod tls;
mod update;
mod versions;
