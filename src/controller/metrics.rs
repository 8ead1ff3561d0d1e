//! The controller's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fleet::{FleetChange, FleetEvent};
use super::{Controller, health};
use crate::clock;
use crate::http::Reply;
use crate::metrics::{CONTENT_TYPE, CounterVec, Exposition, tally};
use crate::protocol::{EndReason, VERSION, WorkerStatus};

/// States that hold a slot.
const STATES: [&str; 6] = [
    "starting",
    "ready",
    "connected",
    "lingering",
    "ending",
    // Those of other versions.
    "unknown",
];

/// Counters.
#[derive(Debug)]
pub(super) struct ControllerCounters {
    placements: CounterVec,
    ends: CounterVec,
    heartbeats: CounterVec,
    worker_pauses: AtomicU64,
}

impl Default for ControllerCounters {
    fn default() -> Self {
        let mut reasons: Vec<_> = EndReason::ALL.map(EndReason::slug).into();
        reasons.push("unknown");
        let placements = [
            "placed",
            "refused",
            "unsure",
            "failed",
            "all_draining",
            "no_capacity",
            "no_workers",
        ];
        Self {
            placements: CounterVec::by("result", &placements),
            ends: CounterVec::by("reason", &reasons),
            heartbeats: CounterVec::by("result", &["accepted", "refused"]),
            worker_pauses: AtomicU64::new(0),
        }
    }
}

impl ControllerCounters {
    pub(super) fn placement(&self, result: &'static str) {
        self.placements.add(result);
    }

    /// A worker is passed over, as its creates failed.
    pub(super) fn worker_paused(&self) {
        self.worker_pauses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn beat(&self, accepted: bool) {
        self.heartbeats
            .add(if accepted { "accepted" } else { "refused" });
    }

    pub(super) fn changed(&self, event: &FleetEvent) {
        if let FleetChange::SessionEnded(_, reason) = &event.change {
            self.ends.add(reason.map_or("unknown", EndReason::slug));
        }
    }
}

/// `GET /metrics`.
pub(super) fn metrics(controller: &Controller) -> Reply {
    let now = clock::now();
    let uptime = now.saturating_duration_since(controller.started);
    let mut sheet = Exposition::new("controller", VERSION, uptime);
    let (totals, workers, sessions) = {
        let fleet = controller.fleet();
        (fleet.totals(now), fleet.workers(now), fleet.sessions())
    };
    let status = |s: &WorkerStatus| match s {
        WorkerStatus::Healthy => "healthy",
        WorkerStatus::Draining => "draining",
        WorkerStatus::Unhealthy | WorkerStatus::Other(_) => "unhealthy",
    };
    sheet.gauges(
        "workers",
        "Known workers by status",
        "status",
        tally(
            ["healthy", "draining", "unhealthy"],
            workers.iter().map(|w| status(&w.status)),
        ),
    );
    let states = sessions.iter().flat_map(|w| &w.sessions);
    sheet.gauges(
        "sessions",
        "Sessions of the fleet, by state",
        "state",
        tally(STATES, states.map(|s| s.status.to_string())),
    );
    let slots = totals.max_sessions as f64;
    sheet.gauge("sessions_max", "Slots of healthy workers", slots);
    let counters = &controller.counters;
    sheet.counts(
        "placements",
        "Tries to place a session on a worker, by result",
        &counters.placements,
    );
    sheet.counts("session_ends", "Ended sessions by reason", &counters.ends);
    sheet.counts(
        "heartbeats",
        "Heartbeats of workers by result",
        &counters.heartbeats,
    );
    sheet.counter(
        "worker_pauses",
        "Times that a worker was passed over because its creates failed in a row",
        counters.worker_pauses.load(Ordering::Relaxed),
    );
    for (name, help, value) in controller.store.gauges() {
        sheet.gauge(name, help, value);
    }
    controller.proxy.counters().write(&mut sheet);
    let problems = health::health(controller).extra.problems.len();
    sheet.gauge("problems", "Problems that health names", problems as f64);
    Reply::text(200, CONTENT_TYPE, sheet.text())
}
