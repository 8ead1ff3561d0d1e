//! A body: allowed, reached, credentials accepted; and taking this worker's pairings off it.

use std::net::IpAddr;

use super::Finding;
use crate::body::identity::ProgramKind;
use crate::body::sunshine::SunshineCredentials;
use crate::body::{Bodies, interfaces};
use crate::config::Config;

const CHECK: &str = "body";

pub(super) async fn check(config: &Config, ip: IpAddr, unpair: bool) -> Vec<Finding> {
    let sunshine = &config.sunshine;
    let (Some(user), Some(password)) = (&sunshine.username, &sunshine.password) else {
        return vec![Finding::fail(
            CHECK,
            format!("{ip}: no credentials to try"),
            "set sunshine.username and sunshine.password",
        )];
    };
    let credentials = match SunshineCredentials::new(user, password.clone()) {
        Ok(credentials) => credentials,
        Err(error) => return vec![Finding::fail(CHECK, error.to_string(), "")],
    };
    let rules = crate::worker::body_rules(config, &interfaces::read());
    // Which kind does not matter: identities are removed, not used.
    let bodies = Bodies::new(rules, ProgramKind::Moonlight);
    let body = match bodies.body(ip, credentials) {
        Ok(body) => body,
        Err(forbidden) => return vec![Finding::fail(CHECK, forbidden.to_string(), "")],
    };
    let reach = match body.reach().await {
        Ok(reach) => reach,
        Err(error) => return vec![Finding::fail(CHECK, error.to_string(), "")],
    };
    let ms = reach.rtt.as_secs_f64() * 1_000.0;
    let mut findings = vec![Finding::ok(
        CHECK,
        format!("{ip} reached in {ms:.1} ms, Sunshine takes the credentials"),
    )];
    findings.push(match reach.app {
        0 => Finding::ok(CHECK, "no app runs on it".to_owned()),
        app if app < 0 => Finding::warn(
            CHECK,
            format!("Sunshine says that app {app} runs: it is stuck"),
            "the next session closes it; if that does not help, restart Sunshine",
        ),
        app => Finding::ok(CHECK, format!("app {app} runs on it")),
    });
    if unpair {
        findings.push(match body.forget().await {
            Ok(gone) => Finding::ok(CHECK, format!("{} pairings removed", gone.len())),
            Err(error) => Finding::fail(CHECK, format!("cannot unpair: {error}"), ""),
        });
    }
    findings
}
