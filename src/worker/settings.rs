//! What the configuration says to a worker, in the shapes that its rooms take.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::body::allowlist::{Allowed, Machine};
use crate::body::{BodyPorts, Rules};
use crate::config::{self, Auto, Config, WebServer};
use crate::mic::{self, MicSettings};
use crate::secret::Secret;
use crate::session::cgroup::CgroupLimits;
use crate::session::lifecycle::SessionLimits;
use crate::session::ports::Plan;
use crate::session::program_config::StreamSize;

/// What is used to find the address that routes to the internet: TEST-NET-1 (RFC 5737), nothing
/// is sent there.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// A worker's settings.
#[derive(Clone, Debug)]
pub(super) struct WorkerSettings {
    pub(super) worker_id: String,
    pub(super) district: String,
    pub(super) token: Secret,
    pub(super) metrics_public: bool,
    pub(super) controller: Option<ControllerPeer>,
    /// `worker.url`; found out by the heartbeat when absent.
    pub(super) url: Option<String>,
    pub(super) public_url: Option<String>,
    pub(super) listen_port: u16,
    pub(super) return_url: String,
    pub(super) web_server: PathBuf,
    pub(super) life: SessionLimits,
    pub(super) limits: CgroupLimits,
    pub(super) log_max_bytes: u64,
    pub(super) max: usize,
    pub(super) ports: Plan,
    pub(super) public_ip: Option<IpAddr>,
    pub(super) relay_only: bool,
    pub(super) bitrate: Option<u32>,
    pub(super) fps: Option<u32>,
    pub(super) video_size: Option<StreamSize>,
    pub(super) sunshine_user: Option<String>,
    pub(super) sunshine_password: Option<Secret>,
    pub(super) rules: Rules,
    /// Sessions that a body may have at a time.
    pub(super) body_sessions: usize,
    pub(super) mic: MicSettings,
    pub(super) mic_enabled: bool,
    pub(super) mic_port: u16,
    pub(super) ice_servers: Vec<config::IceServer>,
    pub(super) turn: Option<config::Turn>,
    pub(super) nps: Option<config::Peer>,
    pub(super) experience_library: Option<config::Peer>,
}

/// The controller that this worker belongs to.
#[derive(Clone, Debug)]
pub(super) struct ControllerPeer {
    /// At least one; equal controllers that share one fleet.
    pub(super) urls: Vec<String>,
    pub(super) token: Secret,
    pub(super) interval: Duration,
}

impl WorkerSettings {
    pub(super) fn new(config: &Config, machine: &Machine, own_ports: &[u16]) -> Self {
        let sessions = &config.sessions;
        let urls = config.controller.urls.clone();
        let token = config.controller.token.clone();
        let controller = token
            .filter(|_| !urls.is_empty())
            .map(|token| ControllerPeer {
                urls,
                token,
                interval: config.controller.heartbeat_interval,
            });
        Self {
            worker_id: config.worker.id.clone(),
            district: config.district.clone(),
            token: config.server.admin_token.clone(),
            metrics_public: config.metrics.public,
            controller,
            url: config.worker.url.clone(),
            public_url: config.server.public_url.clone().or_else(|| {
                config
                    .server
                    .domain
                    .as_ref()
                    .map(|d| format!("https://{d}"))
            }),
            listen_port: own_ports.first().copied().unwrap_or(443),
            return_url: sessions.return_url.clone(),
            web_server: match &sessions.web_server {
                WebServer::Program(path) => path.clone(),
                WebServer::TestCard => PathBuf::from(crate::session::stream_program::TESTCARD),
            },
            life: SessionLimits {
                start_timeout: sessions.start_timeout,
                connect_timeout: sessions.connect_timeout,
                disconnect_grace: sessions.disconnect_grace,
                max_duration: sessions.max_duration,
                restart_limit: sessions.restart_limit,
            },
            limits: CgroupLimits {
                memory_max: sessions.memory_max,
                pids_max: sessions.pids_max.map(u64::from),
            },
            log_max_bytes: sessions.log_max_bytes,
            max: usize::from(sessions.max),
            ports: Plan {
                port_range_start: sessions.port_range_start,
                own: own_ports.to_vec(),
                slots: usize::from(sessions.max),
                webrtc_port_start: sessions.webrtc_port_start,
                webrtc_ports: sessions.webrtc_ports,
            },
            public_ip: match sessions.public_ip {
                Auto::Ip(ip) => Some(ip),
                Auto::Auto => mic::source_towards(ANYWHERE.into()).ok(),
            },
            relay_only: sessions.relay_only,
            bitrate: sessions.defaults.bitrate,
            fps: sessions.defaults.fps,
            video_size: sessions
                .defaults
                .video_size
                .as_ref()
                .map(|size| match size {
                    config::VideoSize::Named(name) => StreamSize::Named((*name).to_owned()),
                    config::VideoSize::Custom { width, height } => StreamSize::Custom {
                        width: u32::from(*width),
                        height: u32::from(*height),
                    },
                }),
            sunshine_user: config.sunshine.username.clone(),
            sunshine_password: config.sunshine.password.clone(),
            rules: body_rules(config, machine),
            body_sessions: usize::from(config.bodies.sessions_max),
            mic: mic_settings(config),
            mic_enabled: config.mic.enabled,
            mic_port: config.bodies.mic_port,
            ice_servers: config.ice_servers.clone(),
            turn: config.turn.clone(),
            nps: config.nps.clone(),
            experience_library: config.experience_library.clone(),
        }
    }
}

/// How this worker treats bodies.
#[must_use]
pub(crate) fn body_rules(config: &Config, machine: &Machine) -> Rules {
    let networks = config.bodies.allowed_networks.clone().unwrap_or_default();
    Rules {
        allowed: Allowed::new(&networks, machine),
        ports: BodyPorts {
            sunshine: config.sunshine.port,
            http: config.sunshine.http_port,
            agent: config.bodies.agent_port,
        },
        state_dir: config.worker.state_dir.clone(),
        worker_id: config.worker.id.clone(),
        pair_once: config.bodies.pair_once,
        close_foreign_app: config.bodies.close_foreign_app,
    }
}

/// Microphone peers listen on one address: the configured one, else the one that routes to the
/// TURN relay, which is this machine's own.
fn mic_settings(config: &Config) -> MicSettings {
    let bind = match config.mic.bind {
        Auto::Ip(ip) => ip,
        Auto::Auto => mic::source_towards(ANYWHERE.into()).unwrap_or(Ipv4Addr::LOCALHOST.into()),
    };
    let last = config
        .mic
        .port_start
        .saturating_add(config.mic.max.saturating_mul(2));
    let mut settings = MicSettings::on(bind);
    settings.ports = Some(config.mic.port_start..=last);
    settings.payload_type = config.mic.payload_type;
    settings.max = usize::from(config.mic.max);
    settings
}
