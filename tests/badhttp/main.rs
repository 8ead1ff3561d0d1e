//! Malformed HTTP against the real program: each row is one named case, run against the API and
//! against `/session/<id>/` of both roles.
//!
//! Expected: exactly one correct answer, then the connection closes, and the stream program received
//! nothing, unless the row is valid and must be forwarded. Answers follow RFC 9110 and RFC 9112;
//! names follow the public Http11Probe suite if it has the case.
//!
//! The stream program is this test binary, started again by a wrapper script (see [`program`]): it
//! records every byte it receives, answers by script, and forwards everything else to the built-in
//! test card, so that sessions become ready in the usual way.

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
