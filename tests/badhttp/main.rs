//! Bad HTTP against the real program: one row, one named case, run against the API and against
//! `/session/<id>/` of both roles.
//!
//! The rule: exactly one correct answer, then the connection closes and the stream program saw
//! nothing, unless the row is legal and must pass. Verdicts are those of RFC 9110 and RFC 9112;
//! names follow the public Http11Probe suite where it has the case.
//!
//! The stream program is this very test binary, started again by a wrapper script (see
//! [`program`]): it records every byte it gets, answers by script, and passes everything else on
//! to the built-in test card, so that sessions become ready as they always do.

#![allow(clippy::unwrap_used, clippy::panic)] // this whole binary is tests

mod client;
mod program;
mod rig;
mod rows;

mod a01_framing;
mod a02_chunks;
mod a03_desync;
mod a04_head;
mod a05_size;
mod a06_path;
mod a07_upgrade;
mod a08_trust;
mod a09_upstream;
mod a10_slow;
mod catalogue;

/// Not a test: what the wrapper script runs as stream program.
#[test]
#[ignore = "started by the rig as a stream program"]
fn stream_program() {
    program::run();
}
