//! Heartbeats that other controllers of the fleet received.
//!
//! They forward a heartbeat only if it differs from the one before. While a peer reports the worker
//! alive, unchanged heartbeats are assumed to have come.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use crate::ids::SessionId;
use crate::protocol::{Heartbeat, SessionView, Status};

use super::worker::WorkerEntry;
use super::{Fleet, FleetEvent, WORKERS_MAX};

/// How long an announced session, or an unknown outcome of a create, waits for confirmation by a
/// worker that a peer hears: its heartbeats come through the store, which may be slow.
const PEER_CONFIRMATION: Duration = Duration::from_secs(10);

impl Fleet {
    /// Takes in a heartbeat that another controller accepted; so none is refused here. `is_heard`:
    /// that controller still hears the worker.
    pub fn relayed(
        &mut self,
        now: Instant,
        wall: SystemTime,
        mut beat: Heartbeat,
        is_heard: bool,
    ) -> Vec<FleetEvent> {
        self.observe(now);
        let quiet = self.quiet();
        if !self.workers.contains(&beat.worker_id) {
            if self.workers.len() >= WORKERS_MAX {
                return Vec::new();
            }
            self.workers.insert(WorkerEntry::new(now, wall, &beat));
        }
        let id = beat.worker_id.clone();
        let known = self.workers.get(&id).map(|w| &w.last);
        let is_same_process = known.is_some_and(|last| last.process_id == beat.process_id);
        let sequence = known.map_or(0, |last| last.sequence);
        if is_same_process && beat.sequence < sequence {
            // This controller knows a later one.
            return Vec::new();
        }
        let mut events = Vec::new();
        if !is_same_process || beat.sequence > sequence {
            let sessions = std::mem::take(&mut beat.sessions).into_vec();
            events = self.apply(now, wall, beat, sessions);
        }
        if let Some(mut worker) = self.workers.get_mut(&id) {
            worker.heard_by_peer = is_heard;
            worker.heard = if is_heard {
                now
            } else {
                now.checked_sub(quiet).unwrap_or(now)
            };
        }
        events
    }

    /// No controller hears the worker any longer; its silence counts from now.
    pub fn unheard(&mut self, now: Instant, worker_id: &str) {
        if let Some(mut worker) = self.workers.get_mut(worker_id)
            && worker.heard_by_peer
        {
            worker.heard_by_peer = false;
            worker.heard = now;
        }
    }

    /// Takes in a session that another controller created; known until a heartbeat of its worker
    /// should have listed it and did not.
    pub fn announced(
        &mut self,
        now: Instant,
        worker_id: &str,
        view: SessionView,
    ) -> Vec<FleetEvent> {
        let mut events = Vec::new();
        let is_over = view.status == Status::Ended;
        let Some(mut worker) = self.workers.get_mut(worker_id).filter(|_| !is_over) else {
            return events;
        };
        if !worker.has_ended(&view.id) && !self.owners.contains_key(&view.id) {
            self.owners.insert(view.id.clone(), worker.id.clone());
            worker.announce(now, view, &mut events);
        }
        events
    }

    /// Says whether the store is away. While it is, workers that peers hear stay as they are;
    /// afterwards their sessions have all of the time again to be confirmed.
    pub fn set_store_away(&mut self, now: Instant, is_store_away: bool) {
        if std::mem::replace(&mut self.is_store_away, is_store_away) && !is_store_away {
            self.workers.for_each(|worker| {
                if worker.heard_by_peer {
                    worker.restart_confirmation(now);
                }
            });
        }
    }

    /// Workers that a peer hears were last heard now.
    pub fn refresh_heard_by_peers(&mut self, wall: SystemTime) {
        self.workers.for_each(|worker| {
            if worker.heard_by_peer {
                worker.heard_wall = wall;
            }
        });
    }

    /// Workers that have been silent for so long that nothing is placed on them.
    pub fn silent_workers(&self, now: Instant) -> HashSet<String> {
        let quiet = self.quiet();
        let silent = self.workers.values().filter(|w| w.silence(now) >= quiet);
        silent.map(|w| w.id.to_string()).collect()
    }
}

impl WorkerEntry {
    /// Assumes an unchanged heartbeat of a worker that a peer hears, at most one an interval. Returns
    /// the ids of sessions to forget. Emits no SessionEnded for them: only the controller in direct
    /// contact with the worker does.
    pub(super) fn accept_unchanged(&mut self, now: Instant, interval: Duration) -> Vec<SessionId> {
        if !self.heard_by_peer || now.saturating_duration_since(self.heard) < interval {
            return Vec::new();
        }
        self.heard = now;
        self.beats += 1;
        self.reset_ejection();
        for session in self.sessions.values_mut() {
            if session.announced.is_none() {
                session.seen = self.beats;
            }
        }
        let gone = self.forget_absent(now, PEER_CONFIRMATION, &mut Vec::new());
        self.allow_reappearance(&gone);
        self.resolve_abandoned(now, PEER_CONFIRMATION);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeartbeatTiming;
    use super::*;
    use crate::clock;
    use crate::protocol::WorkerStatus;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn fleet(now: Instant) -> Fleet {
        Fleet::new(
            now,
            HeartbeatTiming {
                heartbeat_interval: INTERVAL,
                heartbeat_timeout: INTERVAL * 12,
            },
        )
    }

    fn beat(sequence: u64) -> Heartbeat {
        serde_json::from_value(serde_json::json!({
            "worker_id": "w", "process_id": "p", "url": "http://w", "max_sessions": 15,
            "sequence": sequence,
        }))
        .unwrap()
    }

    fn session() -> SessionView {
        serde_json::from_value(serde_json::json!({
            "id": SessionId::random().unwrap(), "status": "ready", "body_ip": "10.0.0.1",
            "created_at": "", "connected": false, "viewers": 0, "disconnect_count": 0,
            "duration_ms": 5, "port": 8080,
        }))
        .unwrap()
    }

    /// Ticks as the controller does.
    fn pass(fleet: &mut Fleet, now: &mut Instant, span: Duration) {
        let end = *now + span;
        while *now < end {
            *now += INTERVAL / 2;
            fleet.tick(*now);
        }
    }

    fn status(fleet: &Fleet, now: Instant) -> WorkerStatus {
        fleet.worker(now, "w").unwrap().status
    }

    #[test]
    fn a_worker_that_a_peer_hears_is_healthy_and_its_silence_counts_from_the_peers_end() {
        let (mut now, wall) = (clock::now(), clock::wall());
        let mut fleet = fleet(now);
        fleet.relayed(now, wall, beat(1), true);
        pass(&mut fleet, &mut now, INTERVAL * 100);
        assert_eq!(status(&fleet, now), WorkerStatus::Healthy);
        fleet.unheard(now, "w");
        pass(&mut fleet, &mut now, INTERVAL * 2);
        assert!(fleet.silent_workers(now).is_empty());
        pass(&mut fleet, &mut now, INTERVAL * 2);
        assert!(fleet.silent_workers(now).contains("w"));
        pass(&mut fleet, &mut now, INTERVAL * 10);
        assert_eq!(status(&fleet, now), WorkerStatus::Unhealthy);
        // One that its controller no longer hears gets nothing at once.
        fleet.relayed(now, wall, beat(2), false);
        assert!(fleet.silent_workers(now).contains("w"));
    }

    #[test]
    fn an_older_word_from_elsewhere_changes_nothing() {
        let (now, wall) = (clock::now(), clock::wall());
        let mut fleet = fleet(now);
        let mut direct = beat(9);
        direct.sessions.push(session());
        fleet.heartbeat(now, wall, direct).unwrap();
        assert!(fleet.relayed(now, wall, beat(8), false).is_empty());
        assert_eq!(fleet.totals(now).active_sessions, 1);
        assert!(fleet.silent_workers(now).is_empty());
    }

    #[test]
    fn another_process_with_its_name_is_refused_while_others_hear_it() {
        let (mut now, wall) = (clock::now(), clock::wall());
        let mut fleet = fleet(now);
        fleet.relayed(now, wall, beat(1), true);
        pass(&mut fleet, &mut now, INTERVAL * 100);
        let mut other = beat(1);
        other.process_id = "q".to_owned();
        assert!(fleet.heartbeat(now, wall, other.clone()).is_err());
        // What was judged elsewhere is not judged again.
        fleet.relayed(now, wall, other, true);
        assert_eq!(fleet.worker(now, "w").unwrap().process_id, "q");
    }

    #[test]
    fn a_session_made_elsewhere_is_known_at_once_and_not_for_ever_without_its_workers_word() {
        let (mut now, wall) = (clock::now(), clock::wall());
        let mut fleet = fleet(now);
        fleet.relayed(now, wall, beat(1), true);
        let (kept, ghost) = (session(), session());
        for view in [&kept, &ghost] {
            fleet.announced(now, "w", view.clone());
            assert!(fleet.session_owner(&view.id).is_some());
        }
        let mut told = beat(2);
        told.sessions.push(kept.clone());
        fleet.relayed(now, wall, told, true);
        // Without the store nothing is known of it, and so nothing follows.
        fleet.set_store_away(now, true);
        pass(&mut fleet, &mut now, PEER_CONFIRMATION * 10);
        fleet.set_store_away(now, false);
        fleet.tick(now);
        assert!(fleet.session_owner(&ghost.id).is_some());
        pass(&mut fleet, &mut now, PEER_CONFIRMATION + INTERVAL * 3);
        assert!(fleet.session_owner(&kept.id).is_some());
        assert!(fleet.session_owner(&ghost.id).is_none());
        assert_eq!(fleet.totals(now).active_sessions, 1);
        // Its worker's word comes late, and counts.
        let mut late = beat(3);
        late.sessions.extend([kept, ghost.clone()]);
        fleet.relayed(now, wall, late, true);
        assert!(fleet.session_owner(&ghost.id).is_some());
    }
}
