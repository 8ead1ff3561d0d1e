//! Read access to the fleet: for operators, health, placement and the relay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::SessionId;
use crate::protocol::{SessionView, WorkerSessions, WorkerStatus, WorkerView};

use super::Fleet;
use super::worker::WorkerEntry;

/// Where to relay a session's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRoute {
    /// The worker that owns it.
    pub worker_id: String,
    /// Base URL at which the controller reaches the worker.
    pub url: String,
}

/// Sums over the workers that are heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Workers that are heard, draining ones among them.
    pub healthy: usize,
    /// Sessions that hold a slot.
    pub active_sessions: usize,
    /// Slots.
    pub max_sessions: usize,
    /// Whether there is a worker and each has its WireGuard interface.
    pub has_wireguard: bool,
}

/// A worker as placement sees it.
#[derive(Debug)]
pub(in crate::controller) struct PlacementView<'a> {
    pub(in crate::controller) id: &'a Arc<str>,
    /// Slots held or reserved.
    pub(in crate::controller) taken: usize,
    pub(in crate::controller) max: usize,
    pub(in crate::controller) silence: Duration,
    /// Silent for so long that nothing is placed there.
    pub(in crate::controller) is_quiet: bool,
    pub(in crate::controller) is_draining: bool,
    pub(in crate::controller) ejected: Option<&'a str>,
}

impl Fleet {
    /// Every worker, by name.
    #[must_use]
    pub fn workers(&self, now: Instant) -> Vec<WorkerView> {
        let timeout = self.pace.heartbeat_timeout;
        let all = self.workers.values();
        all.map(|worker| worker.view(now, timeout)).collect()
    }

    /// One worker.
    #[must_use]
    pub fn worker(&self, now: Instant, worker_id: &str) -> Option<WorkerView> {
        let worker = self.workers.get(worker_id)?;
        Some(worker.view(now, self.pace.heartbeat_timeout))
    }

    /// Every session, by worker and age.
    #[must_use]
    pub fn sessions(&self) -> Vec<WorkerSessions> {
        let list = |worker: &WorkerEntry| {
            let views = worker.sessions.values().map(|s| s.view.clone());
            let mut sessions: Vec<SessionView> = views.collect();
            sessions.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
            WorkerSessions {
                worker_id: worker.id.to_string(),
                sessions: sessions.into(),
            }
        };
        self.workers.values().map(list).collect()
    }

    /// Every session beside its worker's name, in no order.
    pub fn each_session(&self) -> impl Iterator<Item = (&str, &SessionView)> {
        let workers = self.workers.values();
        workers.flat_map(|w| w.sessions.values().map(|session| (&*w.id, &session.view)))
    }

    /// One session and its worker's name.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<(&str, &SessionView)> {
        let worker = self.workers.get(self.owners.get(id)?)?;
        Some((&worker.id, &worker.sessions.get(id)?.view))
    }

    /// Where to relay a session's requests.
    #[must_use]
    pub fn session_owner(&self, id: &SessionId) -> Option<SessionRoute> {
        let worker = self.workers.get(self.owners.get(id)?)?;
        Some(SessionRoute {
            worker_id: worker.id.to_string(),
            url: worker.last.url.clone(),
        })
    }

    /// How many workers are known.
    pub(in crate::controller) fn known(&self) -> usize {
        self.workers.len()
    }

    /// Sums for health.
    #[must_use]
    pub fn totals(&self, now: Instant) -> Totals {
        let mut sums = Totals {
            has_wireguard: true,
            ..Totals::default()
        };
        for worker in self.workers.values() {
            if worker.status(now, self.pace.heartbeat_timeout) == WorkerStatus::Unhealthy {
                continue;
            }
            sums.healthy += 1;
            sums.active_sessions += worker.active();
            // The number is the worker's: it may be anything.
            sums.max_sessions = sums.max_sessions.saturating_add(worker.last.max_sessions);
            sums.has_wireguard &= worker.last.wireguard;
        }
        sums.has_wireguard &= sums.healthy > 0;
        sums
    }

    /// The worker to place a session on: of those that are heard, have a free slot and are not
    /// excluded, one of `district` if there is any, then one with the largest free share, then one
    /// with the fewest slots taken; among equals the one whose number `roll` returns.
    pub(in crate::controller) fn choose(
        &mut self,
        now: Instant,
        district: Option<&str>,
        passed_over: &[&str],
        roll: &mut dyn FnMut(u64) -> u64,
    ) -> Option<Arc<str>> {
        self.observe(now);
        let quiet = self.quiet();
        self.workers.choose(now, quiet, district, passed_over, roll)
    }

    /// Every worker as placement sees it, by name.
    pub(in crate::controller) fn placement_views(
        &mut self,
        now: Instant,
    ) -> impl Iterator<Item = PlacementView<'_>> {
        self.observe(now);
        let quiet = self.quiet();
        self.workers.values().map(move |worker| {
            let silence = worker.silence(now);
            PlacementView {
                id: &worker.id,
                taken: worker.taken(),
                max: worker.last.max_sessions,
                silence,
                is_quiet: worker.is_down || silence >= quiet,
                is_draining: worker.is_draining(),
                ejected: worker.ejected.as_deref(),
            }
        })
    }
}
