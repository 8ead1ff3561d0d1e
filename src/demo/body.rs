//! A body that is none: Sunshine, its GameStream side, hydrabody and the rating services, over
//! real TCP and TLS, with faults on demand.
//!
//! For the demo, for tests and for virtual machines. What it is told it keeps and shows: the agent
//! port answers `GET /calls`, and takes `POST /faults` with the [`Faults`] to switch on. It pairs
//! with programs that take `paired=1` for a pairing; the handshake's later phases it does not
//! have. As the original, it gives a PIN to the newest pending pairing and crashes when that took
//! one before, drops a pairing by a phase out of order, and forgets its running app when the list
//! of apps is changed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::exec::{self, Stop, Stopper};
use crate::http::Handler;
use crate::http::server::{Api, Certificates, ConnectionLimits, Listener, ServerError};
use crate::secret::Secret;
use crate::tls::{self, TlsError};

mod agent;
mod faults;
mod front;
mod gamestream;
mod state;
mod sunshine;
#[cfg(test)]
mod tests;

#[cfg(test)]
use faults::Answers;
pub use faults::Faults;
use state::BodyState;
pub(crate) use state::Recorded;

/// What a demo body is and where it listens; a port of 0 is chosen by the kernel.
#[derive(Clone, Debug)]
pub struct BodyOptions {
    /// Address of all its listeners.
    pub address: IpAddr,
    /// Sunshine's configuration API, 47990 on a real body.
    pub sunshine_port: u16,
    /// GameStream over plain HTTP, 47989 on a real body.
    pub http_port: u16,
    /// hydrabody, 47991 on a real body; ratings, calls and faults too.
    pub agent_port: u16,
    /// Sunshine's user name.
    pub user: String,
    /// Sunshine's password.
    pub password: Secret,
    /// Bearer token of the rating services; without one they take anybody's records.
    pub token: Option<Secret>,
    /// Titles of its apps.
    pub apps: Vec<String>,
    /// PEM file of its certificate and key, made when it does not exist; without one the
    /// certificate is new at each start, which a worker with a pin refuses.
    pub identity_file: Option<PathBuf>,
    /// Faults from the start.
    pub faults: Faults,
}

impl Default for BodyOptions {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            sunshine_port: 0,
            http_port: 0,
            agent_port: 0,
            user: "sunshine".into(),
            password: Secret::new("sunshine"),
            token: None,
            apps: vec!["Desktop".into()],
            identity_file: None,
            faults: Faults::default(),
        }
    }
}

/// Why a demo body could not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The certificate could not be made, read or kept.
    #[error("demo body's certificate: {0}")]
    Certificate(String),
    /// A port could not be bound.
    #[error("demo body: {0}")]
    Listen(#[source] ServerError),
    /// The kernel refused something about a socket.
    #[error("demo body's sockets: {0}")]
    Socket(#[source] io::Error),
    /// TLS could not be set up.
    #[error("demo body: {0}")]
    Tls(#[source] TlsError),
}

/// A running demo body; it ends when it is dropped.
#[derive(Debug)]
pub struct DemoBody {
    state: Arc<BodyState>,
    certificates: Certificates,
    sunshine: SocketAddr,
    http: SocketAddr,
    agent: SocketAddr,
    _stopper: Stopper,
}

impl DemoBody {
    /// Binds its ports and serves them.
    ///
    /// # Errors
    /// See [`DemoError`].
    pub fn start(options: BodyOptions) -> Result<Self, DemoError> {
        let (stopper, stop) = exec::stop();
        let (config, pem) = match &options.identity_file {
            Some(file) => kept_certificate(file)?,
            None => new_certificate()?,
        };
        let certificates = Certificates::new(config);
        let at = |port| SocketAddr::new(options.address, port);
        let (sunshine_at, http_at, agent_at) = (
            at(options.sunshine_port),
            at(options.http_port),
            at(options.agent_port),
        );
        let state = Arc::new(BodyState::new(options, pem));
        let tls = Some(certificates.clone());
        let rest = sunshine::SunshineRest(Arc::clone(&state));
        let behind = serve(([127, 0, 0, 1], 0).into(), tls, rest, stop.clone())?;
        let sunshine = front::open(sunshine_at, behind, Arc::clone(&state), true, stop.clone())?;
        let xml = gamestream::GameStreamApi(Arc::clone(&state));
        let behind = serve(([127, 0, 0, 1], 0).into(), None, xml, stop.clone())?;
        let http = front::open(http_at, behind, Arc::clone(&state), false, stop.clone())?;
        state.set_ports(sunshine.port(), http.port());
        let hydrabody = agent::HydraBody(Arc::clone(&state), certificates.clone());
        let agent = serve(agent_at, None, hydrabody, stop)?;
        Ok(Self {
            state,
            certificates,
            sunshine,
            http,
            agent,
            _stopper: stopper,
        })
    }

    /// Where Sunshine's configuration API listens.
    #[must_use]
    pub fn sunshine(&self) -> SocketAddr {
        self.sunshine
    }

    /// Where GameStream listens.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where hydrabody, the rating services and the switches listen.
    #[must_use]
    pub fn agent(&self) -> SocketAddr {
        self.agent
    }

    /// The calls it got, oldest first, at most the last 1,000.
    #[must_use]
    pub fn calls(&self) -> Vec<Recorded> {
        self.state.calls()
    }

    /// Names of the paired clients.
    #[must_use]
    pub fn clients(&self) -> Vec<String> {
        self.state.clients()
    }

    /// Title of the app that runs.
    #[must_use]
    pub fn running(&self) -> Option<String> {
        self.state.running()
    }

    /// Whether its Sunshine has crashed: a second PIN came for one pairing.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state.has_crashed()
    }

    /// Rating records it got.
    #[must_use]
    pub fn ratings(&self) -> Vec<serde_json::Value> {
        self.state.ratings()
    }

    /// Switches faults.
    ///
    /// # Errors
    /// [`DemoError::Certificate`] when a new certificate was wanted and cannot be made.
    pub fn fail(&self, faults: Faults) -> Result<(), DemoError> {
        switch(&self.state, &self.certificates, faults)
    }

    /// From now on a client that is removed during a stream program's call does no harm, unlike in
    /// Sunshine: for workers that share the body and do not know of each other.
    pub fn lock_certificates(&self) {
        self.state.lock_certificates();
    }

    /// Whether hydrabody runs an experience.
    #[must_use]
    pub fn has_experience(&self) -> bool {
        self.state.has_experience()
    }

    /// Drops every connection, forgets pending pairings and is away for a moment.
    pub fn restart(&self) {
        self.state.restart();
    }
}

fn switch(state: &BodyState, certificates: &Certificates, faults: Faults) -> Result<(), DemoError> {
    if faults.changed_certificate {
        certificates.replace(new_certificate()?.0);
    }
    state.switch(faults);
    Ok(())
}

fn serve(
    at: SocketAddr,
    tls: Option<Certificates>,
    handler: impl Handler,
    stop: Stop,
) -> Result<SocketAddr, DemoError> {
    let mut listener = Listener::bind(at).map_err(DemoError::Listen)?;
    let bound = listener.local_addr().map_err(DemoError::Socket)?;
    if let Some(tls) = tls {
        listener = listener.with_tls(tls);
    }
    let service = Arc::new(Api(handler));
    let serving = listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO);
    exec::spawn(serving).detach();
    Ok(bound)
}

type Certified = (Arc<ServerConfig>, String);

fn generate() -> Result<(String, String, Arc<ServerConfig>), DemoError> {
    let failed = |e: rcgen::Error| DemoError::Certificate(e.to_string());
    let made =
        rcgen::generate_simple_self_signed(vec!["sunshine.invalid".into()]).map_err(failed)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|e| DemoError::Certificate(e.to_owned()))?;
    let config = tls::server_from(vec![made.cert.der().clone()], key).map_err(DemoError::Tls)?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem(), config))
}

fn new_certificate() -> Result<Certified, DemoError> {
    generate().map(|(pem, _, config)| (config, pem))
}

fn kept_certificate(file: &Path) -> Result<Certified, DemoError> {
    let failed = |e: io::Error| DemoError::Certificate(format!("{}: {e}", file.display()));
    if !file.exists() {
        let (certificate, key, _) = generate()?;
        std::fs::write(file, format!("{certificate}{key}")).map_err(failed)?;
    }
    let config = tls::server(file, file).map_err(DemoError::Tls)?;
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let end = text.find("-----BEGIN PRIVATE").unwrap_or(text.len());
    Ok((config, text[..end].to_owned()))
}
