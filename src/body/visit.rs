//! One session's visit to a body, step by step: reach, seed, pair, launch, target, leave.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bodies::Bodies;
use super::experience::{self, Agent, DESKTOP, Launch};
use super::identity::{self, Identity};
use super::pairing::{self, PairingError};
use super::program::{Program, ProgramError};
use super::reachability::{self, Reach, Unreachable};
use super::sunshine::{Credentials, Sunshine};
use crate::{clock, ids};

/// Handshakes that are tried: the second one for a Sunshine that restarted in the first.
const ATTEMPTS: u32 = 2;
/// Pause between tries to reach a Sunshine that restarts.
const ADD_PAUSE: Duration = Duration::from_millis(500);
/// Pause between looks at a `data.json` that the stream program writes when it pleases.
const HARVEST_PAUSE: Duration = Duration::from_millis(50);
/// Largest `data.json` that is read: one user and one host are about 6 KiB.
const DATA_MAX: u64 = 1024 * 1024;

/// One body, for one session.
#[derive(Clone, Debug)]
pub struct Body {
    pub(super) ip: IpAddr,
    pub(super) sunshine: Sunshine,
    agent: Agent,
    pub(super) bodies: Bodies,
}

/// What a session leaves on a body until [`Body::leave`]; for the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    /// Name under which its stream program pairs, unless an identity is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What hydrabody was told to launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    /// Whether the session got as far as streaming, so that an app may run because of it.
    #[serde(default)]
    pub streamed: bool,
}

/// The stream program is paired with the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paired {
    /// The body's id in the stream program.
    pub host_id: u32,
    /// Whether this session did the pairing; then its identity can be kept.
    pub fresh: bool,
}

/// What the stream page needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTarget {
    /// The body's id in the stream program.
    pub host_id: u32,
    /// The app's id.
    pub app_id: u32,
}

/// Why there is nothing to stream.
#[derive(Debug)]
pub enum TargetError {
    /// The body has no app of that title, nor a desktop.
    NoApp(String),
    /// The stream program could not list the apps.
    Program(ProgramError),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApp(title) => write!(
                f,
                "the body has no app {title:?}; add it in Sunshine or ask for another one"
            ),
            Self::Program(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for TargetError {}

/// Other sessions of this worker that stay on the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Somebody watches one of them: closing the app would end that stream, too.
    pub is_watched: bool,
    /// What they had launched, by its name.
    pub experiences: Vec<String>,
}

/// What leaving a body did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// Clients that were unpaired, by name.
    pub unpaired: Vec<String>,
    /// What could not be undone, one sentence each; empty when nothing of the session is left.
    pub left: Vec<String>,
}

impl Body {
    pub(super) fn new(ip: IpAddr, credentials: Credentials, bodies: Bodies) -> Self {
        let at = |port| SocketAddr::new(ip, port);
        let ports = bodies.rules.ports;
        Self {
            ip,
            sunshine: Sunshine::new(at(ports.sunshine), credentials, bodies.pins.clone()),
            agent: Agent::new(at(ports.agent)),
            bodies,
        }
    }

    /// Its canonical address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether it is there and lets us in, and how far away it is.
    ///
    /// # Errors
    /// [`Unreachable`] within five seconds.
    pub async fn reach(&self) -> Result<Reach, Unreachable> {
        reachability::probe(&self.sunshine).await
    }

    /// What a new session may leave here. Write it down before the next step.
    #[must_use]
    pub fn traces(&self, launch: Option<Launch>) -> Traces {
        Traces {
            client: Some(format!("{}{}", self.bodies.prefix, ids::label())),
            launch,
            streamed: false,
        }
    }

    /// The kept identity that spares a new stream program its pairing.
    pub async fn kept(&self) -> Option<Identity> {
        match self.bodies.rules.pair_once {
            true => self.identity().await,
            false => None,
        }
    }

    /// Pairs the stream program with the body, unless it was `seeded` with the body as that host
    /// and the body remembers. A handshake that fails before Sunshine took the PIN, as when Sunshine restarts, is tried
    /// once more: of such a one nothing is left that the user's name would run into.
    ///
    /// # Errors
    /// See [`PairingError`]. Nothing is left on the body, except what the program still does
    /// until it is killed; [`Body::leave`] takes that back.
    pub async fn pair(
        &self,
        program: &Program,
        traces: &Traces,
        seeded: Option<u32>,
        within: Duration,
    ) -> Result<Paired, PairingError> {
        let deadline = clock::now() + within;
        let late = || PairingError::Late(within, false);
        if let Some(host_id) = seeded {
            let apps = clock::by(deadline, program.apps(host_id)).await;
            match apps.map_err(|_| late())? {
                Ok(_) => {
                    return Ok(Paired {
                        host_id,
                        fresh: false,
                    });
                }
                Err(error) => log::info!(target: "pairing", body:% = self.ip;
                    "the kept identity is no use, pairing anew: {error}"),
            }
        }
        let left = || deadline.saturating_duration_since(clock::now());
        let _hold = self.bodies.locks.hold(self.ip, left()).await?;
        let client = traces.client.as_deref().unwrap_or(&self.bodies.prefix);
        let start = clock::now();
        let mut attempt = 1;
        let host_id = loop {
            let added = clock::by(deadline, self.add_to(program, attempt)).await;
            let host_id = added.map_err(|_| late())?.map_err(PairingError::Program)?;
            match pairing::pair(program, &self.sunshine, host_id, client, left()).await {
                Ok(()) => break host_id,
                Err(error @ PairingError::Rejected(false)) if attempt < ATTEMPTS => {
                    log::warn!(target: "pairing", body:% = self.ip; "{error}; trying again");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let took = clock::now().saturating_duration_since(start).as_millis();
        log::info!(target: "pairing", body:% = self.ip; "paired as {client} in {took} ms");
        Ok(Paired {
            host_id,
            fresh: true,
        })
    }

    /// Makes the body known to the program. After a failed attempt Sunshine may still be
    /// starting; the caller's deadline ends the wait.
    async fn add_to(&self, program: &Program, attempt: u32) -> Result<u32, ProgramError> {
        loop {
            match program
                .add_host(self.ip, self.bodies.rules.ports.http)
                .await
            {
                Err(ProgramError::Status(..)) if attempt > 1 => clock::sleep(ADD_PAUSE).await,
                done => return done,
            }
        }
    }

    /// Keeps the identity of a fresh pairing for later sessions, as soon as the stream program
    /// has written it. Answers whether it is kept; then the client stays on the body.
    pub async fn keep(&self, traces: &Traces, data_json: &Path, within: Duration) -> bool {
        let (Some(client), true) = (traces.client.as_deref(), self.bodies.rules.pair_once) else {
            return false;
        };
        let harvest = async {
            loop {
                let file = data_json.to_owned();
                let text = smol::unblock(move || read(&file)).await.unwrap_or_default();
                if let Some(identity) = identity::harvest(&text, self.ip, client) {
                    return identity;
                }
                clock::sleep(HARVEST_PAUSE).await;
            }
        };
        let Ok(identity) = clock::by(clock::now() + within, harvest).await else {
            log::warn!(target: "pairing", body:% = self.ip;
                "no identity to keep: {} has none", data_json.display());
            return false;
        };
        let before = self.identity().await.map(|i| i.client);
        if let Err(error) = self.bodies.identities.keep(self.ip, &identity).await {
            log::warn!(target: "pairing", body:% = self.ip; "cannot keep the identity: {error}");
            return false;
        }
        // The body forgot it, most likely; if not, nobody will use it again.
        if let Some(before) = before.filter(|b| b != client)
            && let Err(error) = self.sunshine.unpair(|name| name == before).await
        {
            log::warn!(target: "pairing", body:% = self.ip; "cannot unpair {before}: {error}");
        }
        true
    }

    /// Launches the experience and registers it in Sunshine. Answers the warnings: a session
    /// goes on without either.
    pub async fn launch(&self, launch: &Launch) -> Vec<String> {
        let mut warnings = Vec::new();
        let launched = self.agent.launch(launch).await;
        let start = launched.as_ref().is_err_and(|e| e.is_certain());
        let is_silent = launched.as_ref().is_err_and(|e| e.is_silence());
        warnings.extend(launched.err().map(|e| e.to_string()));
        let port = (!is_silent).then_some(self.bodies.rules.ports.agent);
        let registered = experience::register(&self.sunshine, launch, port, start).await;
        warnings.extend(registered.err().map(|e| e.to_string()));
        for warning in &warnings {
            log::warn!(target: "session", session = launch.session_id.as_str(); "{warning}");
        }
        warnings
    }

    /// Finds what to stream. `app` must be there if it is asked for; otherwise it is the
    /// launched experience, or the desktop.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub async fn target(
        &self,
        program: &Program,
        paired: &Paired,
        app: Option<&str>,
        launch: Option<&Launch>,
    ) -> Result<StreamTarget, TargetError> {
        let host_id = paired.host_id;
        let apps = program.apps(host_id).await.map_err(TargetError::Program)?;
        let titled = |title: &str| apps.iter().find(|a| a.title == title).map(|a| a.app_id);
        let wanted = app.or(launch.map(|l| l.experience.as_str()));
        let found = match (app, wanted) {
            (Some(app), _) => titled(app),
            (None, wanted) => wanted.and_then(titled).or_else(|| titled(DESKTOP)),
        };
        let missing = || TargetError::NoApp(wanted.unwrap_or(DESKTOP).chars().take(100).collect());
        let app_id = found.ok_or_else(missing)?;
        self.clear(program, host_id, app_id).await;
        Ok(StreamTarget { host_id, app_id })
    }

    /// A running app would be streamed in place of the wanted one.
    async fn clear(&self, program: &Program, host_id: u32, app_id: u32) {
        match program.running_app(host_id).await {
            Ok(running) if running == 0 || running == app_id => {}
            Ok(running) if self.bodies.rules.close_foreign_app => {
                log::info!(target: "pairing", body:% = self.ip; "closing foreign app {running}");
                if let Err(error) = self.sunshine.close_app().await {
                    log::warn!(target: "pairing", body:% = self.ip; "cannot close it: {error}");
                }
            }
            Ok(running) => log::warn!(target: "pairing", body:% = self.ip;
                "app {running} already runs and will be streamed instead of {app_id}"),
            Err(error) => log::debug!(target: "pairing", body:% = self.ip;
                "cannot tell whether an app runs: {error}"),
        }
    }

    /// Undoes what a session left: stops the experience, closes the app, unpairs the client
    /// unless its identity is kept. What `neighbours` need stays, for the last of them to undo. May
    /// be repeated; never takes longer than `within`.
    pub async fn leave(
        &self,
        traces: &Traces,
        neighbours: &Neighbours,
        within: Duration,
    ) -> Departure {
        let deadline = clock::now() + within;
        let late = || format!("no time left within {}", humantime::format_duration(within));
        let stop = async {
            let launch = traces.launch.as_ref()?;
            if neighbours.experiences.contains(&launch.experience) {
                return None;
            }
            match clock::by(deadline, self.agent.stop(launch)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("experience may run on: {error}")),
                Err(_) => Some(format!("experience may run on: {}", late())),
            }
        };
        let close = async {
            if neighbours.is_watched || (!traces.streamed && traces.launch.is_none()) {
                return None;
            }
            match clock::by(deadline, self.sunshine.close_app()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("app may run on: {error}")),
                Err(_) => Some(format!("app may run on: {}", late())),
            }
        };
        let unpair = async {
            let kept = self.identity().await.map(|i| i.client);
            let Some(client) = traces.client.clone().filter(|c| kept.as_ref() != Some(c)) else {
                return Ok(Vec::new());
            };
            match clock::by(deadline, self.sunshine.unpair(|n| n == client)).await {
                Ok(Ok(gone)) => Ok(gone),
                Ok(Err(error)) => Err(format!("client {client} may stay paired: {error}")),
                Err(_) => Err(format!("client {client} may stay paired: {}", late())),
            }
        };
        let (stopped, (closed, unpaired)) =
            smol::future::zip(stop, smol::future::zip(close, unpair)).await;
        let mut departure = Departure::default();
        departure.left.extend(stopped.into_iter().chain(closed));
        match unpaired {
            Ok(gone) => departure.unpaired = gone,
            Err(error) => departure.left.push(error),
        }
        for left in &departure.left {
            log::warn!(target: "cleanup", body:% = self.ip; "{left}");
        }
        departure
    }

    pub(super) async fn identity(&self) -> Option<Identity> {
        match self.bodies.identities.load(self.ip).await {
            Ok(identity) => identity,
            Err(error) => {
                log::warn!(target: "pairing", body:% = self.ip; "{error}");
                None
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(DATA_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}
