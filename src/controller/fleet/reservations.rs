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

impl PendingReservation {
    fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }
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
        self.reservations.retain(|r| r.number != number);
    }

    /// Ends a reservation whose create made a session; `is_known`: a heartbeat has listed it already.
    pub(super) fn fulfil(&mut self, number: u64, is_known: bool) {
        let Some(at) = self.reservations.iter().position(|r| r.number == number) else {
            return;
        };
        let reservation = self.reservations.swap_remove(at);
        if is_known && !reservation.is_matched {
            self.unmatch(reservation.body_ip);
        }
    }

    /// Matches a session that a heartbeat lists for the first time to a reservation for its body.
    /// Abandoned ones come last, as a match ends them: they may still stand for another session. Of
    /// these the oldest comes first, as the others have more time left to be confirmed.
    pub(super) fn match_reservation(&mut self, view: &SessionView) {
        let open = self.reservations.iter_mut();
        let open = open.filter(|r| !r.is_matched && Some(r.body_ip) == view.body_ip);
        let since = |r: &PendingReservation| r.unconfirmed.map(|unconfirmed| unconfirmed.since);
        if let Some(first) = open.min_by_key(|r| (r.is_abandoned(), since(r))) {
            first.is_matched = true;
        }
    }

    /// A match turned out to be that of another reservation, which has ended: the slot counts again.
    fn unmatch(&mut self, body_ip: IpAddr) {
        let mut matched = self.reservations.iter_mut().filter(|r| r.is_matched);
        if let Some(other) = matched.find(|r| r.body_ip == body_ip) {
            other.is_matched = false;
        }
    }

    /// Starts waiting for the confirmation of abandoned reservations.
    pub(super) fn mark_abandoned(&mut self, now: Instant) {
        let beats = self.beats;
        for r in self.reservations.iter_mut().filter(|r| r.is_abandoned()) {
            let since = Unconfirmed { since: now, beats };
            r.unconfirmed.get_or_insert(since);
        }
    }

    /// Ends abandoned reservations that heartbeats have matched, or not confirmed in time. Called on
    /// heartbeats only: without one, time alone proves nothing.
    pub(super) fn resolve_abandoned(&mut self, now: Instant, grace: Duration) {
        self.mark_abandoned(now);
        let beats = self.beats;
        let mut expired = Vec::new();
        self.reservations.retain(|r| {
            let is_over = |u: Unconfirmed| u.has_expired(now, beats, grace);
            match r.unconfirmed {
                Some(_) if r.is_matched => false,
                Some(unconfirmed) if is_over(unconfirmed) => {
                    expired.push(r.body_ip);
                    false
                }
                _ => true,
            }
        });
        // Its session may have been matched to a create in progress: both slots are needed then.
        expired
            .into_iter()
            .for_each(|body_ip| self.unmatch(body_ip));
    }
}
