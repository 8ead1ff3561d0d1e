//! Looking for updates by itself.

use std::time::Duration;

use super::{Place, UpdateError, Version, trial};
use crate::config;
use crate::exec::Stop;
use crate::http::client::Client;
use crate::{clock, ids};

/// How often a waiting update looks whether all is quiet.
const LOOK: Duration = Duration::from_secs(10);
/// Longest wait for quiet: sessions survive a restart, and a busy machine is never quiet.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks every interval, the first time after one, and answers when a new binary is installed and
/// waits to be started; `None` when `stop` came first.
pub async fn wait(
    settings: &config::Update,
    client: &Client,
    place: &Place,
    is_idle: impl Fn() -> bool,
    stop: &Stop,
) -> Option<Version> {
    loop {
        let pause = settings.interval.mul_f64(0.9 + 0.2 * fraction());
        stop.or(clock::sleep(pause)).await?;
        match stop.or(look(settings, client, place)).await? {
            Ok(None) => {}
            Ok(Some(version)) => {
                log::info!(target: "updater", "installed {version}, was {}", Version::own());
                let deadline = clock::now() + PATIENCE;
                while settings.when_idle && !is_idle() && clock::now() < deadline {
                    stop.or(clock::sleep(LOOK)).await?;
                }
                return Some(version);
            }
            Err(error) => log::warn!(target: "updater", "{error}"),
        }
    }
}

async fn look(
    settings: &config::Update,
    client: &Client,
    place: &Place,
) -> Result<Option<Version>, UpdateError> {
    let news = super::check(settings, client).await?;
    if !news.is_newer() {
        return Ok(None);
    }
    if trial::was_refused(place, &news.latest) {
        log::info!(target: "updater", "{} was taken back and is left out", news.latest);
        return Ok(None);
    }
    super::install(settings, client, place, &news.latest).await?;
    trial::begin(place, &news.latest)?;
    Ok(Some(news.latest))
}

/// A number from 0 to 1: machines that started together do not ask together.
fn fraction() -> f64 {
    let digits = u32::from_str_radix(&ids::label()[..4], 16).unwrap_or(0);
    f64::from(digits) / 65_536.0
}
