//! The JSON that controller, worker, page and operators speak (`POST /api/v1/...`).
//!
//! Requests of users are strict ([`CreateSession`] refuses unknown fields); what controller and
//! worker send each other is lenient, so that a fleet can be updated machine by machine.

mod drain;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;

/// The `service` of every health answer.
pub const SERVICE: &str = "hydraneckwebrtc";

/// This build's version, without a leading `v`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /api/v1/health`, both roles, always with HTTP 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Always [`SERVICE`].
    pub service: String,
    /// Version of the answering program.
    pub version: String,
    /// Configured district, or empty.
    pub district: String,
    /// Whole seconds since start.
    pub uptime_seconds: u64,
    /// `degraded` when `extra.problems` is not empty.
    pub status: HealthStatus,
    /// What this service says beyond the family's common fields.
    pub extra: HealthExtra,
}

/// Overall verdict of a health answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing to do.
    Ok,
    /// Works, but an operator should look at `problems`.
    Degraded,
}

/// `extra` of a health answer. On a controller the numbers are sums over healthy workers and
/// `wireguard` is true only when every healthy worker has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthExtra {
    /// `controller` or `worker`.
    pub mode: String,
    /// Whether a WireGuard interface is up.
    pub wireguard: bool,
    /// Sessions that hold a slot.
    pub active_sessions: usize,
    /// Slots.
    pub max_sessions: usize,
    /// Random id of this process's life.
    pub process_id: String,
    /// Uptime for people, `3h12m`.
    pub uptime: String,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

/// `POST /api/v1/workers/heartbeat`: all that a controller knows of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Stable name of the worker; one live process may carry it.
    pub worker_id: String,
    /// Random id of the worker process's life.
    pub process_id: String,
    /// Base URL at which the controller reaches the worker.
    pub url: String,
    /// Base URL at which browsers reach the worker without the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// The worker's district, or empty.
    #[serde(default)]
    pub district: String,
    /// Version of the worker.
    #[serde(default)]
    pub version: String,
    /// Slots.
    pub max_sessions: usize,
    /// Whether the worker has a WireGuard interface.
    #[serde(default)]
    pub wireguard: bool,
    /// Whether the worker refuses new sessions by its own wish (not because it was ordered to).
    #[serde(default)]
    pub draining: bool,
    /// Counts up from 1 with every heartbeat of one process, so that a late one is recognised; 0:
    /// not counted.
    #[serde(default)]
    pub sequence: u64,
    /// Processes that ran on the same state directory before and are known to be gone (its lock is
    /// ours), newest first: a restarted worker takes its predecessor's place at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// Whether the worker drains because a controller ordered it, so that a controller that has
    /// just started takes the order up again.
    #[serde(default)]
    pub drain_ordered: bool,
    /// The ordered drain's deadline, as the controller gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<String>,
    /// Every session that holds a slot, and those that ended since the last acknowledged beat.
    #[serde(default)]
    pub sessions: Vec<SessionView>,
}

/// The controller's answer to a [`Heartbeat`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// When the next heartbeat is wanted.
    pub heartbeat_interval_ms: u64,
    /// Whether the controller wants the worker drained.
    #[serde(default)]
    pub drain: bool,
    /// RFC 3339 time at which a drained worker's remaining sessions end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<String>,
    /// Time until then by the controller's clock: the worker's may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_remaining_ms: Option<u64>,
}

/// One element of `GET /api/v1/workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Stable name.
    pub worker_id: String,
    /// Base URL at which the controller reaches it.
    pub url: String,
    /// Base URL for browsers, when they need not go through the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// District, or empty.
    pub district: String,
    /// Version.
    pub version: String,
    /// Random id of the process's life.
    pub process_id: String,
    /// Whether and how it takes sessions.
    pub status: WorkerStatus,
    /// Sessions that hold a slot.
    pub active_sessions: usize,
    /// Slots.
    pub max_sessions: usize,
    /// Whether it has a WireGuard interface.
    pub wireguard: bool,
    /// RFC 3339 time of its last heartbeat.
    pub last_heartbeat: String,
    /// RFC 3339 time at which the remaining sessions of a drain that was ordered end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<String>,
    /// `active_sessions / max_sessions`, 0 to 1.
    pub load: f64,
}

/// Whether a worker takes sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// Heard from lately.
    Healthy,
    /// Silent for longer than `workers.heartbeat_timeout`.
    Unhealthy,
    /// Refuses new sessions, keeps those it has.
    Draining,
}

/// `POST /api/v1/sessions` on either role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// The body that renders; must be inside `bodies.allowed_networks`.
    pub body_ip: IpAddr,
    /// Sunshine user; default: the worker's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunshine_user: Option<String>,
    /// Sunshine password; default: the worker's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunshine_pass: Option<String>,
    /// Experience name, kept for rating and reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experience: Option<String>,
    /// Windows path on the body to register in Sunshine and launch through hydrabody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_path: Option<String>,
    /// District, kept for records and reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub district: Option<String>,
    /// Title of the Sunshine app to stream; default: the registered experience, else `Desktop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Whether to answer only when the stream is ready (default) or at once.
    #[serde(default = "yes")]
    pub wait: bool,
}

fn yes() -> bool {
    true
}

/// Answer to a successful create, 201.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The session's id.
    pub session_id: SessionId,
    /// Where the visitor's browser goes.
    pub stream_url: String,
    /// The worker that serves it.
    pub worker_id: String,
    /// State at the time of the answer.
    pub status: Status,
}

/// One session as every API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session's id.
    pub id: SessionId,
    /// Where it is in its life.
    pub status: Status,
    /// What a starting session is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The body that renders.
    pub body_ip: IpAddr,
    /// Experience name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experience: Option<String>,
    /// District.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub district: Option<String>,
    /// RFC 3339 time of admission.
    pub created_at: String,
    /// RFC 3339 time at which the stream could first be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<String>,
    /// Whether a visitor is there.
    pub connected: bool,
    /// Open viewers (signalling WebSockets and page event streams).
    pub viewers: u32,
    /// How often the last viewer went away.
    pub disconnect_count: u32,
    /// Time since admission, or until the end.
    pub duration_ms: u64,
    /// TCP port of the stream process on loopback.
    pub port: u16,
    /// Path and query of the stream page, from `/session/` on; known when ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_path: Option<String>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// What went wrong, for operators, when `end_reason` alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Visitor's rating, 1 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    /// Whether the microphone is on.
    #[serde(default)]
    pub mic: bool,
    /// The page's last digest of its WebRTC statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<PageStats>,
}

/// `POST /session/<id>/stats`: what the page measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageStats {
    /// `RTCPeerConnection.connectionState`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<String>,
    /// Type of the selected local candidate (RFC 8445): `relay`, `host`, `srflx`, `prflx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice_candidate_type: Option<String>,
    /// Dips the page saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect_count: Option<u32>,
    /// Round-trip time of the selected pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Received bitrate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate_kbps: Option<f64>,
    /// RTP packets lost so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_lost: Option<i64>,
    /// Decoded frames a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
}

/// One element of the controller's `GET /api/v1/sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSessions {
    /// The worker.
    pub worker_id: String,
    /// Its sessions.
    pub sessions: Vec<SessionView>,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made; [`Phase`] says how far.
    Starting,
    /// The stream page can be opened, nobody has yet.
    Ready,
    /// A visitor is there.
    Connected,
    /// The visitor went; the session waits for `sessions.disconnect_grace`.
    Lingering,
    /// Being cleaned up.
    Ending,
    /// No process, port or file of it is left.
    Ended,
}

/// What a starting session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Asking the body whether it is there.
    Reaching,
    /// Starting the stream process.
    Spawning,
    /// Pairing the stream process with Sunshine.
    Pairing,
    /// Registering and launching the experience.
    Launching,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `DELETE /api/v1/sessions/<id>`.
    Deleted,
    /// The visitor went and did not come back in time.
    Disconnected,
    /// The worker's drain deadline came.
    Drained,
    /// `sessions.max_duration` was reached.
    MaxDuration,
    /// Nobody opened the stream within `sessions.connect_timeout`.
    NeverConnected,
    /// The stream process died and was not to be saved.
    ProcessExited,
    /// The visitor pressed Exit.
    Quit,
    /// The session never became ready.
    StartFailed,
    /// The worker was stopped for good.
    WorkerShutdown,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Deleted,
        Self::Disconnected,
        Self::Drained,
        Self::MaxDuration,
        Self::NeverConnected,
        Self::ProcessExited,
        Self::Quit,
        Self::StartFailed,
        Self::WorkerShutdown,
    ];

    /// The reason as the API and metrics write it.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Disconnected => "disconnected",
            Self::Drained => "drained",
            Self::MaxDuration => "max_duration",
            Self::NeverConnected => "never_connected",
            Self::ProcessExited => "process_exited",
            Self::Quit => "quit",
            Self::StartFailed => "start_failed",
            Self::WorkerShutdown => "worker_shutdown",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Body of every error answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, for people.
    pub error: String,
    /// The HTTP status again.
    pub code: u16,
    /// More of it, where there is more: a sentence, or a reason for each worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable slug a client may switch on.
    pub reason: String,
    /// Finds the log lines of this request.
    pub request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_request_needs_only_the_body_and_refuses_unknown_fields() {
        let ok: CreateSession = serde_json::from_str(r#"{"body_ip":"10.0.1.50"}"#).unwrap();
        assert!(ok.wait);
        let bad = serde_json::from_str::<CreateSession>(r#"{"body_ip":"10.0.1.50","boddy":1}"#);
        assert!(bad.unwrap_err().to_string().contains("boddy"));
    }

    #[test]
    fn end_reasons_are_the_slugs_of_the_api() {
        for reason in EndReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.slug());
        }
        assert_eq!(
            serde_json::to_string(&Status::Lingering).unwrap(),
            "\"lingering\""
        );
    }
}
