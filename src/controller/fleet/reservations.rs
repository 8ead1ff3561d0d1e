//! Slots reserved for creates in progress, so that parallel ones never overfill a worker.
//!
//! A reservation ends with its create's outcome. If a heartbeat lists the session before that, the
//! reservation is *matched* and the slot is not counted twice. When the outcome is unknown
//! (timeout, dropped task), the slot stays reserved until heartbeats have listed the session, or
//! not listed it twice.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::SessionView;

use super::worker::{Unconfirmed, WorkerEntry};

/// A reserved slot, in the fleet's entry of the worker.
#[derive(Debug)]
pub(super) struct PendingReservation {
    number: u64,
    body_ip: IpAddr,
    /// Whether a heartbeat listed a session that is likely this create's.
    pub(super) is_matched: bool,
    is_abandoned: Arc<AtomicBool>,
    unconfirmed: Option<Unconfirmed>,
}

/// A slot reserved on one worker. Return it with the create's outcome
/// ([`super::Fleet::created`], [`super::Fleet::refused`], [`super::Fleet::outcome_unknown`]); dropped, its
/// outcome counts as unknown, because the worker may have made the session.
#[derive(Debug)]
#[must_use = "return it with the outcome of the create"]
pub struct Reservation {
    pub(super) worker_id: Arc<str>,
    pub(super) url: String,
    pub(super) number: u64,
    is_abandoned: Arc<AtomicBool>,
}

impl Reservation {
    /// The worker.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// Base URL at which to reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }
}

impl WorkerEntry {
    pub(super) fn reserve(&mut self, number: u64, body_ip: IpAddr) -> Reservation {
        let is_abandoned = Arc::new(AtomicBool::new(false));
        self.reservations.push(PendingReservation {
            number,
            body_ip,
            is_matched: false,
            is_abandoned: Arc::clone(&is_abandoned),
            unconfirmed: None,
        });
        Reservation {
            worker_id: Arc::clone(&self.id),
            url: self.last.url.clone(),
            number,
            is_abandoned,
        }
    }

    /// Frees the slot: the create made no session.
    pub(super) fn release(&mut self, number: u64) {
        self.reservations
            .retain(|reservation| reservation.number != number);
    }

    /// Ends a reservation whose create made a session; `is_known`: a heartbeat has listed it already.
    pub(super) fn fulfil(&mut self, number: u64, is_known: bool) {
        let Some(at) = self
            .reservations
            .iter()
            .position(|reservation| reservation.number == number)
        else {
            return;
        };
        let reservation = self.reservations.swap_remove(at);
        if !is_known || reservation.is_matched {
            return;
        }
        // The heartbeat had matched this session to another reservation for the same body.
        let mut matched = self
            .reservations
            .iter_mut()
            .filter(|other| other.is_matched);
        if let Some(other) = matched.find(|other| other.body_ip == reservation.body_ip) {
            other.is_matched = false;
        }
    }

    /// Matches a session that a heartbeat lists for the first time to a reservation for its body.
    pub(super) fn match_reservation(&mut self, view: &SessionView) {
        let mut open = self
            .reservations
            .iter_mut()
            .filter(|reservation| !reservation.is_matched);
        if let Some(reservation) =
            open.find(|reservation| Some(reservation.body_ip) == view.body_ip)
        {
            reservation.is_matched = true;
        }
    }

    /// Starts waiting for the confirmation of abandoned reservations.
    pub(super) fn mark_abandoned(&mut self, now: Instant) {
        let beats = self.beats;
        for reservation in &mut self.reservations {
            if reservation.is_abandoned.load(Ordering::Relaxed) {
                reservation
                    .unconfirmed
                    .get_or_insert(Unconfirmed { since: now, beats });
            }
        }
    }

    /// Ends abandoned reservations that heartbeats have matched, or not confirmed in time. Called on
    /// heartbeats only: without one, time alone proves nothing.
    pub(super) fn resolve_abandoned(&mut self, now: Instant, grace: Duration) {
        self.mark_abandoned(now);
        let beats = self.beats;
        self.reservations
            .retain(|reservation| match reservation.unconfirmed {
                Some(unconfirmed) => {
                    !reservation.is_matched && !unconfirmed.has_expired(now, beats, grace)
                }
                None => true,
            });
    }
}
