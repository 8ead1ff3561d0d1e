//! The configuration as the rest of the program sees it: plain structs, fields named as the keys.
//!
//! What each key means, its bounds and its default stand once, in `keys`, and are printed by
//! `config example` and in `docs/configuration.md`; here is only what a caller must know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::kinds::{Auto, Listen, VideoSize};
use crate::secret::Secret;

/// What a process does in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes session requests and routes them.
    Controller,
    /// Runs sessions.
    Worker,
}

impl Role {
    /// The subcommand and value of `mode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The whole configuration, every key with its effective value.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each field is the section of that name, documented at its struct
pub struct Config {
    pub mode: Option<Role>,
    /// May be empty.
    pub district: String,
    pub server: Server,
    pub controller: Controller,
    /// Present when several controllers share one fleet; else it is kept in memory.
    pub store: Option<Etcd>,
    pub workers: Workers,
    pub worker: Worker,
    pub sessions: Sessions,
    pub sunshine: Sunshine,
    pub bodies: Bodies,
    pub ice_servers: Vec<IceServer>,
    /// Present when per-session TURN credentials are minted.
    pub turn: Option<Turn>,
    /// Present when records are sent.
    pub nps: Option<Peer>,
    /// Present when ratings are forwarded.
    pub experience_library: Option<Peer>,
    pub update: Update,
    pub metrics: Metrics,
    pub log: Log,
    pub mic: Mic,
}

/// How this process is reached.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Server {
    pub domain: Option<String>,
    pub listen: Option<Listen>,
    /// Never empty in a configuration that was loaded for a role.
    pub admin_token: Secret,
    /// No trailing slash. `https://<domain>` when only the domain is set.
    pub public_url: Option<String>,
    pub connections_max: usize,
    pub acme: Acme,
    pub tls: Option<Tls>,
}

/// Where certificates for the domain come from.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Acme {
    pub directory: String,
    pub contact: Option<String>,
    pub cache_dir: PathBuf,
    pub ca_file: Option<PathBuf>,
}

/// A certificate of one's own.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Tls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// The worker's way to its controller.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Controller {
    /// No trailing slashes. Empty: the worker serves alone.
    pub urls: Vec<String>,
    /// Present whenever `urls` has any.
    pub token: Option<Secret>,
    pub ca_file: Option<PathBuf>,
    pub heartbeat_interval: Duration,
}

/// The etcd that several controllers share.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Etcd {
    /// At least one; no trailing slashes.
    pub endpoints: Vec<String>,
    /// Begins with a slash and does not end with one.
    pub prefix: String,
    /// Present exactly when `password` is.
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub ca_file: Option<PathBuf>,
    /// Present exactly when `private_key` is.
    pub certificate: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
}

/// How the controller judges its workers.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Workers {
    pub heartbeat_timeout: Duration,
}

/// Who this worker is.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Worker {
    pub id: String,
    /// No trailing slash.
    pub url: Option<String>,
    pub state_dir: PathBuf,
}

/// The stream program of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebServer {
    /// moonlight-web-stream's `web-server`, or one with its contract.
    Program(PathBuf),
    /// The built-in test card.
    TestCard,
}

impl fmt::Display for WebServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path) => path.display().fmt(f),
            Self::TestCard => f.write_str(TEST_CARD),
        }
    }
}

/// How the built-in test card is called in `sessions.web_server`.
pub(super) const TEST_CARD: &str = "testcard";

/// How sessions run and end.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Sessions {
    pub max: u16,
    pub port_range_start: u16,
    pub return_url: String,
    pub web_server: WebServer,
    pub dir: PathBuf,
    pub connect_timeout: Duration,
    pub disconnect_grace: Duration,
    pub max_duration: Option<Duration>,
    pub start_timeout: Duration,
    pub restart_limit: u32,
    pub webrtc_port_start: u16,
    pub webrtc_ports: u16,
    pub public_ip: Auto,
    pub log_max_bytes: u64,
    pub relay_only: bool,
    pub keep_on_shutdown: bool,
    pub pids_max: Option<u32>,
    pub memory_max: Option<u64>,
    pub defaults: Defaults,
}

impl Sessions {
    /// The ports of the stream processes: `max` of them from `port_range_start`, leaving out the
    /// ones this process listens on itself (the runbook's colocated worker listens on `:8090`,
    /// inside the range it gives to sessions).
    pub fn ports(&self, taken: &[u16]) -> impl Iterator<Item = u16> {
        (self.port_range_start..=u16::MAX)
            .filter(|port| !taken.contains(port))
            .take(usize::from(self.max))
    }

    /// The UDP ports of the session in slot `slot` (from 0), first and last.
    #[must_use]
    pub fn webrtc_range(&self, slot: u16) -> (u16, u16) {
        let first =
            u32::from(self.webrtc_port_start) + u32::from(slot) * u32::from(self.webrtc_ports);
        let last = first + u32::from(self.webrtc_ports).saturating_sub(1);
        let port = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        (port(first), port(last))
    }
}

/// What the stream page asks of the body; `None` leaves the stream program's own default.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Defaults {
    /// Kilobits a second.
    pub bitrate: Option<u32>,
    pub fps: Option<u32>,
    pub video_size: Option<VideoSize>,
}

/// How bodies' Sunshine is spoken to when a request does not say.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Sunshine {
    /// Present exactly when `password` is.
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub port: u16,
    pub http_port: u16,
}

/// Which bodies are reached, and on which ports.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Bodies {
    /// `None`: the networks of the WireGuard interfaces and the private ranges of RFC 1918.
    pub allowed_networks: Option<Vec<IpNet>>,
    pub agent_port: u16,
    pub mic_port: u16,
    pub pair_once: bool,
    pub close_foreign_app: bool,
}

/// One entry of the ICE servers, as browsers and the stream process get it.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct IceServer {
    pub urls: Vec<String>,
    pub username: Option<String>,
    pub credential: Option<Secret>,
}

/// What per-session TURN credentials are minted from.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Turn {
    pub secret: Secret,
    pub urls: Vec<String>,
    pub ttl: Duration,
}

/// A service that is told things.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Peer {
    /// No trailing slash.
    pub url: String,
    pub token: Option<Secret>,
}

/// How the binary renews itself.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Update {
    pub enabled: bool,
    pub interval: Duration,
    pub channel: String,
    /// No trailing slash.
    pub base_url: String,
    /// 32 bytes, base64.
    pub public_key: Option<String>,
    pub when_idle: bool,
}

/// Who may read the numbers.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Metrics {
    pub public: bool,
}

/// How log lines are written.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Log {
    pub level: log::LevelFilter,
    pub format: crate::log::Format,
    pub audit_file: Option<PathBuf>,
}

/// The browser's microphone on its way to the body.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // documented in `keys`
pub struct Mic {
    pub enabled: bool,
    pub bind: Auto,
    pub max: u16,
    pub payload_type: u8,
    pub port_start: u16,
}
