//! Reservations and the outcomes of their creates.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::clock;
use crate::ids::SessionId;
use crate::protocol::{CreateSession, Created, EndReason, SessionView, Status};

use super::{Fleet, FleetEvent, Reservation};

impl Fleet {
    /// Reserves a slot. Only placement calls it, which has chosen the worker.
    pub(in crate::controller) fn reserve(
        &mut self,
        worker_id: &str,
        body_ip: IpAddr,
    ) -> Option<Reservation> {
        self.reservations += 1;
        let number = self.reservations;
        let now = self.observed;
        let mut worker = self.workers.get_mut(worker_id)?;
        worker.breaker.begin(now, number);
        let trial = worker.breaker.refusal(now);
        worker.ejected = trial.or_else(|| worker.ejected.take());
        Some(worker.reserve(number, body_ip))
    }

    /// The worker made the session. It is known at once, and forgotten only when a heartbeat that
    /// must have been composed later does not list it.
    pub fn created(
        &mut self,
        now: Instant,
        wall: SystemTime,
        reservation: Reservation,
        request: &CreateSession,
        answer: &Created,
    ) -> Vec<FleetEvent> {
        let mut events = Vec::new();
        let Some(mut worker) = self.workers.get_mut(&reservation.worker_id) else {
            return events;
        };
        if worker.breaker.succeeded() {
            worker.reset_ejection();
        }
        let is_known = worker.sessions.contains_key(&answer.session_id);
        worker.fulfil(reservation.number, is_known);
        if worker.has_ended(&answer.session_id) {
            return events;
        }
        let owner = self.owners.entry(answer.session_id.clone());
        let owner = owner.or_insert_with(|| Arc::clone(&worker.id));
        if *owner == worker.id {
            worker.announce(now, announced(wall, request, answer), &mut events);
        }
        events
    }

    /// The worker made no session: the slot is free again.
    pub fn refused(&mut self, reservation: Reservation) {
        if let Some(mut worker) = self.workers.get_mut(&reservation.worker_id) {
            worker.release(reservation.number);
            if worker.breaker.called_off(reservation.number) {
                worker.reset_ejection();
            }
        }
    }

    /// A create failed for the worker's own reasons. Whether it is passed over for a pause now.
    pub fn create_failed(&mut self, worker_id: &str, why: &str) -> bool {
        let now = self.observed;
        let worker = self.workers.get_mut(worker_id);
        worker.is_some_and(|mut worker| worker.breaker.failed(now, why))
    }

    /// Excludes a worker that takes no session for now (full, draining, not reachable) from placement
    /// until its next heartbeat.
    pub fn eject(&mut self, worker_id: &str, why: String) {
        if let Some(mut worker) = self.workers.get_mut(worker_id) {
            worker.ejected = Some(why);
        }
    }

    /// It is unknown whether the worker made the session (timeout, connection lost): the slot stays
    /// reserved until heartbeats show it. Dropping the reservation means the same.
    pub fn outcome_unknown(&mut self, now: Instant, reservation: Reservation) {
        let id = Arc::clone(&reservation.worker_id);
        drop(reservation);
        if let Some(mut worker) = self.workers.get_mut(&id) {
            worker.mark_abandoned(now);
        }
    }

    /// Its worker says that a session is ending. Older heartbeats do not change that.
    pub fn session_ending(&mut self, id: &SessionId, reason: Option<EndReason>) {
        let owner = self.owners.get(id);
        if let Some(mut worker) = owner.and_then(|owner| self.workers.get_mut(owner))
            && let Some(session) = worker.sessions.get_mut(id)
        {
            session.view.status = Status::Ending;
            session.view.end_reason = session.view.end_reason.or(reason);
            let was_announced = session.announced.take().is_some();
            worker.announced -= usize::from(was_announced);
        }
    }
}

/// A session's view until its worker's next heartbeat.
pub(in crate::controller) fn announced(
    wall: SystemTime,
    request: &CreateSession,
    answer: &Created,
) -> SessionView {
    SessionView {
        idempotency_key: None,
        id: answer.session_id.clone(),
        status: answer.status,
        phase: None,
        body_ip: Some(request.body_ip),
        experience: request.experience.clone(),
        district: request.district.clone(),
        created_at: clock::rfc3339(wall),
        ready_at: None,
        connected: false,
        viewers: 0,
        disconnect_count: 0,
        duration_ms: 0,
        port: 0,
        stream_path: None,
        end_reason: None,
        detail: None,
        rating: None,
        mic: false,
        stats: None,
    }
}
