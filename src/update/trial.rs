//! A new binary is on trial until it has run for a while; one that keeps failing is taken back.
//!
//! systemd starts a process that died again. So each start on trial is counted in a file beside
//! the binary; at the third the backup is put back, and the version is remembered so that it is
//! not installed again.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Place, UpdateError, Version};

/// Starts that a new binary has.
const STARTS_MAX: u32 = 3;
/// A process that ran for so long has started well.
pub const PASSED_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize, Serialize)]
struct Trial {
    version: String,
    starts: u32,
}

/// What a start is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing special.
    Normal,
    /// Say so with [`passed`] when the process has run for [`PASSED_AFTER`].
    OnTrial,
    /// The old binary is back: end, and be started again.
    RolledBack,
}

/// Puts the binary that was just installed on trial.
///
/// # Errors
/// When the file beside it cannot be written.
pub fn begin(place: &Place, version: &Version) -> Result<(), UpdateError> {
    let _ = fs::remove_file(place.beside("refused"));
    write(place, version, 0)
}

fn write(place: &Place, version: &Version, starts: u32) -> Result<(), UpdateError> {
    let path = place.beside("trial");
    let trial = Trial {
        version: version.to_string(),
        starts,
    };
    let text = serde_json::to_string(&trial).unwrap_or_default();
    fs::write(&path, text).map_err(|e| UpdateError::File(path, e))
}

/// Counts a start of `own`.
pub fn start(place: &Place, own: &Version) -> Start {
    let path = place.beside("trial");
    let Ok(text) = fs::read_to_string(&path) else {
        return Start::Normal;
    };
    let trial: Option<Trial> = serde_json::from_str(&text).ok();
    let on_trial = trial
        .and_then(|t| Version::parse(&t.version).map(|v| (v, t.starts)))
        .filter(|(version, _)| version == own);
    let Some((version, starts)) = on_trial else {
        let _ = fs::remove_file(path);
        return Start::Normal;
    };
    if starts < STARTS_MAX {
        // A count that cannot be kept must not hinder a start.
        let _ = write(place, &version, starts + 1);
        return Start::OnTrial;
    }
    let _ = fs::remove_file(path);
    if let Err(error) = place.roll_back() {
        log::error!(target: "updater", "version {version} keeps failing and cannot be taken back: {error}");
        return Start::Normal;
    }
    let _ = fs::write(place.beside("refused"), version.to_string());
    log::error!(target: "updater", "version {version} failed {STARTS_MAX} times and was taken back");
    Start::RolledBack
}

/// The binary runs well.
pub fn passed(place: &Place) {
    if fs::remove_file(place.beside("trial")).is_ok() {
        log::info!(target: "updater", "version {} runs well", Version::own());
    }
}

/// Whether that version was taken back before.
#[must_use]
pub fn was_refused(place: &Place, version: &Version) -> bool {
    let text = fs::read_to_string(place.beside("refused")).unwrap_or_default();
    Version::parse(&text).as_ref() == Some(version)
}
