//! Placements alone, without any socket.

use std::collections::VecDeque;
use std::time::Duration;

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::controller::fleet::{Fleet, HeartbeatTiming};
use hydraneckwebrtc::testing::controller::placement::Placement;
use hydraneckwebrtc::testing::ids::SessionId;
use hydraneckwebrtc::testing::protocol::{CreateSession, Created, Status};
use serde_json::{Value, json};

use super::{INTERVAL, Outcome, SLOTS, heartbeat};

/// Places, makes and ends sessions in a fleet that is two thirds full.
pub(crate) fn place(workers: usize, seconds: u64) -> Outcome<Value> {
    let now = clock::now();
    let pace = HeartbeatTiming {
        heartbeat_interval: INTERVAL,
        heartbeat_timeout: INTERVAL * 12,
    };
    let mut fleet = Fleet::new(now, pace);
    for n in 0..workers {
        let beat = heartbeat(n, format!("http://10.0.0.1:{n}"), 1, Vec::new());
        fleet.heartbeat(now, clock::wall(), beat)?;
    }
    let wish: CreateSession = serde_json::from_value(json!({"body_ip": "10.0.0.1"}))?;
    let wall = clock::wall();
    let mut live = VecDeque::new();
    let full = workers * SLOTS * 2 / 3;
    let mut placed = 0_u64;
    let (mut begun, mut at) = (clock::now(), cpu()?);
    loop {
        let filled = live.len() >= full;
        if filled && placed == 0 {
            (begun, at) = (clock::now(), cpu()?);
        }
        // Asking the clock for each would be a cost of its own.
        if filled && placed % 64 == 1 && begun.elapsed() > Duration::from_secs(seconds) {
            break;
        }
        let seed = placed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let reservation = Placement::new(&wish, seed).place(&mut fleet, now)?;
        let created = Created {
            session_id: SessionId::random()?,
            stream_url: String::new(),
            worker_id: reservation.worker_id().to_owned(),
            status: Status::Ready,
        };
        fleet.created(now, wall, reservation, &wish, &created);
        live.push_back(created.session_id);
        if filled {
            placed += 1;
            if let Some(oldest) = live.pop_front() {
                fleet.session_gone(&oldest, None);
            }
        }
    }
    Ok(json!({"placements_per_second": placed as f64 / (cpu()? - at)}))
}

/// Seconds that this thread has run, whoever else is on the machine.
fn cpu() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos as f64 / 1e9)
}
