//! A session: the request for it, and its view.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{EndReason, Phase, Status, reading};
use crate::ids::SessionId;

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
    /// Whether to end the session that has the body, if there is one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub takeover: bool,
}

fn yes() -> bool {
    true
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The session that has a body, in a refusal with the reason `body_busy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The session's id.
    pub session_id: SessionId,
    /// The worker that serves it.
    #[serde(default)]
    pub worker_id: String,
    /// Where it is in its life.
    #[serde(default = "Status::untold")]
    pub status: Status,
    /// RFC 3339 time of its admission.
    #[serde(default)]
    pub since: String,
    /// Whether a visitor is there.
    #[serde(default)]
    pub connected: bool,
}

/// `POST /api/v1/sessions/<id>/yield` on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Yield {
    /// Whether the session is ended even when a visitor is there.
    pub takeover: bool,
}

/// Answer to a successful create, 201.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The session's id.
    pub session_id: SessionId,
    /// Where the visitor's browser goes.
    pub stream_url: String,
    /// The worker that serves it.
    #[serde(default)]
    pub worker_id: String,
    /// State at the time of the answer.
    #[serde(default = "Status::untold")]
    pub status: Status,
}

/// One session as every API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session's id.
    pub id: SessionId,
    /// Where it is in its life.
    #[serde(default = "Status::untold")]
    pub status: Status,
    /// What a starting session is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The body that renders; none when another version does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_ip: Option<IpAddr>,
    /// Experience name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experience: Option<String>,
    /// District.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub district: Option<String>,
    /// RFC 3339 time of admission.
    #[serde(default)]
    pub created_at: String,
    /// RFC 3339 time at which the stream could first be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<String>,
    /// Whether a visitor is there.
    #[serde(default)]
    pub connected: bool,
    /// Open viewers (signalling WebSockets and page event streams).
    #[serde(default)]
    pub viewers: u32,
    /// How often the last viewer went away.
    #[serde(default)]
    pub disconnect_count: u32,
    /// Time since admission, or until the end.
    #[serde(default)]
    pub duration_ms: u64,
    /// TCP port of the stream process on loopback.
    #[serde(default)]
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
    /// SHA-256 of the `Idempotency-Key` of its create, in heartbeats only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The page's last digest of its WebRTC statistics.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "reading::optional"
    )]
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

/// The reason of a create that failed before anything was done on the body: another worker may try.
pub(crate) const SPAWN_FAILED: &str = "spawn_failed";

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
}
