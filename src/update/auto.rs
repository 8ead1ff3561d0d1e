//! Looking for updates by itself.

use std::time::Duration;

use super::{Installation, ReleaseNews, ReleaseVersion, UpdateError, trial};
use crate::config;
use crate::exec::Stop;
use crate::http::client::Client;
use crate::{clock, ids};

/// How often a waiting update looks whether all is quiet.
const LOOK: Duration = Duration::from_secs(10);
/// Longest wait for quiet: sessions survive a restart, and a busy machine is never quiet.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks every interval, the first time after one, and answers when another binary is installed and
/// waits to be started: a new one, by this process or another, or the old one that is back. `None`
/// when `stop` came first.
pub(crate) async fn wait(
    settings: &config::Update,
    client: &Client,
    place: &Installation,
    is_idle: impl Fn() -> bool,
    stop: &Stop,
) -> Option<ReleaseVersion> {
    loop {
        let pause = settings.interval.mul_f64(0.9 + 0.2 * fraction());
        stop.or(clock::sleep(pause)).await?;
        match stop
            .or(look(settings, client, place, &ReleaseVersion::own()))
            .await?
        {
            Ok(None) => {}
            Ok(Some(version)) => {
                let deadline = clock::now() + PATIENCE;
                while settings.when_idle && !is_idle() && clock::now() < deadline {
                    stop.or(clock::sleep(LOOK)).await?;
                }
                // Taken back while this process waited: nothing is to be started.
                if !place.is_current() {
                    return Some(version);
                }
            }
            Err(error) => log::warn!(target: "updater", "{error}"),
        }
    }
}

/// The version that waits to be started, if any.
pub(super) async fn look(
    settings: &config::Update,
    client: &Client,
    place: &Installation,
    own: &ReleaseVersion,
) -> Result<Option<ReleaseVersion>, UpdateError> {
    if !place.is_current()
        && let Some(installed) = place.installed().await
        && (installed > *own || trial::was_refused(place, own))
    {
        log::info!(target: "updater", "{installed} is installed, this process runs {own} and is to be started again");
        return Ok(Some(installed));
    }
    let ReleaseNews { latest, .. } = super::check_from(settings, client, own.clone()).await?;
    if latest <= *own {
        return Ok(None);
    }
    if trial::was_refused(place, &latest) {
        log::info!(target: "updater", "{latest} was taken back and is left out");
        return Ok(None);
    }
    if super::install(settings, client, place, &latest).await? {
        log::info!(target: "updater", "installed {latest}, was {own}");
    }
    Ok(Some(latest))
}

/// A number from 0 to 1: machines that started together do not ask together.
fn fraction() -> f64 {
    let digits = u32::from_str_radix(&ids::label()[..4], 16).unwrap_or(0);
    f64::from(digits) / 65_536.0
}
