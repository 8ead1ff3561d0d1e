//! The binary renews itself: what is newest, fetch it, prove it, put it in place, and back when it
//! does not run.
//!
//! Releases lie where the product family keeps them: `latest.json`, then `v<version>/` with the
//! binary and `SHA256SUMS`. Nothing is installed without its sum; with `update.public_key` nothing
//! without a signature over the sums either. The new binary replaces the old one in one step, and
//! the old one stays beside it as `.backup`.
//!
//! Both roles of a machine may run from one binary. What is to be done is judged by the *installed*
//! binary, not by the one that a process still runs, and one lock covers installing and trials.
//!
//! A build with the feature `demo` never replaces its binary: releases are built without it.

pub(crate) mod auto;
mod fetch;
mod install;
mod sums;
#[cfg(test)]
mod tests;
pub(crate) mod trial;
#[cfg(test)]
mod trial_tests;
mod version;

use std::io;
use std::path::PathBuf;

use crate::config;
use crate::http::client::{Client, ClientError};

pub(crate) use install::Installation;
pub(crate) use version::ReleaseVersion;

use fetch::ReleaseSource;

/// Why there is no update.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// Another process installs an update, or counts a start.
    #[error("another process works on an update of {}: try again when it has ended", .0.display())]
    Busy(PathBuf),
    /// The server does not answer, or not usefully.
    #[error("{0}: {1}")]
    Call(String, #[source] ClientError),
    /// This is a build for trying out and for tests: a release would replace it.
    #[error(
        "this build has the feature `demo` and does not update itself: install a released binary"
    )]
    DemoBuild,
    /// A file cannot be written, moved or read.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The new binary lies in a store that only its own tools change.
    #[error("{} is in the Nix store: update the flake input, and rebuild the system", .0.display())]
    NixStore(PathBuf),
    /// A release or file is not there.
    #[error("{0} answers {1}; check update.base_url and update.channel")]
    NotThere(String, u16),
    /// The directory of the binary belongs to somebody else.
    #[error(
        "{} is not writable by this user: run `update` as its owner, or let your package manager update",
        .0.display()
    )]
    NotWritable(PathBuf),
    /// The release is not what it should be.
    #[error("{0}")]
    Refused(String),
    /// The new binary does not run here.
    #[error("the new binary does not run here: {0}; the old one stays")]
    DoesNotRun(String),
}

/// What is known of the newest release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseNews {
    /// This binary's version.
    pub current: ReleaseVersion,
    /// The newest one of the channel.
    pub latest: ReleaseVersion,
}

impl ReleaseNews {
    /// Whether there is something newer.
    #[must_use]
    pub(crate) fn is_newer(&self) -> bool {
        self.latest > self.current
    }
}

/// Asks what is newest.
///
/// # Errors
/// See [`UpdateError`].
pub(crate) async fn check(
    settings: &config::Update,
    client: &Client,
) -> Result<ReleaseNews, UpdateError> {
    check_from(settings, client, ReleaseVersion::own()).await
}

async fn check_from(
    settings: &config::Update,
    client: &Client,
    current: ReleaseVersion,
) -> Result<ReleaseNews, UpdateError> {
    let latest = ReleaseSource::new(settings, client)?.latest().await?;
    Ok(ReleaseNews { current, latest })
}

/// Fetches, proves and installs `version` at `place` and puts it on trial; the process that runs
/// goes on as it is. Answers `false` when that version or a newer one is installed already.
///
/// # Errors
/// See [`UpdateError`]; the installed binary is as it was then.
pub(crate) async fn install(
    settings: &config::Update,
    client: &Client,
    place: &Installation,
    version: &ReleaseVersion,
) -> Result<bool, UpdateError> {
    place.check()?;
    let source = ReleaseSource::new(settings, client)?;
    let staged = place.stage()?;
    let installed = place.installed().await;
    if installed.as_ref().is_some_and(|i| i >= version) {
        return Ok(false);
    }
    // The sum comes first: without it there is nothing to fetch.
    let sum = source.sum(version).await?;
    source.binary(version, sum, staged.path()).await?;
    staged.prove(version).await?;
    let _lock = place.lock().await?;
    // The way back is a binary that every role ran well, not one that is still on trial.
    let is_proven = trial::is_proven(place, installed.as_ref());
    let keeps_backup = !is_proven || place.is_backup_in_use();
    // Written before the swap: a start between the two would have no trial.
    trial::begin(place, version)?;
    staged.swap(keeps_backup)?;
    trial::forgive(place);
    Ok(true)
    // `staged` removes what is left of it.
}
