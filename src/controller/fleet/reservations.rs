//! Seats: slots promised to creates that are under way, so that parallel ones never overfill.
//!
//! A seat ends with its create's outcome. Meanwhile its session may show up in a heartbeat; then
//! the seat is *covered* and no longer counted beside it. An outcome nobody knows (timeout,
//! dropped task) leaves the seat taken until heartbeats have shown the session or missed it twice.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::SessionView;

use super::worker::{Doubt, Worker};

/// A promised slot, as the worker's record keeps it.
#[derive(Debug)]
pub(super) struct PendingReservation {
    number: u64,
    body_ip: IpAddr,
    pub(super) is_covered: bool,
    is_abandoned: Arc<AtomicBool>,
    doubt: Option<Doubt>,
}

/// A slot promised on one worker. Hand it back with the create's outcome
/// ([`super::Fleet::created`], [`super::Fleet::refused`], [`super::Fleet::unsure`]); dropped, it
/// counts as unsure, because the worker may have done the work.
#[derive(Debug)]
#[must_use = "hand it back with the outcome of the create"]
pub struct Reservation {
    pub(super) worker_id: Arc<str>,
    pub(super) url: String,
    pub(super) number: u64,
    is_abandoned: Arc<AtomicBool>,
}

impl Reservation {
    /// The worker that promised.
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

impl Worker {
    pub(super) fn seat(&mut self, number: u64, body_ip: IpAddr) -> Reservation {
        let is_abandoned = Arc::new(AtomicBool::new(false));
        self.seats.push(PendingReservation {
            number,
            body_ip,
            is_covered: false,
            is_abandoned: Arc::clone(&is_abandoned),
            doubt: None,
        });
        Reservation {
            worker_id: Arc::clone(&self.id),
            url: self.last.url.clone(),
            number,
            is_abandoned,
        }
    }

    /// The create made no session.
    pub(super) fn unseat(&mut self, number: u64) {
        self.seats.retain(|seat| seat.number != number);
    }

    /// The create made a session, which heartbeats may have shown already.
    pub(super) fn take_seat(&mut self, number: u64, is_known: bool) {
        let Some(at) = self.seats.iter().position(|seat| seat.number == number) else {
            return;
        };
        let seat = self.seats.swap_remove(at);
        if !is_known || seat.is_covered {
            return;
        }
        // The session covered another create's seat for the same body: that one is open again.
        let mut covered = self.seats.iter_mut().filter(|other| other.is_covered);
        if let Some(other) = covered.find(|other| other.body_ip == seat.body_ip) {
            other.is_covered = false;
        }
    }

    /// A session new to us holds a slot: likely one that was promised for its body.
    pub(super) fn cover_a_seat(&mut self, view: &SessionView) {
        let mut open = self.seats.iter_mut().filter(|seat| !seat.is_covered);
        if let Some(seat) = open.find(|seat| Some(seat.body_ip) == view.body_ip) {
            seat.is_covered = true;
        }
    }

    /// Starts the doubt about abandoned seats.
    pub(super) fn doubt_seats(&mut self, now: Instant) {
        let beats = self.beats;
        for seat in &mut self.seats {
            if seat.is_abandoned.load(Ordering::Relaxed) {
                seat.doubt.get_or_insert(Doubt { since: now, beats });
            }
        }
    }

    /// Ends the doubt where heartbeats have answered. Only on a heartbeat: time alone tells
    /// nothing.
    pub(super) fn resolve_seats(&mut self, now: Instant, grace: Duration) {
        self.doubt_seats(now);
        let beats = self.beats;
        self.seats.retain(|seat| match seat.doubt {
            Some(doubt) => !seat.is_covered && !doubt.is_over(now, beats, grace),
            None => true,
        });
    }
}
