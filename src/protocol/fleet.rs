//! Heartbeats of workers, and the controller's view of them.

use serde::{Deserialize, Serialize};

use super::SessionView;
use super::reading::Each;
use super::word::OtherWord;

/// `POST /api/v1/workers/heartbeat`: a worker's whole state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Stable name of the worker; one live process may carry it.
    pub worker_id: String,
    /// Random id of the worker process's life.
    pub process_id: String,
    /// Base URL at which the controller reaches the worker. Without it the last one stays valid.
    #[serde(default)]
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
    #[serde(default)]
    pub max_sessions: usize,
    /// Whether the worker has a WireGuard interface.
    #[serde(default)]
    pub wireguard: bool,
    /// Whether the worker refuses new sessions by itself, not because a controller ordered it.
    #[serde(default)]
    pub draining: bool,
    /// Why the worker takes no sessions for now, when that is no drain: a full disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
    /// Counts up from 1 with every heartbeat of one process, so that a late one is recognised; 0:
    /// not counted.
    #[serde(default)]
    pub sequence: u64,
    /// Processes that ran on the same state directory before and are known to be gone (its lock is
    /// ours), newest first: a restarted worker takes its predecessor's place at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// Whether the worker drains because a controller ordered it, so that a controller that has
    /// just started knows the order.
    #[serde(default)]
    pub drain_ordered: bool,
    /// The ordered drain's deadline, as the controller gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<String>,
    /// Every session that holds a slot, and those that ended since the last acknowledged beat.
    #[serde(default)]
    pub sessions: Each<SessionView>,
}

/// The controller's answer to a [`Heartbeat`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// When the next heartbeat is wanted; 0: no wish.
    #[serde(default)]
    pub heartbeat_interval_ms: u64,
    /// Whether the controller wants the worker drained; without it, what it wanted before holds.
    #[serde(default)]
    pub drain: Option<bool>,
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
    #[serde(default)]
    pub url: String,
    /// Base URL for browsers, when they need not go through the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// District, or empty.
    #[serde(default)]
    pub district: String,
    /// Version.
    #[serde(default)]
    pub version: String,
    /// Random id of the process's life.
    #[serde(default)]
    pub process_id: String,
    /// Whether and how it takes sessions.
    #[serde(default = "WorkerStatus::untold")]
    pub status: WorkerStatus,
    /// Sessions that hold a slot.
    #[serde(default)]
    pub active_sessions: usize,
    /// Slots.
    #[serde(default)]
    pub max_sessions: usize,
    /// Whether it has a WireGuard interface.
    #[serde(default)]
    pub wireguard: bool,
    /// RFC 3339 time of its last heartbeat.
    #[serde(default)]
    pub last_heartbeat: String,
    /// RFC 3339 time at which the remaining sessions of a drain that was ordered end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<String>,
    /// Why it takes no sessions for now, when that is no drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
    /// `active_sessions / max_sessions`, 0 to 1.
    #[serde(default)]
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
    /// What another version says.
    #[serde(untagged)]
    Other(OtherWord),
}

impl WorkerStatus {
    /// The status of a worker that came without one.
    fn untold() -> Self {
        OtherWord::new("unknown").map_or(Self::Unhealthy, Self::Other)
    }
}

/// One element of the controller's `GET /api/v1/sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSessions {
    /// The worker.
    pub worker_id: String,
    /// Its sessions.
    #[serde(default)]
    pub sessions: Each<SessionView>,
}
