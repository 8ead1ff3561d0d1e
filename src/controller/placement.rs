//! Placement: chooses the worker for a session.
//!
//! Pure. Reserves a slot on the worker with the largest free share, then with the fewest sessions,
//! then on any of them (the fleet's `capacity_index` has that order). If the worker refuses, the
//! next one is tried; when none is left, the caller gets each worker's reason.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::protocol::CreateSession;

use super::fleet::{Fleet, PlacementView, Reservation};

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

/// Most workers asked for one request: a refusal is rare, as the fleet's view is seconds old.
const ATTEMPTS_MAX: usize = 16;
/// Most workers whose reasons an answer lists.
const REASONS_MAX: usize = 20;

/// The slug of a failed placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlaceReason {
    /// Every worker that is heard is draining.
    AllDraining,
    /// None has a free slot, or all refused.
    NoCapacity,
    /// None is known, or all are silent.
    NoWorkers,
}

impl NoPlaceReason {
    /// The stable slug of the error answer.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::AllDraining => "all_draining",
            Self::NoCapacity => "no_capacity",
            Self::NoWorkers => "no_workers",
        }
    }
}

/// No worker takes the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlace {
    /// Why, in short.
    pub reason: NoPlaceReason,
    /// Why, worker by worker; the first twenty.
    pub workers: Vec<(String, String)>,
    /// Workers beyond those listed.
    pub unlisted: usize,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.workers.iter();
        if let Some((worker, why)) = parts.next() {
            write!(f, "{worker}: {why}")?;
        } else {
            f.write_str("no worker has sent a heartbeat: start one with this controller's url")?;
        }
        for (worker, why) in parts {
            write!(f, "; {worker}: {why}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            n => write!(f, "; and {n} more"),
        }
    }
}

impl std::error::Error for NoPlace {}

/// One request's search for a worker.
#[derive(Debug)]
pub struct Placement {
    body_ip: IpAddr,
    district: Option<String>,
    random: SplitMix64,
    refusals: Vec<(Arc<str>, String)>,
}

impl Placement {
    /// A search for `request`; `seed` selects among equals.
    #[must_use]
    pub fn new(request: &CreateSession, seed: u64) -> Self {
        Self {
            body_ip: request.body_ip,
            district: request.district.clone().filter(|d| !d.is_empty()),
            random: SplitMix64(seed),
            refusals: Vec::new(),
        }
    }

    /// Reserves a slot on the best worker that has not refused yet.
    ///
    /// # Errors
    /// [`NoPlace`] when there is none.
    pub fn place(&mut self, fleet: &mut Fleet, now: Instant) -> Result<Reservation, NoPlace> {
        let best = if self.refusals.len() < ATTEMPTS_MAX {
            self.best(fleet, now)
        } else {
            None
        };
        let reserved = best.and_then(|id| fleet.reserve(&id, self.body_ip));
        reserved.ok_or_else(|| self.no_place(fleet, now))
    }

    /// The worker refused (full, draining, not reachable): no request tries it until its next
    /// heartbeat, this one not even then.
    pub fn refused(&mut self, fleet: &mut Fleet, reservation: Reservation, why: String) {
        let worker: Arc<str> = Arc::from(reservation.worker_id());
        fleet.refused(reservation);
        fleet.eject(&worker, why.clone());
        self.refusals.push((worker, why));
    }

    fn best(&mut self, fleet: &mut Fleet, now: Instant) -> Option<Arc<str>> {
        let refused: Vec<&str> = self.refusals.iter().map(|(id, _)| &**id).collect();
        let random = &mut self.random;
        let roll = &mut |sides| random.roll(sides);
        fleet.choose(now, self.district.as_deref(), &refused, roll)
    }

    fn no_place(&self, fleet: &mut Fleet, now: Instant) -> NoPlace {
        let mut workers = Vec::new();
        let (mut heard, mut open) = (0_usize, 0_usize);
        let all = fleet.known();
        for candidate in fleet.placement_views(now) {
            if workers.len() >= REASONS_MAX && open > 0 {
                // The rest would change neither the list nor the reason.
                break;
            }
            heard += usize::from(!candidate.is_quiet);
            open += usize::from(!candidate.is_quiet && !candidate.is_draining);
            if workers.len() >= REASONS_MAX {
                continue;
            }
            let own = self.refusals.iter().find(|(id, _)| id == candidate.id);
            let why = own.map(|(_, why)| why.clone());
            let why = why.or_else(|| obstacle(&candidate));
            let why = why.unwrap_or_else(|| "was not asked any more".to_owned());
            workers.push((candidate.id.to_string(), why));
        }
        let unlisted = all - workers.len();
        let reason = match (heard, open) {
            (0, _) => NoPlaceReason::NoWorkers,
            (_, 0) => NoPlaceReason::AllDraining,
            _ => NoPlaceReason::NoCapacity,
        };
        NoPlace {
            reason,
            workers,
            unlisted,
        }
    }
}

/// Why nothing is placed on a worker.
fn obstacle(candidate: &PlacementView<'_>) -> Option<String> {
    if candidate.is_quiet {
        let silence = candidate.silence.as_secs();
        return Some(format!("silent for {silence}s"));
    }
    if candidate.is_draining {
        return Some("draining".to_owned());
    }
    if let Some(why) = candidate.ejected {
        return Some(why.to_owned());
    }
    let (taken, max) = (candidate.taken, candidate.max);
    (taken >= max).then(|| format!("{taken} of {max} slots taken"))
}

/// The SplitMix64 generator.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
