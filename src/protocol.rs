//! The JSON between controller, worker, page and operators (`POST /api/v1/...`).
//!
//! Requests of users are read strictly ([`CreateSession`] refuses unknown fields); what our own
//! processes write for each other is read by the rule of [`reading`], so that a fleet can be updated
//! machine by machine.

mod drain;
mod fleet;
mod health;
pub(crate) mod reading;
mod session;
mod state;
mod word;

use serde::{Deserialize, Serialize};

pub(crate) use drain::DrainOrder;
pub(crate) use fleet::WorkerStatus;
pub use fleet::{Heartbeat, HeartbeatReply, WorkerSessions, WorkerView};
pub use health::Health;
pub(crate) use health::Standing;
pub(crate) use session::SPAWN_FAILED;
pub use session::{CreateSession, Created, PageStats, SessionView};
pub(crate) use session::{Owner, Yield};
pub use state::{EndReason, Phase, Status};

/// The `service` of every health answer.
pub(crate) const SERVICE: &str = "hydraneckwebrtc";

/// This build's version, without a leading `v`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Body of every error answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, for people.
    #[serde(default)]
    pub error: String,
    /// The HTTP status again.
    #[serde(default)]
    pub code: u16,
    /// More of it, where there is more: a sentence, or a reason for each worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable slug a client may switch on.
    pub reason: String,
    /// Finds the log lines of this request.
    #[serde(default)]
    pub request_id: String,
    /// Who has the body, when the reason is `body_busy`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "reading::optional"
    )]
    pub owner: Option<Owner>,
}
