//! Heartbeats: as fast as they are answered, or at the pace of a fleet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::protocol::SessionView;
use serde_json::{Value, json};

use super::caller::Caller;
use super::{
    INTERVAL, LOOK, Outcome, SENDERS, body, heartbeat, micros, pause, ready, session, since,
};

/// What senders have in common.
struct Round<'a> {
    /// Two sessions a worker: what a fleet has on average at an event's quiet hours.
    known: Vec<Vec<SessionView>>,
    changing: u64,
    /// In which time each worker beats once, when it is measured; none: as fast as it goes.
    pace: Option<Duration>,
    span: Duration,
    controllers: &'a [&'a str],
    registered: Barrier,
    /// Since when it is measured. Before, workers beat at a fleet's pace.
    begun: OnceLock<Instant>,
    failed: AtomicU64,
}

pub(crate) fn beat(
    workers: usize,
    span: Duration,
    changing: u64,
    controllers: &[&str],
) -> Outcome<Value> {
    let pace = std::env::var("PACE").ok();
    let pace = pace.map(|seconds| seconds.parse()).transpose()?;
    let known = (0..workers as u64).map(|n| (0..2).map(|k| session(body(2 * n + k))).collect());
    let round = Round {
        known: known.collect::<Outcome<_>>()?,
        changing,
        pace: pace.map(Duration::from_secs_f64),
        span,
        controllers,
        registered: Barrier::new(SENDERS + 1),
        begun: OnceLock::new(),
        failed: AtomicU64::new(0),
    };
    let (spans, took) = thread::scope(|scope| {
        let round = &round;
        let senders = (0..SENDERS).map(|sender| scope.spawn(move || round.send(sender)));
        let senders: Vec<_> = senders.collect();
        round.registered.wait();
        ready();
        let begun = *round.begun.get_or_init(clock::now);
        let spans = senders.into_iter().map(|sender| sender.join());
        let spans: Vec<u64> = spans.flat_map(Result::unwrap_or_default).collect();
        (spans, begun.elapsed())
    });
    Ok(json!({
        "heartbeats": spans.len(), "failed": round.failed.into_inner(),
        "heartbeats_per_second": spans.len() as f64 / took.as_secs_f64(),
        "latency": micros(spans),
    }))
}

impl Round<'_> {
    /// Speaks for every so-manyth worker. Gives the time that each heartbeat took.
    fn send(&self, sender: usize) -> Vec<u64> {
        let mut callers: Vec<Caller> = self.controllers.iter().map(|at| Caller::new(at)).collect();
        let its: Vec<usize> = (sender..self.known.len()).step_by(SENDERS).collect();
        let mut spans = Vec::new();
        for round in 1.. {
            let round_begun = clock::now();
            for (k, n) in its.iter().copied().enumerate() {
                let share = k as f64 / its.len() as f64;
                while let Some(pace) = self.pace(round)
                    && let Some(rest) = pace.mul_f64(share).checked_sub(round_begun.elapsed())
                {
                    pause(rest.min(LOOK));
                }
                if self.begun.get().is_some_and(|at| at.elapsed() >= self.span) {
                    return spans;
                }
                let took = self.tell(&mut callers, n, round);
                spans.extend(took.filter(|_| self.begun.get().is_some()));
            }
            if round == 1 {
                self.registered.wait();
            }
        }
        spans
    }

    fn pace(&self, round: u64) -> Option<Duration> {
        match self.begun.get() {
            Some(_) => self.pace,
            None => (round > 1).then_some(INTERVAL),
        }
    }

    /// A worker's heartbeat; gives the time that it took.
    fn tell(&self, callers: &mut [Caller], n: usize, round: u64) -> Option<u64> {
        let mut sessions = self.known[n].clone();
        let roll = (n as u64).wrapping_mul(7).wrapping_add(round) % 100;
        if roll < self.changing {
            sessions[0].disconnect_count = round as u32;
        }
        let beat = heartbeat(n, format!("http://10.0.0.1:{n}"), round, sessions);
        let content = serde_json::to_vec(&beat).unwrap_or_default();
        let (at, which) = (clock::now(), n % callers.len());
        match callers[which].call("POST", "/api/v1/workers/heartbeat", &content) {
            Ok((200, _)) => Some(since(at)),
            _ => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}
