//! The fleet: what the workers last reported, and what follows from their silence.
//!
//! Pure soft state. Input is heartbeats, time, drains and the outcomes of creates. A worker is the
//! only authority on its sessions; nothing here outlives the process, and one round of heartbeats
//! restores it in a new one. Heartbeats received by other controllers arrive as `relayed`.
//! Unchanged ones are not forwarded; while a peer reports the worker alive, they are assumed to
//! have come.

mod breaker;
mod capacity_index;
mod event;
mod outcomes;
mod relayed;
mod reservations;
mod roster;
mod views;
mod worker;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::ids::SessionId;
use crate::protocol::{DrainOrder, Heartbeat, HeartbeatReply, SessionView, Status};

pub(crate) use event::{FleetChange, FleetEvent};
pub(in crate::controller) use outcomes::announced;
pub(crate) use reservations::Reservation;
use roster::Roster;
pub(in crate::controller) use views::PlacementView;
pub(crate) use views::SessionRoute;
use worker::WorkerEntry;

/// Intervals of silence after which nothing is placed on a worker and another process may take its
/// name: two heartbeats may be lost.
const QUIET_INTERVALS: u32 = 3;
/// Intervals after which a heartbeat in flight has arrived.
const ROUND_INTERVALS: u32 = 2;
/// Intervals after which a controller that has just started has heard every live worker: while it
/// was away they backed off up to 2.2 intervals, and gave each try one.
const WARM_INTERVALS: u32 = 4;
/// How long a dead worker's sessions are kept beyond `workers.heartbeat_timeout`: a machine boots
/// in that time.
const SESSION_GRACE: Duration = Duration::from_secs(60);
/// Ended sessions whose keys are kept in memory before they are cleared out.
const KEYS_SLACK: usize = 1_024;
/// How long a silent worker, and a drain ordered for it, are remembered: a day's maintenance.
const WORKER_MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// Most workers: twice the largest fleet that is tested.
const WORKERS_MAX: usize = 20_000;

/// How often workers send heartbeats, and how long they may be silent.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatTiming {
    /// `controller.heartbeat_interval`.
    pub heartbeat_interval: Duration,
    /// `workers.heartbeat_timeout`.
    pub heartbeat_timeout: Duration,
}

/// What a heartbeat led to.
#[derive(Debug)]
pub struct HeartbeatOutcome {
    /// What to answer.
    pub reply: HeartbeatReply,
    /// What changed.
    pub events: Vec<FleetEvent>,
    /// False for a late or repeated heartbeat, which changed nothing.
    pub is_fresh: bool,
    /// The process that this one replaced.
    pub replaced: Option<String>,
}

/// Why a heartbeat or an order was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// Another process with this worker's name is alive (409 `duplicate_worker`).
    #[error(
        "worker {worker_id} is process {live}, process {refused} is another: stop one or give it its own worker.id"
    )]
    DuplicateWorker {
        /// The name.
        worker_id: String,
        /// The process that has it.
        live: String,
        /// The process that wants it.
        refused: String,
    },
    /// There is no room for another worker.
    #[error("no room for worker {worker_id}: the controller knows {WORKERS_MAX} workers already", WORKERS_MAX = WORKERS_MAX)]
    FleetFull {
        /// The worker.
        worker_id: String,
    },
    /// No such worker.
    #[error("worker {worker_id} is not known: see GET /api/v1/workers")]
    UnknownWorker {
        /// The name.
        worker_id: String,
    },
}

/// The registry of workers and of their sessions.
#[derive(Debug)]
pub struct Fleet {
    pace: HeartbeatTiming,
    warm_at: Instant,
    observed: Instant,
    workers: Roster,
    owners: HashMap<SessionId, Arc<str>>,
    /// Sessions by the hash of their create's `Idempotency-Key`, with some that have ended.
    keys: HashMap<String, SessionId>,
    reservations: u64,
    /// Whether nothing comes from the other controllers.
    is_store_away: bool,
}

impl Fleet {
    /// An empty fleet.
    #[must_use]
    pub fn new(now: Instant, pace: HeartbeatTiming) -> Self {
        Self {
            pace,
            warm_at: now + pace.heartbeat_interval * WARM_INTERVALS,
            observed: now,
            workers: Roster::default(),
            owners: HashMap::new(),
            keys: HashMap::new(),
            reservations: 0,
            is_store_away: false,
        }
    }

    /// Takes in a heartbeat.
    ///
    /// # Errors
    /// [`FleetError::DuplicateWorker`] while another process has the name: it was heard within
    /// three intervals, and the newcomer does not know it to be gone. [`FleetError::FleetFull`].
    pub fn heartbeat(
        &mut self,
        now: Instant,
        wall: SystemTime,
        mut beat: Heartbeat,
    ) -> Result<HeartbeatOutcome, FleetError> {
        self.observe(now);
        let id = beat.worker_id.clone();
        if !self.workers.contains(&id) {
            if self.workers.len() >= WORKERS_MAX {
                return Err(FleetError::FleetFull { worker_id: id });
            }
            self.workers.insert(WorkerEntry::new(now, wall, &beat));
        }
        let quiet = self.quiet();
        let sessions = std::mem::take(&mut beat.sessions).into_vec();
        let replaced = match self.workers.get(&id) {
            Some(worker) => worker.check_process(now, quiet, &beat)?,
            None => None,
        };
        let known = self.workers.get(&id).map(|w| w.last.sequence);
        let is_late = beat.sequence != 0 && known.is_some_and(|last| beat.sequence <= last);
        if is_late && replaced.is_none() {
            return Ok(self.answer(&id, wall, Vec::new(), false, None));
        }
        let events = self.apply(now, wall, beat, sessions);
        Ok(self.answer(&id, wall, events, true, replaced))
    }

    /// Applies a heartbeat that was accepted.
    fn apply(
        &mut self,
        now: Instant,
        wall: SystemTime,
        beat: Heartbeat,
        sessions: Vec<SessionView>,
    ) -> Vec<FleetEvent> {
        let grace = self.round();
        let mine = self.claimable(now, &beat.worker_id, &sessions);
        let mut events = Vec::new();
        let Some(mut worker) = self.workers.get_mut(&beat.worker_id) else {
            return events;
        };
        worker.accept(now, wall, beat);
        worker.push_state_changes(&mut events);
        let name = Arc::clone(&worker.id);
        for (mut view, mine) in sessions.into_iter().zip(mine) {
            let key = view.idempotency_key.take();
            // One that is ending has given its slot back, or soon will.
            if !matches!(view.status, Status::Ending | Status::Ended) {
                worker.count_slot();
            }
            if !mine || worker.has_ended(&view.id) {
                continue;
            }
            if view.status == Status::Ended {
                self.owners.remove(&view.id);
            } else if !worker.sessions.contains_key(&view.id) {
                self.owners.insert(view.id.clone(), Arc::clone(&name));
            }
            if let Some(key) = key {
                let known = self.keys.get(&key);
                if known.is_none_or(|id| !self.owners.contains_key(id)) {
                    self.keys.insert(key, view.id.clone());
                }
            }
            worker.update_session(view, &mut events);
        }
        for gone in worker.forget_absent(now, grace, &mut events) {
            self.owners.remove(&gone);
        }
        worker.resolve_abandoned(now, grace);
        events
    }

    /// For each session of a heartbeat, whether the worker may own it: no other worker does, or that
    /// one is silent (a renamed worker adopts its own sessions).
    fn claimable(&mut self, now: Instant, id: &str, sessions: &[SessionView]) -> Vec<bool> {
        let quiet = self.quiet();
        let mut mine = Vec::with_capacity(sessions.len());
        for view in sessions {
            let other = self.owners.get(&view.id).filter(|owner| &***owner != id);
            let Some(mut other) = other.and_then(|owner| self.workers.get_mut(owner)) else {
                mine.push(true);
                continue;
            };
            let is_free = other.silence(now) >= quiet;
            if is_free {
                other.hand_over(&view.id);
            }
            mine.push(is_free);
        }
        mine
    }

    fn answer(
        &self,
        id: &str,
        wall: SystemTime,
        events: Vec<FleetEvent>,
        is_fresh: bool,
        replaced: Option<String>,
    ) -> HeartbeatOutcome {
        HeartbeatOutcome {
            reply: self.reply(id, wall),
            events,
            is_fresh,
            replaced,
        }
    }

    /// What to answer to a heartbeat of this worker.
    #[must_use]
    pub fn reply(&self, worker_id: &str, wall: SystemTime) -> HeartbeatReply {
        let drain = self.workers.get(worker_id).and_then(|w| w.drain.clone());
        let interval = self.pace.heartbeat_interval.as_millis();
        let mut reply = HeartbeatReply {
            heartbeat_interval_ms: u64::try_from(interval).unwrap_or(u64::MAX),
            ..HeartbeatReply::default()
        };
        reply.set_drain(drain, wall);
        reply
    }

    /// Lets time pass; call at least once every heartbeat interval.
    pub fn tick(&mut self, now: Instant) -> Vec<FleetEvent> {
        self.observe(now);
        let timeout = self.pace.heartbeat_timeout;
        let mut events = Vec::new();
        let interval = self.pace.heartbeat_interval;
        self.workers.for_each(|worker| {
            worker.mark_abandoned(now);
            if !self.is_store_away {
                for gone in worker.accept_unchanged(now, interval) {
                    self.owners.remove(&gone);
                }
            }
            let silence = worker.silence(now);
            if silence > timeout && !worker.is_down {
                worker.is_down = true;
                events.push(worker.event(FleetChange::WorkerDown));
            }
            if silence > timeout.saturating_add(SESSION_GRACE) {
                for lost in worker.lose_sessions(&mut events) {
                    self.owners.remove(&lost);
                }
            }
        });
        self.workers
            .retain(|worker| worker.silence(now) <= WORKER_MEMORY);
        if self.keys.len() > 2 * self.owners.len() + KEYS_SLACK {
            self.keys.retain(|_, id| self.owners.contains_key(id));
        }
        events
    }

    /// The worker that has told of a session which was made for this `Idempotency-Key` (its hash).
    #[must_use]
    pub fn worker_of_key(&self, key: &str) -> Option<String> {
        let worker = self.owners.get(self.keys.get(key)?)?;
        Some(worker.to_string())
    }

    /// Whether nothing is expected of a worker any more: its sessions were given up, or it was never
    /// heard.
    #[must_use]
    pub fn has_given_up(&self, now: Instant, worker_id: &str) -> bool {
        let patience = self.pace.heartbeat_timeout.saturating_add(SESSION_GRACE);
        let worker = self.workers.get(worker_id);
        worker.is_none_or(|worker| worker.silence(now) > patience)
    }

    /// If the last call was long ago, the process was suspended or stopped and could hear no worker:
    /// that time does not count as silence.
    fn observe(&mut self, now: Instant) {
        let away = now.saturating_duration_since(self.observed);
        if away > self.round() {
            self.workers.for_each(|worker| worker.heard += away);
            self.warm_at = now + self.pace.heartbeat_interval * WARM_INTERVALS;
        }
        self.observed = self.observed.max(now);
    }

    fn quiet(&self) -> Duration {
        self.pace.heartbeat_interval * QUIET_INTERVALS
    }

    fn round(&self) -> Duration {
        self.pace.heartbeat_interval * ROUND_INTERVALS
    }

    /// Whether every live worker has had time to send a heartbeat, so that a session that is not known
    /// does not exist.
    #[must_use]
    pub fn is_warm(&self, now: Instant) -> bool {
        now >= self.warm_at
    }

    /// Orders or lifts a worker's drain; remembered across the worker's restarts.
    ///
    /// # Errors
    /// [`FleetError::UnknownWorker`].
    pub fn order_drain(
        &mut self,
        worker_id: &str,
        drain: Option<DrainOrder>,
    ) -> Result<Vec<FleetEvent>, FleetError> {
        let worker = self.workers.get_mut(worker_id);
        let mut worker = worker.ok_or_else(|| FleetError::UnknownWorker {
            worker_id: worker_id.to_owned(),
        })?;
        let mut events = Vec::new();
        worker.drain = drain;
        worker.push_drain_change(&mut events);
        Ok(events)
    }
}
