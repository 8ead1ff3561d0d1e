//! The demo's parts and how they are put together.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::body::{BodyOptions, DemoBody, DemoError};
use crate::config::{Config, Problems, Role};
use crate::controller::{Controller, ControllerError};
use crate::exec::{self, Stopper};
use crate::http::server::{ConnectionLimits, Listener, ServerError, Service};
use crate::secret::Secret;
use crate::worker::{Worker, WorkerError};
use crate::{clock, ids};

/// Sessions of the demo's worker, and its bodies: each belongs to one session at a time.
const SESSIONS: u16 = 4;
/// Tries to find ports that are free at the address of every body.
const TRIES: u32 = 10;
/// Wait for the worker's registration.
const REGISTERED: Duration = Duration::from_secs(10);
/// Time for ending the sessions.
const END: Duration = Duration::from_secs(15);
/// UDP ports of one demo: `sessions.webrtc_ports` for each session.
const UDP_PORTS: u16 = 20 * SESSIONS;
/// Where free port ranges are looked for.
const RANGES: std::ops::Range<u16> = 18_100..30_000;

/// Why the demo could not start.
#[derive(Debug)]
pub(super) enum ChainError {
    Body(DemoError),
    Config(Problems),
    Controller(ControllerError),
    Directory(std::io::Error),
    NoPorts,
    NotRegistered,
    Server(ServerError),
    Worker(WorkerError),
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => write!(f, "{error}"),
            Self::Config(problems) => {
                write!(f, "the demo's own configuration is wrong: {problems}")
            }
            Self::Controller(error) => write!(f, "{error}"),
            Self::Directory(error) => write!(f, "cannot make a temporary directory: {error}"),
            Self::NoPorts => write!(f, "no {SESSIONS} free ports in a row from {}", RANGES.start),
            Self::NotRegistered => f.write_str("the worker did not register with the controller"),
            Self::Server(error) => write!(f, "{error}"),
            Self::Worker(error) => write!(f, "{error}"),
        }
    }
}

/// A running demo.
pub(super) struct Chain {
    pub(super) controller_url: String,
    pub(super) worker_url: String,
    pub(super) token: Secret,
    bodies: Vec<DemoBody>,
    worker: Arc<Worker>,
    stopper: Stopper,
    dir: PathBuf,
}

impl Chain {
    /// Starts body, controller and worker. A wanted port that is taken is named, and another is
    /// chosen.
    pub(super) async fn start(port: u16) -> Result<Self, ChainError> {
        let token = Secret::new(ids::label());
        let password = Secret::new(ids::label());
        let dir = std::env::temp_dir().join(format!("hydraneckwebrtc-demo-{}", ids::label()));
        std::fs::create_dir(&dir).map_err(ChainError::Directory)?;
        let bodies = start_bodies(&password, &token)?;
        let front = bind(port)?;
        let back = bind(0)?;
        let controller_url = url_of(&front)?;
        let worker_url = url_of(&back)?;
        let config = configuration(&Names {
            token: token.expose(),
            password: password.expose(),
            controller_url: &controller_url,
            worker_url: &worker_url,
            dir: &dir,
            bodies: &bodies,
            first_port: free_range()?,
            udp_start: 30_000 + (u16::try_from(std::process::id() % 400).unwrap_or(0)) * UDP_PORTS,
        });
        let load = |role| Config::parse(&config, Some(role)).map_err(ChainError::Config);
        let (stopper, stop) = exec::stop();
        let controller = Controller::start(&load(Role::Controller)?.config, stop.clone()).await;
        let controller = controller.map_err(ChainError::Controller)?;
        let serve = |listener: Listener, service: Arc<dyn Service>| {
            exec::spawn(listener.serve(
                service,
                ConnectionLimits::default(),
                stop.clone(),
                Duration::ZERO,
            ))
            .detach();
        };
        serve(front, controller.service());
        let own = [port_of(&worker_url)];
        let worker = Worker::start(&load(Role::Worker)?.config, &own, stop.clone()).await;
        let worker = worker.map_err(ChainError::Worker)?;
        serve(back, worker.service());
        let chain = Self {
            controller_url,
            worker_url,
            token,
            bodies,
            worker,
            stopper,
            dir,
        };
        let deadline = clock::now() + REGISTERED;
        while !controller.has_worker() {
            if clock::now() > deadline {
                return Err(ChainError::NotRegistered);
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
        Ok(chain)
    }

    /// The address of each body.
    pub(super) fn bodies(&self) -> impl Iterator<Item = IpAddr> {
        self.bodies.iter().map(|body| body.sunshine().ip())
    }

    /// Ends every session and removes every file.
    pub(super) async fn end(self) {
        self.worker.shutdown(false, END).await;
        drop(self.stopper);
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            log::warn!(target: "cleanup", "cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// Starts the bodies, at 127.0.0.1 and the addresses after it, with the same ports.
fn start_bodies(password: &Secret, token: &Secret) -> Result<Vec<DemoBody>, ChainError> {
    let start = |n: u16, ports: (u16, u16, u16)| {
        DemoBody::start(BodyOptions {
            address: IpAddr::from(Ipv4Addr::from_bits(
                Ipv4Addr::LOCALHOST.to_bits() + u32::from(n),
            )),
            sunshine_port: ports.0,
            http_port: ports.1,
            agent_port: ports.2,
            user: "sunshine".into(),
            password: password.clone(),
            token: Some(token.clone()),
            ..BodyOptions::default()
        })
    };
    let mut tries = 1;
    loop {
        let first = start(0, (0, 0, 0))?;
        let ports = (
            first.sunshine().port(),
            first.http().port(),
            first.agent().port(),
        );
        let others: Result<Vec<_>, _> = (1..SESSIONS).map(|n| start(n, ports)).collect();
        match others {
            Ok(others) => return Ok(std::iter::once(first).chain(others).collect()),
            Err(error) if tries == TRIES => return Err(error.into()),
            // Another program has one of the ports at another address.
            Err(_) => tries += 1,
        }
    }
}

/// Binds a loopback port; another one when it is taken.
fn bind(port: u16) -> Result<Listener, ChainError> {
    match Listener::bind((Ipv4Addr::LOCALHOST, port).into()) {
        Ok(listener) => Ok(listener),
        Err(error) if port != 0 => {
            log::warn!(target: "demo", "{error}; taking another one");
            bind(0)
        }
        Err(error) => Err(ChainError::Server(error)),
    }
}

fn url_of(listener: &Listener) -> Result<String, ChainError> {
    let address = listener
        .local_addr()
        .map_err(|e| ChainError::Server(ServerError::Bind(([127, 0, 0, 1], 0).into(), e)))?;
    Ok(format!("http://{address}"))
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':')
        .next()
        .and_then(|p| p.parse().ok())
        .unwrap_or(0)
}

/// The first port of a free range for the sessions.
fn free_range() -> Result<u16, ChainError> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Demos that start together look in different places.
    let places = RANGES.len() / usize::from(SESSIONS);
    let turn = usize::try_from(std::process::id()).unwrap_or(0) % places;
    let starts = RANGES.step_by(usize::from(SESSIONS));
    let mut starts = starts.clone().skip(turn).chain(starts.take(turn));
    starts
        .find(|start| (*start..start + SESSIONS).all(is_free))
        .ok_or(ChainError::NoPorts)
}

struct Names<'a> {
    token: &'a str,
    password: &'a str,
    controller_url: &'a str,
    worker_url: &'a str,
    dir: &'a std::path::Path,
    bodies: &'a [DemoBody],
    first_port: u16,
    udp_start: u16,
}

/// The demo's configuration, as an operator would write it.
fn configuration(names: &Names<'_>) -> String {
    let body = &names.bodies[0];
    let networks: Vec<String> = names
        .bodies
        .iter()
        .map(|body| format!("{}/32", body.sunshine().ip()))
        .collect();
    let networks = networks.join(", ");
    format!(
        r#"
district: demo
server:
  listen: "127.0.0.1:{listen}"
  admin_token: "{token}"
controller:
  url: "{controller}"
  token: "{token}"
  heartbeat_interval: 250ms
worker:
  id: demo-worker
  url: "{worker}"
  state_dir: "{dir}/state"
sessions:
  max: {SESSIONS}
  port_range_start: {first_port}
  web_server: testcard
  dir: "{dir}/sessions"
  webrtc_port_start: {udp_start}
  relay_only: false
  # The printed link is good for as long as somebody may need to open it.
  connect_timeout: 1day
  return_url: "{controller}/admin"
sunshine:
  username: sunshine
  password: "{password}"
  port: {sunshine_port}
  http_port: {http_port}
bodies:
  allowed_networks: [{networks}]
  agent_port: {agent_port}
mic:
  bind: "127.0.0.1"
nps:
  url: "http://{agent}"
  token: "{token}"
experience_library:
  url: "http://{agent}"
  token: "{token}"
"#,
        listen = port_of(names.controller_url),
        token = names.token,
        controller = names.controller_url,
        worker = names.worker_url,
        dir = names.dir.display(),
        first_port = names.first_port,
        udp_start = names.udp_start,
        password = names.password,
        sunshine_port = body.sunshine().port(),
        http_port = body.http().port(),
        agent_port = body.agent().port(),
        agent = body.agent(),
    )
}
