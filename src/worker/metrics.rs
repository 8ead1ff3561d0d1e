//! The worker's metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Worker, health};
use crate::clock;
use crate::http::{Reply, idempotency};
use crate::metrics::{CONTENT_TYPE, CounterVec, Exposition, HistogramVec, tally};
use crate::protocol::{EndReason, PageStats, Phase, Status, VERSION};

/// States that hold a slot.
const STATES: [&str; 5] = ["starting", "ready", "connected", "lingering", "ending"];
/// Types of candidates (RFC 8445), and what is none of them.
const CANDIDATES: [&str; 5] = ["relay", "host", "srflx", "prflx", "other"];

/// What is counted where it happens.
#[derive(Debug)]
pub(super) struct WorkerCounters {
    starts: HistogramVec,
    ends: CounterVec,
    heartbeats: CounterVec,
    turn_minted: AtomicU64,
    trips: HistogramVec,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        let reasons = EndReason::ALL.map(EndReason::slug);
        Self {
            starts: HistogramVec::of_starts("phase"),
            ends: CounterVec::by("reason", &reasons),
            heartbeats: CounterVec::by("result", &["ok", "failed"]),
            turn_minted: AtomicU64::new(0),
            trips: HistogramVec::of_trips("candidate_type"),
        }
    }
}

impl WorkerCounters {
    pub(super) fn passed(&self, phase: Phase, span: Duration) {
        let name = match phase {
            Phase::Reaching => "reaching",
            Phase::Spawning => "spawning",
            Phase::Pairing => "pairing",
            Phase::Launching => "launching",
            // This version times its own phases only.
            Phase::Other(_) => return,
        };
        self.starts.observe(name, span);
    }

    pub(super) fn ready(&self, span: Duration) {
        self.starts.observe("whole", span);
    }

    pub(super) fn ended(&self, reason: EndReason) {
        self.ends.add(reason.slug());
    }

    pub(super) fn beat(&self, ok: bool) {
        self.heartbeats.add(if ok { "ok" } else { "failed" });
    }

    pub(super) fn minted(&self) {
        self.turn_minted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn measured(&self, stats: &PageStats) {
        let sane = stats.rtt_ms.filter(|ms| (0.0..60_000.0).contains(ms));
        if let Some(ms) = sane {
            self.trips
                .observe(candidate(stats), Duration::from_secs_f64(ms / 1_000.0));
        }
    }
}

/// A page may say anything; a label may not.
fn candidate(stats: &PageStats) -> &'static str {
    let said = stats.ice_candidate_type.as_deref();
    CANDIDATES
        .into_iter()
        .find(|known| Some(*known) == said)
        .unwrap_or("other")
}

/// `GET /metrics`.
pub(super) fn metrics(worker: &Arc<Worker>) -> Reply {
    let uptime = clock::now().saturating_duration_since(worker.started);
    let mut sheet = Exposition::new("worker", VERSION, uptime);
    let views = worker.roster.views();
    let open = |status: Status| status != Status::Ended;
    let states = views.iter().filter(|v| open(v.status));
    sheet.gauges(
        "sessions",
        "Sessions that hold a slot, by state",
        "state",
        tally(STATES, states.map(|v| v.status.to_string())),
    );
    sheet.gauge("sessions_max", "Slots", worker.settings.max as f64);
    let seen = views.iter().filter(|v| v.connected);
    sheet.gauges(
        "clients",
        "Connected visitors by the type of their ICE candidate",
        "candidate_type",
        tally(
            CANDIDATES,
            seen.map(|v| v.stats.as_ref().map_or("other", candidate)),
        ),
    );
    let counters = &worker.counters;
    sheet.spans(
        "session_start_seconds",
        "Time a start spent in each phase; pairing contains launching, whole is all of it",
        &counters.starts,
    );
    sheet.counts("session_ends", "Ended sessions by reason", &counters.ends);
    sheet.counts(
        "heartbeats",
        "Heartbeats to the controller by result",
        &counters.heartbeats,
    );
    sheet.counter(
        "turn_credentials_minted",
        "TURN credentials made",
        counters.turn_minted.load(Ordering::Relaxed),
    );
    sheet.spans(
        "client_rtt_seconds",
        "Round trips that pages measured, by the type of their ICE candidate",
        &counters.trips,
    );
    worker.proxy.counters().write(&mut sheet);
    microphones(&mut sheet, worker);
    let problems = health::health(worker).extra.problems.len();
    let keys = worker.keys.len() as f64;
    sheet.gauge("idempotency_keys", idempotency::GAUGE_HELP, keys);
    sheet.gauge("problems", "Problems that health names", problems as f64);
    let wireguard = f64::from(u8::from(health::has_wireguard(worker)));
    sheet.gauge(
        "wireguard_up",
        "Whether a WireGuard interface is up",
        wireguard,
    );
    let draining = f64::from(u8::from(worker.refusal().is_some()));
    sheet.gauge("draining", "Whether new sessions are refused", draining);
    Reply::text(200, CONTENT_TYPE, sheet.text())
}

fn microphones(sheet: &mut Exposition, worker: &Worker) {
    sheet.gauge("mics", "Microphones that are on", worker.mics.on() as f64);
    let total = worker.mics.total();
    sheet.counters(
        "mic_packets",
        "RTP packets of microphones by what became of them",
        "result",
        [
            ("sent", total.packets),
            ("lost", total.lost),
            ("duplicate", total.duplicates),
            ("late", total.late),
            ("stray", total.strays),
            ("unsent", total.unsent),
        ],
    );
    sheet.counter("mic_bytes", "Opus bytes sent to bodies", total.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_makes_up_is_no_label() {
        let mut stats = PageStats {
            ice_candidate_type: Some("re\"lay".into()),
            ..PageStats::default()
        };
        assert_eq!(candidate(&stats), "other");
        stats.ice_candidate_type = Some("relay".into());
        assert_eq!(candidate(&stats), "relay");
    }
}
