//! The testcard room: a stream program of our own, with moonlight-web-stream's process contract.
//!
//! Nothing but the command line knows it. `hydraneckwebrtc testcard` is what a worker starts
//! where it would start `web-server`: the same configuration file, HTTP API below the same
//! prefix, signalling messages, streamer children, log lines, exit codes and reactions to
//! signals. Its page shows real WebRTC video, a looped clip of our own, so that a demonstration
//! and the tests have true media without a body that renders.
//!
//! It promises the original's behaviour at these seams, its odd sides included (exit code 0
//! after a taken port, streamers that outlive their server), with two exceptions: it never spins
//! and never waits without bound. Pairing and app list are simplified (see [`gamestream`]): a
//! body double can be streamed from, a real Sunshine cannot.

mod access;
mod api;
mod child;
mod clip;
mod files;
mod gamestream;
mod hosts;
mod ice;
mod keyframes;
mod life;
mod lines;
mod messages;
mod ndjson;
mod options;
mod peer;
mod player;
mod say;
mod script;
mod serve;
mod settings;
mod store;
mod streamer;
mod viewing;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use self::options::{CardOptions, Mode};

/// Runs the test card with the arguments that follow `testcard`.
#[must_use]
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    match CardOptions::read(args) {
        Ok(options) if options.mode == Some(Mode::Streamer) => streamer::run(),
        Ok(options) => serve::run(&options),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}
