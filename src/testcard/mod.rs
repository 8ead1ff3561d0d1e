//! The testcard room: a stream program of our own, with moonlight-web-stream's process contract.
//!
//! (text follows)
#![allow(dead_code)]
mod clip;
mod ice;
mod keyframes;
mod life;
mod lines;
mod messages;
mod options;
mod peer;
mod player;
mod say;
mod settings;
mod streamer;

use std::ffi::OsString;
use std::process::ExitCode;

use self::options::{Mode, Options};

/// Runs the test card with the arguments that follow `testcard`.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let options = match Options::read(args) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match options.mode {
        Some(Mode::Streamer) => streamer::run(),
        _ => ExitCode::SUCCESS,
    }
}
