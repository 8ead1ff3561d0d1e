//! Who watches, and how long the session waits for someone who does not.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::protocol::{EndReason, Status};

use super::io::{SessionLimits, ViewerId};
use super::{RETURN_GRACE, later};

/// Most viewers counted: far more than one visitor's tabs; the proxy bounds connections anyway.
const VIEWERS_MAX: usize = 64;
/// How lately a viewer must have left to count as present when the stream process dies: its death
/// cuts the signalling WebSocket, and the two reports come in either order.
const JUST_LEFT: Duration = Duration::from_secs(2);

/// The viewers of one session.
#[derive(Debug)]
pub(super) struct ViewerTracker {
    viewers: HashSet<ViewerId>,
    was_connected: bool,
    disconnect_count: u32,
    left_at: Option<Instant>,
    /// Set while the session is ready and nobody watches.
    away_until: Option<Instant>,
    /// Whether the stream could ever be watched.
    ready: bool,
}

impl ViewerTracker {
    pub(super) fn new(was_connected: bool, disconnect_count: u32) -> Self {
        Self {
            viewers: HashSet::new(),
            was_connected,
            disconnect_count,
            left_at: None,
            away_until: None,
            ready: false,
        }
    }

    /// The stream can be watched for the first time.
    pub(super) fn become_ready(&mut self, now: Instant, limits: &SessionLimits) {
        if self.ready {
            return;
        }
        self.ready = true;
        if self.viewers.is_empty() {
            self.away_until = Some(later(now, limits.connect_timeout));
        } else {
            self.was_connected = true;
        }
    }

    /// The session comes from an earlier worker process: its page is about to reconnect.
    pub(super) fn adopt(&mut self, now: Instant, limits: &SessionLimits) {
        let window = if self.was_connected {
            limits.disconnect_grace.max(RETURN_GRACE)
        } else {
            limits.connect_timeout
        };
        self.away_until = Some(later(now, window));
    }

    /// The worker was away for `paused`. Who had left could not come back meanwhile, and has the
    /// whole window from now; who had yet to come has what was left of theirs.
    pub(super) fn wake(&mut self, now: Instant, paused: Duration, limits: &SessionLimits) {
        let Some(at) = self.away_until else { return };
        let window = if self.was_connected {
            limits.disconnect_grace.max(RETURN_GRACE)
        } else {
            RETURN_GRACE.min(limits.connect_timeout)
        };
        self.away_until = Some(later(at, paused).max(later(now, window)));
    }

    pub(super) fn join(&mut self, viewer: ViewerId) {
        if self.viewers.len() >= VIEWERS_MAX {
            return;
        }
        self.viewers.insert(viewer);
        self.away_until = None;
        self.was_connected |= self.ready;
    }

    pub(super) fn leave(&mut self, now: Instant, viewer: ViewerId, limits: &SessionLimits) {
        if !self.viewers.remove(&viewer) || !self.viewers.is_empty() || !self.ready {
            return;
        }
        self.disconnect_count = self.disconnect_count.saturating_add(1);
        self.left_at = Some(now);
        self.away_until = Some(later(now, limits.disconnect_grace));
    }

    /// Whether someone watches, or did a moment ago.
    pub(super) fn is_present(&self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < JUST_LEFT;
        !self.viewers.is_empty() || self.left_at.is_some_and(lately)
    }

    pub(super) fn away_until(&self) -> Option<Instant> {
        self.away_until
    }

    /// Why a session that waited in vain ends.
    pub(super) fn absence(&self) -> EndReason {
        if self.was_connected {
            EndReason::Disconnected
        } else {
            EndReason::NeverConnected
        }
    }

    pub(super) fn status(&self) -> Status {
        match (self.viewers.is_empty(), self.was_connected) {
            (false, _) => Status::Connected,
            (true, true) => Status::Lingering,
            (true, false) => Status::Ready,
        }
    }

    pub(super) fn viewers(&self) -> u32 {
        u32::try_from(self.viewers.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn was_connected(&self) -> bool {
        self.was_connected
    }

    pub(super) fn disconnect_count(&self) -> u32 {
        self.disconnect_count
    }
}
