//! How long a streamer lives: a state machine over the peer's state, without IO.
//!
//! A streamer outlives its signalling socket and even its parent, as the real one does, so the
//! peer alone decides. Unlike the real one, a streamer whose page never connects also ends.

use std::time::{Duration, Instant};

/// How long a page may take from the streamer's start to a connected peer. The real streamer
/// waits for ever; a minute is longer than the 41 s that a browser spends on a dead TURN server.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(60);

/// How long a disconnected peer may take to come back. ICE has already waited its
/// `ice_disconnected_timeout` before it says so.
pub(super) const RETURN_WAIT: Duration = Duration::from_secs(5);

/// What happened to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerChange {
    /// Media can flow.
    Connected,
    /// Nothing was heard for a while.
    Disconnected,
    /// The peer left or cannot be reached.
    Gone,
}

/// Why a streamer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No peer connected in time.
    NeverConnected,
    /// The peer is gone.
    PeerGone,
    /// The page or the server asked for it.
    Stopped,
}

/// A streamer's life.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Waiting { until: Instant },
    Live,
    Away { until: Instant },
    Over(End),
}

impl Life {
    /// A life that starts at `now`.
    pub(super) fn new(now: Instant) -> Self {
        let until = now + CONNECT_WAIT;
        Self {
            phase: Phase::Waiting { until },
        }
    }

    /// Takes a change of the peer's state into account.
    pub(super) fn peer(&mut self, now: Instant, change: PeerChange) {
        self.phase = match (self.phase, change) {
            (over @ Phase::Over(_), _) => over,
            (_, PeerChange::Connected) => Phase::Live,
            (_, PeerChange::Gone) => Phase::Over(End::PeerGone),
            (Phase::Live, PeerChange::Disconnected) => Phase::Away {
                until: now + RETURN_WAIT,
            },
            (same, PeerChange::Disconnected) => same,
        };
    }

    /// Ends the life by wish.
    pub(super) fn stop(&mut self) {
        if !matches!(self.phase, Phase::Over(_)) {
            self.phase = Phase::Over(End::Stopped);
        }
    }

    /// Whether and why the life is over at `now`.
    pub(super) fn end(&self, now: Instant) -> Option<End> {
        match self.phase {
            Phase::Waiting { until } if now >= until => Some(End::NeverConnected),
            Phase::Away { until } if now >= until => Some(End::PeerGone),
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// When [`Life::end`] must be asked again though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } | Phase::Away { until } => Some(until),
            Phase::Live | Phase::Over(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_page_that_never_connects_ends_after_a_minute() {
        let start = clock::now();
        let life = Life::new(start);
        assert_eq!(life.end(start + CONNECT_WAIT - SECOND), None);
        let end = life.end(life.deadline().unwrap());
        assert_eq!(end, Some(End::NeverConnected));
    }

    #[test]
    fn a_peer_that_comes_back_in_time_lives_on() {
        let start = clock::now();
        let mut life = Life::new(start);
        life.peer(start, PeerChange::Connected);
        assert_eq!(life.deadline(), None);
        life.peer(start + SECOND, PeerChange::Disconnected);
        assert_eq!(life.end(start + 2 * SECOND), None);
        life.peer(start + 3 * SECOND, PeerChange::Connected);
        assert_eq!(life.end(start + 3_600 * SECOND), None);
    }

    #[test]
    fn a_peer_that_stays_away_ends_after_the_grace() {
        let start = clock::now();
        let mut life = Life::new(start);
        life.peer(start, PeerChange::Connected);
        life.peer(start, PeerChange::Disconnected);
        // A repeated report must not move the deadline.
        life.peer(start + 4 * SECOND, PeerChange::Disconnected);
        assert_eq!(life.end(start + RETURN_WAIT), Some(End::PeerGone));
    }

    #[test]
    fn the_first_reason_to_end_is_the_one_that_counts() {
        let start = clock::now();
        let mut life = Life::new(start);
        life.stop();
        life.peer(start, PeerChange::Gone);
        life.peer(start, PeerChange::Connected);
        assert_eq!(life.end(start), Some(End::Stopped));
        let mut life = Life::new(start);
        life.peer(start, PeerChange::Gone);
        life.stop();
        assert_eq!(life.end(start), Some(End::PeerGone));
    }
}
