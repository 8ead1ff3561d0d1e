//! See it run: controller, worker and a body that is none, in one process on loopback.
//!
//! Needs no root, no coturn and no network. Everything between browser and picture is the real
//! thing but the body: the stream process is the built-in test card.

pub(crate) mod body;
mod chain;
pub(crate) mod testcard;

use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use http_types::Method;
use serde_json::json;

use crate::http::client::{Client, Outgoing};
use crate::protocol::Created;
use crate::tls::Trust;
use crate::{exec, log as lines};
use chain::{Chain, ChainError};

/// Wait for the first session.
const FIRST_SESSION: Duration = Duration::from_secs(60);

/// How the demo runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Print one JSON line in place of text.
    pub json: bool,
    /// Wanted port of the controller.
    pub port: u16,
}

/// Runs the demo until it is stopped.
#[must_use]
pub(crate) fn run(options: &Options) -> ExitCode {
    let stop = match stop_signals() {
        Ok(stop) => stop,
        Err(error) => return fail(&format!("cannot handle signals: {error}")),
    };
    exec::block_on(async {
        let chain = match Chain::start(options.port).await {
            Ok(chain) => chain,
            Err(error) => return fail(&error.to_string()),
        };
        let code = match first_session(&chain).await {
            Ok(created) => {
                say(options, &chain, &created);
                let _ = stop.recv().await;
                ExitCode::SUCCESS
            }
            Err(why) => fail(&why),
        };
        if !options.json {
            tell("cleaning up");
        }
        chain.end().await;
        code
    })
}

/// Runs the demo's body alone, for tests across machines.
#[must_use]
pub(crate) fn run_body(address: IpAddr) -> ExitCode {
    let stop = match stop_signals() {
        Ok(stop) => stop,
        Err(error) => return fail(&format!("cannot handle signals: {error}")),
    };
    exec::block_on(async {
        let options = body::BodyOptions {
            address,
            sunshine_port: 47_990,
            http_port: 47_989,
            agent_port: 47_991,
            ..body::BodyOptions::default()
        };
        match body::DemoBody::start(options) {
            Ok(body) => {
                tell(&format!(
                    "demo body: sunshine {} gamestream {} agent {}",
                    body.sunshine(),
                    body.http(),
                    body.agent()
                ));
                let _ = stop.recv().await;
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.to_string()),
        }
    })
}

fn fail(why: &str) -> ExitCode {
    tell(&format!("hydraneckwebrtc demo: {why}"));
    ExitCode::FAILURE
}

/// Says it to whoever is still there: a closed or stopped terminal is no reason to leave things
/// behind.
fn tell(line: &str) {
    lines::say(line);
}

fn stop_signals() -> std::io::Result<smol::channel::Receiver<()>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    // A terminal that is closed hangs up.
    if !is_hangup_ignored() {
        signals.add_signal(SIGHUP)?;
    }
    let (sender, receiver) = smol::channel::bounded(1);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                // The second one: somebody is in a hurry. A terminal may hang up twice.
                if sender.try_send(()).is_err() && signal != SIGHUP {
                    lines::flush();
                    std::process::exit(1);
                }
            }
        })?;
    Ok(receiver)
}

/// Whether this process was started to outlive its terminal, as `nohup` does.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (signal_hook::consts::SIGHUP - 1) != 0)
}

async fn first_session(chain: &Chain) -> Result<Created, String> {
    let client = Client::new(&Trust::WebPki).map_err(|e| e.to_string())?;
    let request = json!({"body_ip": chain.bodies().next(), "experience": "Test card"});
    let call = Outgoing::new(
        Method::Post,
        format!("{}/api/v1/sessions", chain.controller_url),
    )
    .bearer(&chain.token)
    .json(&request)
    .within(FIRST_SESSION);
    let answer = client
        .send(call)
        .await
        .map_err(|e| format!("no session: {e}"))?;
    if answer.status != 201 {
        return Err(format!(
            "no session: status {}: {}",
            answer.status,
            answer.excerpt()
        ));
    }
    answer.json().map_err(|e| e.to_string())
}

fn say(options: &Options, chain: &Chain, created: &Created) {
    let (url, worker, token) = (
        &chain.controller_url,
        &chain.worker_url,
        chain.token.expose(),
    );
    let mut bodies = chain.bodies();
    // The first one has the session that was just made.
    let (Some(body), Some(free)) = (bodies.next(), bodies.next()) else {
        return;
    };
    let text = if options.json {
        let line = json!({
            "controller_url": url,
            "worker_url": worker,
            "token": token,
            "body_ip": body,
            "free_body_ip": free,
            "session_id": created.session_id,
            "stream_url": created.stream_url,
        });
        format!("{line}\n")
    } else {
        format!(
            "
  Open this in a browser:

      {stream}

  What operators see, signed in with the token {token}:

      {url}/admin

  What operators do (the runbook's commands, with this demo's address and token):

      curl -s {url}/api/v1/health | jq .
      curl -s -H 'Authorization: Bearer {token}' {url}/api/v1/workers | jq .
      curl -s -H 'Authorization: Bearer {token}' {url}/api/v1/sessions | jq .
      curl -s -X POST -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\
           -d '{{\"body_ip\":\"{free}\"}}' {url}/api/v1/sessions | jq .
      curl -s -X DELETE -H 'Authorization: Bearer {token}' {url}/api/v1/sessions/{id}

  The worker answers the same at {worker}. Ctrl-C ends everything.

",
            stream = created.stream_url,
            id = created.session_id,
        )
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Why the demo could not start.
impl From<body::DemoError> for ChainError {
    fn from(error: body::DemoError) -> Self {
        Self::Body(error)
    }
}
