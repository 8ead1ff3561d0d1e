//! One session's visit to a body, step by step: reach, recall or pair, launch, target. Leaving it is
//! in `leave`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::bodies::Bodies;
use super::experience::{self, Agent, DESKTOP, ExperienceError, Launch};
use super::gamestream::GameStream;
use super::identity::{self, ClientIdentity};
use super::pairing::{self, BodyHold, PairingError};
use super::reachability::{self, Reached, Unreachable};
use super::stream_api::{StreamApi, StreamApiError};
use super::sunshine::{Sunshine, SunshineCredentials};
use super::teardown::CleanupRecord;
use crate::exec::Stop;
use crate::{clock, ids};

/// Handshakes that are tried: the second one for a Sunshine that restarted in the first.
const ATTEMPTS: u32 = 2;
/// Pause between tries to reach a Sunshine that restarts.
const ADD_PAUSE: Duration = Duration::from_millis(500);
/// Wait for GameStream of a Sunshine whose configuration API answers.
const GAMESTREAM: Duration = Duration::from_secs(8);
/// Pause between looks at a `data.json` that the stream program writes when it pleases.
const HARVEST_PAUSE: Duration = Duration::from_millis(50);
/// Wait for the body's lock before its list of apps is changed: a pairing takes 2 s.
const REGISTER: Duration = Duration::from_secs(10);
/// Largest `data.json` that is read: one user and one host are about 6 KiB.
const DATA_MAX: u64 = 1024 * 1024;

/// One body, for one session.
#[derive(Clone, Debug)]
pub(crate) struct SessionBody {
    pub(super) ip: IpAddr,
    pub(super) sunshine: Sunshine,
    pub(super) gamestream: GameStream,
    pub(super) agent: Agent,
    pub(super) bodies: Bodies,
}

/// The stream program is paired with the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paired {
    /// The body's id in the stream program.
    pub host_id: u32,
    /// Whether this session did the pairing; then its identity can be kept.
    pub fresh: bool,
}

/// What the stream page needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamTarget {
    /// The body's id in the stream program.
    pub host_id: u32,
    /// The app's id.
    pub app_id: u32,
}

/// Why there is nothing to stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// The body has no app of that title, nor a desktop.
    #[error("the body has no app {0:?}; add it in Sunshine or ask for another one")]
    NoApp(String),
    /// The stream program could not list the apps.
    #[error("{0}")]
    Program(#[source] StreamApiError),
}

impl SessionBody {
    pub(super) fn new(ip: IpAddr, credentials: SunshineCredentials, bodies: Bodies) -> Self {
        let at = |port| SocketAddr::new(ip, port);
        let ports = bodies.rules.ports;
        Self {
            ip,
            sunshine: Sunshine::new(at(ports.sunshine), credentials, bodies.pins.clone()),
            gamestream: GameStream::new(at(ports.http)),
            agent: Agent::new(at(ports.agent)),
            bodies,
        }
    }

    /// Its canonical address.
    #[must_use]
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether it is there and lets us in, and how far away it is.
    ///
    /// # Errors
    /// [`Unreachable`] within five seconds, and when GameStream does not answer either within
    /// [`GAMESTREAM`].
    pub(crate) async fn reach(&self) -> Result<Reached, Unreachable> {
        let reached = reachability::probe(&self.sunshine).await?;
        // A Sunshine that starts answers here 1 to 2 s later.
        let until = clock::now() + GAMESTREAM;
        loop {
            match self.gamestream.occupation().await {
                Ok(seen) => {
                    let app = seen.app;
                    return Ok(Reached { app, ..reached });
                }
                Err(error) if clock::now() >= until => {
                    let at = SocketAddr::new(self.ip, self.bodies.rules.ports.http);
                    return Err(Unreachable::GameStream(at, error.to_string()));
                }
                Err(_) => clock::sleep(ADD_PAUSE).await,
            }
        }
    }

    /// What a new session may leave here. Write it down before the next step.
    #[must_use]
    pub(crate) fn traces(&self, launch: Option<Launch>) -> CleanupRecord {
        CleanupRecord {
            client: Some(format!("{}{}", self.bodies.prefix, ids::label())),
            launch,
            ..CleanupRecord::default()
        }
    }

    /// The kept identity that spares a new stream program its pairing.
    pub(crate) async fn kept(&self) -> Option<ClientIdentity> {
        match self.bodies.rules.pair_once {
            true => self.identity().await,
            false => None,
        }
    }

    /// Whether the body knows the identity with which the program was seeded, as host `host_id`.
    ///
    /// # Errors
    /// [`PairingError::Late`].
    pub(crate) async fn recalls(
        &self,
        program: &StreamApi,
        host_id: u32,
        within: Duration,
    ) -> Result<bool, PairingError> {
        let apps = clock::by(clock::now() + within, program.apps(host_id)).await;
        match apps.map_err(|_| PairingError::Late(within))? {
            Ok(_) => Ok(true),
            Err(error) => {
                log::info!(target: "pairing", body:% = self.ip;
                    "the kept identity is no use, pairing anew: {error}");
                Ok(false)
            }
        }
    }

    /// Waits until nobody else of this worker pairs with the body or changes its apps.
    ///
    /// # Errors
    /// [`PairingError::Busy`] at the deadline.
    pub(crate) async fn hold(&self, within: Duration) -> Result<BodyHold, PairingError> {
        self.bodies.locks.hold(self.ip, within).await
    }

    /// Pairs the stream program with the body; the caller has [`SessionBody::hold`]. A handshake that
    /// fails before Sunshine took the PIN, as when Sunshine restarts, is tried once more.
    ///
    /// # Errors
    /// See [`PairingError`]. The pairing may be pending on the body then:
    /// [`SessionBody::drop_pairing`], after the program has ended.
    pub(crate) async fn pair(
        &self,
        program: &StreamApi,
        traces: &CleanupRecord,
        within: Duration,
        stop: &Stop,
    ) -> Result<Paired, PairingError> {
        let deadline = clock::now() + within;
        let left = || deadline.saturating_duration_since(clock::now());
        let client = traces.client.as_deref().unwrap_or(&self.bodies.prefix);
        let start = clock::now();
        let mut attempt = 1;
        let host_id = loop {
            let add = clock::by(deadline, self.add_to(program, attempt));
            let added = stop.or(add).await.ok_or(PairingError::GivenUp)?;
            let added = added.map_err(|_| PairingError::Late(within))?;
            let host_id = added.map_err(PairingError::Program)?;
            match pairing::pair(program, &self.sunshine, host_id, client, left(), stop).await {
                Ok(()) => break host_id,
                Err(error @ PairingError::Rejected(false)) if attempt < ATTEMPTS => {
                    log::warn!(target: "pairing", body:% = self.ip; "{error}; trying again");
                    attempt += 1;
                    // The second attempt has the same unique id, and must not meet the first.
                    let dropped = self.drop_pairing(traces.unique_id(program.user()));
                    if stop.or(dropped).await != Some(true) {
                        return Err(error);
                    }
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
    async fn add_to(&self, program: &StreamApi, attempt: u32) -> Result<u32, StreamApiError> {
        loop {
            match program
                .add_host(self.ip, self.bodies.rules.ports.http)
                .await
            {
                Err(StreamApiError::Status(..)) if attempt > 1 => clock::sleep(ADD_PAUSE).await,
                done => return done,
            }
        }
    }

    /// Keeps the identity of a fresh pairing for later sessions, as soon as the stream program
    /// has written it. Answers whether it is kept; then the client stays on the body. One that was
    /// kept before is for [`SessionBody::tidy`] to unpair: other sessions may use it.
    pub(crate) async fn keep(
        &self,
        traces: &CleanupRecord,
        paired: &Paired,
        data_json: &Path,
        within: Duration,
    ) -> bool {
        let (Some(client), true) = (traces.client.as_deref(), self.bodies.rules.pair_once) else {
            return false;
        };
        let harvest = async {
            loop {
                let file = data_json.to_owned();
                let text = smol::unblock(move || read(&file)).await.unwrap_or_default();
                if let Some(identity) = identity::harvest(&text, paired.host_id, self.ip, client) {
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
        if let Err(error) = self.bodies.identities.keep(self.ip, &identity).await {
            log::warn!(target: "pairing", body:% = self.ip; "cannot keep the identity: {error}");
            return false;
        }
        true
    }

    /// Has hydrabody launch the experience.
    ///
    /// # Errors
    /// See [`ExperienceError`].
    pub(crate) async fn start_experience(&self, launch: &Launch) -> Result<(), ExperienceError> {
        self.agent.launch(launch).await
    }

    /// Launches the experience, which is what `start` does, and registers it in Sunshine. Answers the
    /// warnings: a session goes on without either. `is_streaming` tells whether another session streams from the body:
    /// then its apps are not changed, as Sunshine would end that stream.
    pub(crate) async fn launch(
        &self,
        launch: &Launch,
        start: impl Future<Output = Result<(), ExperienceError>> + Send,
        is_streaming: impl Fn() -> bool + Sync,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let launched = start.await;
        let start = launched.as_ref().is_err_and(|e| e.is_certain());
        let is_silent = launched.as_ref().is_err_and(|e| e.is_silence());
        warnings.extend(launched.err().map(|e| e.to_string()));
        let port = (!is_silent).then_some(self.bodies.rules.ports.agent);
        let app = experience::entry(launch, port, start);
        let registered = match app {
            Ok(app) => self.register(app, is_streaming).await,
            Err(error) => Err(error),
        };
        warnings.extend(registered.err().map(|e| e.to_string()));
        for warning in &warnings {
            log::warn!(target: "session", session = launch.session_id.as_str(); "{warning}");
        }
        warnings
    }

    /// Has Sunshine list the app as said. When it lists it so already nothing is posted: any change
    /// of the list makes Sunshine forget the running app and end its streams.
    async fn register(
        &self,
        app: Map<String, Value>,
        is_streaming: impl Fn() -> bool + Sync,
    ) -> Result<(), ExperienceError> {
        // The list is sorted anew by each change: an index is good for nobody else meanwhile.
        let _hold = self
            .hold(REGISTER)
            .await
            .map_err(|_| ExperienceError::Occupied("another session of this worker uses it"))?;
        let unlike = self.sunshine.unlike(app).await;
        let Some(entry) = unlike.map_err(ExperienceError::Sunshine)? else {
            return Ok(());
        };
        let streaming = ExperienceError::Occupied("another session streams from it");
        if is_streaming() {
            return Err(streaming);
        }
        // A session that is leaving may be closing its own.
        let seen = self.gamestream.occupation().await;
        if seen.is_ok_and(|seen| seen.app > 0) && self.becomes_free().await.is_err() {
            if !self.bodies.rules.close_foreign_app {
                return Err(ExperienceError::Occupied(
                    "an app of somebody else runs there",
                ));
            }
            log::info!(target: "pairing", body:% = self.ip; "closing a foreign app");
            self.close(|| !is_streaming())
                .await
                .map_err(ExperienceError::Close)?;
        }
        if is_streaming() {
            return Err(streaming);
        }
        let saved = self.sunshine.save_app(entry).await;
        saved.map_err(ExperienceError::Sunshine)
    }

    /// Finds what to stream. `app` must be there if it is asked for; otherwise it is the
    /// launched experience, or the desktop. `is_streaming` as for [`SessionBody::launch`].
    ///
    /// # Errors
    /// See [`TargetError`].
    pub(crate) async fn target(
        &self,
        program: &StreamApi,
        paired: &Paired,
        app: Option<&str>,
        launch: Option<&Launch>,
        is_streaming: impl Fn() -> bool + Sync,
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
        self.clear(program, host_id, app_id, is_streaming).await;
        Ok(StreamTarget { host_id, app_id })
    }

    /// A running app would be streamed in place of the wanted one.
    async fn clear(
        &self,
        program: &StreamApi,
        host_id: u32,
        app_id: u32,
        is_streaming: impl Fn() -> bool + Sync,
    ) {
        match program.running_app(host_id).await {
            Ok(running) if running == 0 || running == app_id => {}
            Ok(running) if self.bodies.rules.close_foreign_app && !is_streaming() => {
                log::info!(target: "pairing", body:% = self.ip; "closing foreign app {running}");
                if let Err(error) = self.close(|| !is_streaming()).await {
                    log::warn!(target: "pairing", body:% = self.ip; "cannot close it: {error}");
                }
            }
            Ok(running) => log::warn!(target: "pairing", body:% = self.ip;
                "app {running} already runs and will be streamed instead of {app_id}"),
            Err(error) => log::debug!(target: "pairing", body:% = self.ip;
                "cannot tell whether an app runs: {error}"),
        }
    }

    pub(crate) async fn identity(&self) -> Option<ClientIdentity> {
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
