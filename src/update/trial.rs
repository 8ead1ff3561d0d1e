//! A new binary is on trial until it has run for a while; one that keeps failing is taken back.
//!
//! systemd starts a process that died again. So each start on trial is counted in a file beside
//! the binary, for each role by itself; after the third the backup is put back, and the version is
//! remembered so that it is not installed again. The file stays when a role has passed: the other
//! role may start this version much later.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Installation, ReleaseVersion, UpdateError};

/// Starts that a new binary has in each role.
const STARTS_MAX: u32 = 3;
/// A process that ran for so long has started well.
pub(crate) const PASSED_AFTER: Duration = Duration::from_secs(60);

/// The file. 0.1.0 has no `roles`, counts all starts in `starts`, and needs that field.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Trial {
    version: String,
    #[serde(default)]
    starts: u32,
    #[serde(default)]
    roles: BTreeMap<String, Progress>,
}

/// How a role does.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Progress {
    #[serde(default)]
    starts: u32,
    #[serde(default)]
    passed: bool,
}

impl Trial {
    fn read(place: &Installation) -> Option<Self> {
        let text = fs::read_to_string(place.beside("trial")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The trial of this version, if it is on trial.
    fn of(place: &Installation, version: &ReleaseVersion) -> Option<Self> {
        Self::read(place).filter(|t| ReleaseVersion::parse(&t.version).as_ref() == Some(version))
    }

    fn write(&self, place: &Installation) -> Result<(), UpdateError> {
        place.note("trial", &serde_json::to_string(self).unwrap_or_default())
    }

    fn role(&mut self, role: &str) -> &mut Progress {
        let starts = self.starts;
        let fresh = || Progress {
            starts,
            passed: false,
        };
        self.roles.entry(role.to_owned()).or_insert_with(fresh)
    }
}

/// What a start is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing special.
    Normal,
    /// Say so with [`passed`] when the process has run for [`PASSED_AFTER`].
    OnTrial,
    /// The old binary is back: end, and be started again.
    RolledBack,
}

/// Puts a version that is about to be installed on trial. The caller has the lock.
pub(super) fn begin(place: &Installation, version: &ReleaseVersion) -> Result<(), UpdateError> {
    let trial = Trial {
        version: version.to_string(),
        ..Trial::default()
    };
    trial.write(place)
}

/// Forgets which version was taken back: one was installed since.
pub(super) fn forgive(place: &Installation) {
    let _ = fs::remove_file(place.beside("refused"));
}

/// Whether the installed version is a way back: every role that started it on trial passed.
pub(super) fn is_proven(place: &Installation, installed: Option<&ReleaseVersion>) -> bool {
    installed.is_some_and(|version| match Trial::of(place, version) {
        Some(trial) => !trial.roles.is_empty() && trial.roles.values().all(|r| r.passed),
        None => true,
    })
}

/// Counts a start of `own` in this role.
pub(crate) async fn start(place: &Installation, role: &str, own: &ReleaseVersion) -> Start {
    if Trial::of(place, own).is_none() {
        return without_trial(place, own);
    }
    if place.check().is_err() {
        // Who may not change the binary cannot take it back either.
        return Start::Normal;
    }
    // A lock or a count that cannot be had must not hinder a start.
    let _lock = place.lock().await.map_err(|e| warn(own, &e));
    let Some(mut trial) = Trial::of(place, own) else {
        return without_trial(place, own);
    };
    let progress = trial.role(role);
    if progress.passed {
        return Start::Normal;
    }
    if progress.starts < STARTS_MAX {
        progress.starts += 1;
        let _ = trial.write(place).map_err(|e| warn(own, &e));
        return Start::OnTrial;
    }
    // Noted first: a version that is taken back without a note would be installed again.
    let noted = place.note("refused", &own.to_string());
    let outcome = noted.and_then(|()| place.roll_back());
    let _ = fs::remove_file(place.beside("trial"));
    if let Err(error) = outcome {
        forgive(place);
        log::error!(target: "updater", "version {own} keeps failing and cannot be taken back: {error}");
        return Start::Normal;
    }
    log::error!(target: "updater", "version {own} failed {STARTS_MAX} times and was taken back");
    Start::RolledBack
}

fn without_trial(place: &Installation, own: &ReleaseVersion) -> Start {
    if is_taken_back(place, own) {
        // By the other role, after this process was started.
        return Start::RolledBack;
    }
    Start::Normal
}

fn warn(own: &ReleaseVersion, error: &UpdateError) {
    log::warn!(target: "updater", "the trial of version {own} cannot be written: {error}");
}

/// The binary runs well in this role.
///
/// # Errors
/// When that cannot be written: it would count as failing at a later start.
pub(crate) async fn passed(
    place: &Installation,
    role: &str,
    own: &ReleaseVersion,
) -> Result<(), UpdateError> {
    let _lock = place.lock().await?;
    let Some(mut trial) = Trial::of(place, own) else {
        return Ok(());
    };
    trial.role(role).passed = true;
    trial.write(place)?;
    log::info!(target: "updater", "version {own} runs well");
    Ok(())
}

/// The process was told to stop and did so in order: that start was no failure.
pub(crate) async fn stopped(place: &Installation, role: &str, own: &ReleaseVersion) {
    let _lock = place.lock().await.map_err(|e| warn(own, &e));
    if let Some(mut trial) = Trial::of(place, own) {
        let progress = trial.role(role);
        progress.starts = progress.starts.saturating_sub(1);
        let _ = trial.write(place).map_err(|e| warn(own, &e));
    }
}

/// Whether that version was taken back before.
#[must_use]
pub(crate) fn was_refused(place: &Installation, version: &ReleaseVersion) -> bool {
    let text = fs::read_to_string(place.beside("refused")).unwrap_or_default();
    ReleaseVersion::parse(&text).as_ref() == Some(version)
}

/// Whether this process runs a version that was taken back since it was started.
#[must_use]
pub(crate) fn is_taken_back(place: &Installation, own: &ReleaseVersion) -> bool {
    was_refused(place, own) && !place.is_current()
}
