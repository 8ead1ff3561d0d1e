//! Changes of the fleet, each once.

use crate::ids::SessionId;
use crate::protocol::{EndReason, Status};

/// A change and the worker concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetEvent {
    /// The worker concerned, or the session's worker.
    pub worker_id: String,
    /// The worker's district, or empty.
    pub district: String,
    /// What changed.
    pub change: FleetChange,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetChange {
    /// A viewer connected.
    SessionConnected(SessionId),
    /// A session was admitted.
    SessionCreated(SessionId),
    /// A session ended; without a reason when its worker no longer knows of it.
    SessionEnded(SessionId, Option<EndReason>),
    /// A session that ran before this controller knew of it, or came back with its worker.
    SessionFound(SessionId),
    /// The last viewer disconnected.
    SessionLingering(SessionId),
    /// A session was given up, because its worker is silent for too long.
    SessionLost(SessionId),
    /// The stream can be opened, for the first time.
    SessionReady(SessionId),
    /// A session ends because another one takes its body over.
    SessionTakenOver(SessionId),
    /// The worker fell silent.
    WorkerDown,
    /// The worker takes no new sessions.
    WorkerDraining,
    /// The worker is heard for the first time, or again.
    WorkerUp,
    /// The worker takes new sessions again.
    WorkerUndrained,
}

impl FleetChange {
    /// The event's name in the stream.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SessionConnected(_) => "session_connected",
            Self::SessionCreated(_) => "session_created",
            Self::SessionEnded(..) => "session_ended",
            Self::SessionFound(_) => "session_found",
            Self::SessionLingering(_) => "session_lingering",
            Self::SessionLost(_) => "session_lost",
            Self::SessionReady(_) => "session_ready",
            Self::SessionTakenOver(_) => "session_taken_over",
            Self::WorkerDown => "worker_down",
            Self::WorkerDraining => "worker_draining",
            Self::WorkerUp => "worker_up",
            Self::WorkerUndrained => "worker_undrained",
        }
    }

    /// The session concerned, if one is.
    #[must_use]
    pub fn session_id(&self) -> Option<&SessionId> {
        match self {
            Self::SessionConnected(id)
            | Self::SessionCreated(id)
            | Self::SessionEnded(id, _)
            | Self::SessionFound(id)
            | Self::SessionLingering(id)
            | Self::SessionLost(id)
            | Self::SessionReady(id)
            | Self::SessionTakenOver(id) => Some(id),
            Self::WorkerDown | Self::WorkerDraining | Self::WorkerUp | Self::WorkerUndrained => {
                None
            }
        }
    }
}

/// Whether a stream in this state can be opened.
pub(super) fn is_open(status: Status) -> bool {
    matches!(
        status,
        Status::Ready | Status::Connected | Status::Lingering
    )
}
