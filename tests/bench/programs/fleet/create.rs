//! Creates through HTTP, with workers that make a session at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::protocol::Heartbeat;
use serde_json::{Value, json};

use super::caller::Caller;
use super::workers::{ROOMY, Workers, serve};
use super::{
    INTERVAL, Inside as _, LOOK, Outcome, SENDERS, body, heartbeat, micros, pause, ready, since,
};

pub(crate) fn create(
    workers: usize,
    span: Duration,
    clients: usize,
    controllers: &[&str],
) -> Outcome<Value> {
    let all = serve(workers)?;
    let (stop, registered) = (AtomicBool::new(false), Barrier::new(SENDERS + 1));
    let (number, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let (spans, mut took) = (Mutex::new(Vec::new()), Duration::ZERO);
    thread::scope(|scope| {
        let (all, stop, registered) = (&all, &stop, &registered);
        for sender in 0..SENDERS {
            scope.spawn(move || keep_beating(all, sender, controllers, registered, stop));
        }
        registered.wait();
        ready();
        let begun = clock::now();
        let askers: Vec<_> = (0..clients)
            .map(|client| {
                let at = controllers[client % controllers.len()];
                let (number, refused, spans) = (&number, &refused, &spans);
                scope.spawn(move || {
                    let mut mine = ask(at, begun + span, number, refused);
                    spans.lock().held().append(&mut mine);
                })
            })
            .collect();
        for asker in askers {
            let _ = asker.join();
        }
        took = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
    });
    let spans = spans.into_inner().unwrap_or_default();
    Ok(json!({
        "creates": spans.len(), "creates_per_second": spans.len() as f64 / took.as_secs_f64(),
        "refused": refused.into_inner(), "latency": micros(spans),
    }))
}

/// Speaks for every so-manyth worker, as workers do.
fn keep_beating(
    all: &Workers,
    sender: usize,
    controllers: &[&str],
    registered: &Barrier,
    stop: &AtomicBool,
) {
    let mut callers: Vec<Caller> = controllers.iter().map(|at| Caller::new(at)).collect();
    let its: Vec<usize> = (sender..all.sessions.len()).step_by(SENDERS).collect();
    for round in 1_u64.. {
        let begun = clock::now();
        for (k, n) in its.iter().copied().enumerate() {
            let due = begun + INTERVAL.mul_f64(k as f64 / its.len() as f64);
            while round > 1 && clock::now() < due && !stop.load(Ordering::Relaxed) {
                pause(due.saturating_duration_since(clock::now()).min(LOOK));
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut sessions = all.sessions[n].lock().held();
            // Short visits: what a heartbeat has told ends before the next.
            sessions.retain(|view| view.viewers == 0);
            sessions.iter_mut().for_each(|view| view.viewers = 1);
            let url = format!("{}/{n}", all.at);
            let beat = Heartbeat {
                max_sessions: ROOMY,
                ..heartbeat(n, url, round, sessions.clone())
            };
            drop(sessions);
            let content = serde_json::to_vec(&beat);
            let (which, content) = (n % callers.len(), content.unwrap_or_default());
            let _ = callers[which].call("POST", "/api/v1/workers/heartbeat", &content);
        }
        if round == 1 {
            registered.wait();
        }
    }
}

/// One client: session after session, each for another body. Gives the time that each took.
fn ask(at: &str, end: Instant, number: &AtomicU64, refused: &AtomicU64) -> Vec<u64> {
    let (mut caller, mut spans) = (Caller::new(at), Vec::new());
    while clock::now() < end {
        let n = number.fetch_add(1, Ordering::Relaxed);
        let wish = json!({"body_ip": body(n)}).to_string();
        let begun = clock::now();
        match caller.call("POST", "/api/v1/sessions", wish.as_bytes()) {
            Ok((201, _)) => spans.push(since(begun)),
            _ => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    spans
}
