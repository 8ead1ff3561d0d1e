//! The process itself, if it runs, and its controller.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_types::Method;

use super::super::remote::reachable;
use super::Finding;
use crate::clock;
use crate::config::{Config, Role};
use crate::http::client::{Answer, Client, ClientError, Outgoing};
use crate::http::server::listen_address;
use crate::protocol::Health;
use crate::tls::Trust;

/// Wait for an answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Clocks further apart break TURN credentials and make logs hard to compare.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// Whether this role's process answers where it listens.
pub(super) async fn own(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "process";
    let server = &config.server;
    let listen = server.listen.as_ref().map(ToString::to_string);
    // A domain alone is served on HTTPS's own port.
    let listen = listen.or_else(|| server.domain.as_ref().map(|_| ":443".to_owned()));
    let Some(address) = listen.and_then(|l| listen_address(&l).ok()) else {
        return Vec::new();
    };
    let is_tls = server.tls.is_some() || server.listen.is_none();
    let scheme = if is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/api/v1/health", reachable(address));
    // Here, whatever name the certificate has: its own check looks at that.
    let answer = match call(&Trust::Pinned(None), Outgoing::new(Method::Get, url)).await {
        Ok(answer) => answer,
        Err(_) => {
            return vec![Finding::warn(
                CHECK,
                format!("nothing answers on port {}", address.port()),
                "systemctl start hydraneckwebrtc, if it is meant to run",
            )];
        }
    };
    match answer.read::<Health>() {
        Ok(health) => {
            let what = format!(
                "{} {} up {}, {}/{} sessions",
                health.extra.mode,
                health.version,
                health.extra.uptime,
                health.extra.active_sessions,
                health.extra.max_sessions
            );
            let mut findings = vec![Finding::ok(CHECK, what)];
            let problems = health.extra.problems.into_iter();
            findings.extend(problems.map(|problem| Finding::warn(CHECK, problem, "")));
            findings
        }
        Err(_) => vec![Finding::fail(
            CHECK,
            format!("port {} answers, but is not ours", address.port()),
            "stop the other program, or choose another server.listen",
        )],
    }
}

/// Whether the controller is reached and takes the token; its clock is compared with ours.
pub(super) async fn controller(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "controller";
    if config.mode == Some(Role::Controller) {
        return Vec::new();
    }
    let (Some(url), Some(token)) = (config.controller.urls.first(), &config.controller.token)
    else {
        return vec![Finding::ok(CHECK, "none: this worker stands alone")];
    };
    let trust = config
        .controller
        .ca_file
        .clone()
        .map_or(Trust::WebPki, Trust::CaFile);
    let begun = clock::now();
    let asked = Outgoing::new(Method::Get, format!("{url}/api/v1/workers")).bearer(token);
    let answer = match call(&trust, asked).await {
        Ok(answer) => answer,
        Err(error) => {
            return vec![Finding::fail(
                CHECK,
                format!("{url}: {error}"),
                "check address, DNS and firewall",
            )];
        }
    };
    let took = clock::now().saturating_duration_since(begun).as_millis();
    let reached = match answer.status {
        200 => Finding::ok(CHECK, format!("{url} takes the token, {took} ms")),
        401 => Finding::fail(
            CHECK,
            format!("{url} refuses the token"),
            "controller.token must be the controller's server.admin_token",
        ),
        404 => Finding::fail(
            CHECK,
            format!("{url} is no controller"),
            "controller.url must name the controller",
        ),
        status => Finding::fail(
            CHECK,
            format!("{url} answers {status}: {}", answer.excerpt()),
            "look at the controller's log",
        ),
    };
    let mut findings = vec![reached];
    findings.extend(skew(&answer));
    findings
}

async fn call(trust: &Trust, call: Outgoing) -> Result<Answer, ClientError> {
    Client::new(trust)?.send(call.within(WITHIN)).await
}

fn http_date(text: &str) -> Option<SystemTime> {
    let mut carrier = http_types::Response::new(200);
    carrier.insert_header("date", text);
    let date = http_types::other::Date::from_headers(&carrier).ok()??;
    Some(date.into())
}

/// Our clock against the `Date` of an answer.
fn skew(answer: &Answer) -> Option<Finding> {
    const CHECK: &str = "clock";
    let date = answer.fields.text("date")?;
    let theirs = http_date(date)?;
    let ours = clock::wall().duration_since(UNIX_EPOCH).ok()?;
    let theirs = theirs.duration_since(UNIX_EPOCH).ok()?;
    let apart = ours.abs_diff(theirs);
    let what = format!("{} s from the controller's", apart.as_secs());
    Some(if apart > SKEW_MAX {
        Finding::warn(CHECK, what, "timedatectl set-ntp true, on the wrong one")
    } else {
        Finding::ok(CHECK, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(clock::rfc3339(date), "1994-11-06T08:49:37Z");
        assert_eq!(http_date("yesterday"), None);
    }
}
