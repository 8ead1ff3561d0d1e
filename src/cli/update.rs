//! `check-update` and `update`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{EX_CONFIG, EX_UNAVAILABLE, fail, print};
use crate::config::{Config, ConfigError};
use crate::exec;
use crate::http::client::Client;
use crate::tls::Trust;
use crate::update::{self, Installation, UpdateError};

/// The units of the roles; only those that run are restarted.
const UNITS: [&str; 2] = [
    "hydraneckwebrtc.service",
    "hydraneckwebrtc-controller.service",
];

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpdateOptions {
    /// Look only.
    pub(super) check: bool,
    pub(super) json: bool,
    /// Leave the running process as it is.
    pub(super) no_restart: bool,
}

pub(super) fn run(path: Option<&Path>, wish: UpdateOptions) -> ExitCode {
    let settings = match Config::load(path, None) {
        Ok(loaded) => loaded.config.update,
        // A machine without a configuration has the defaults.
        Err(ConfigError::NotFound { .. } | ConfigError::NoHome) if path.is_none() => {
            match Config::parse("", None) {
                Ok(loaded) => loaded.config.update,
                Err(problems) => return fail(&problems.to_string(), EX_CONFIG),
            }
        }
        Err(error) => return fail(&error.to_string(), EX_CONFIG),
    };
    let client = match Client::new(&Trust::WebPki) {
        Ok(client) => client,
        Err(error) => return fail(&error.to_string(), 1),
    };
    match exec::block_on(work(&settings, &client, wish)) {
        Ok(text) => print(&text),
        Err(error @ UpdateError::Call(..)) => fail(&error.to_string(), EX_UNAVAILABLE),
        Err(error) => fail(&error.to_string(), 1),
    }
}

async fn work(
    settings: &crate::config::Update,
    client: &Client,
    wish: UpdateOptions,
) -> Result<String, UpdateError> {
    let news = update::check(settings, client).await?;
    let (current, latest) = (news.current.to_string(), news.latest.to_string());
    let say = |installed: bool| {
        if wish.json {
            let line = json!({
                "current": current,
                "latest": latest,
                "available": news.is_newer(),
                "installed": installed,
            });
            return format!("{line}\n");
        }
        match (news.is_newer(), installed) {
            (false, _) => format!("hydraneckwebrtc {current} is the newest\n"),
            (true, false) => format!("hydraneckwebrtc {current} can be updated to {latest}\n"),
            (true, true) => format!("updated hydraneckwebrtc {current} to {latest}\n"),
        }
    };
    if wish.check || !news.is_newer() {
        return Ok(say(false));
    }
    let place = Installation::own()?;
    update::install(settings, client, &place, &news.latest).await?;
    if !wish.no_restart {
        restart().await;
    }
    Ok(say(true))
}

/// Restarts the service where it runs; sessions survive that. A failure is a warning: the new
/// binary is in place.
async fn restart() {
    let mut command = async_process::Command::new("systemctl");
    command.arg("try-restart").args(UNITS);
    match command.output().await {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            eprintln!("warning: cannot restart the service: {why}");
        }
        Err(error) => eprintln!("warning: cannot run systemctl: {error}; restart the service"),
    }
}
