//! Placements alone, without any socket.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::controller::fleet::{Fleet, HeartbeatTiming};
use hydraneckwebrtc::testing::controller::placement::Placement;
use hydraneckwebrtc::testing::ids::SessionId;
use hydraneckwebrtc::testing::protocol::{CreateSession, Created, SessionView, Status};
use serde_json::{Value, json};

use super::{INTERVAL, Outcome, SLOTS, heartbeat, session};

/// Placements between two rounds of heartbeats; asking the clock for each would be a cost of its own.
const BATCH: u64 = 16_384;

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
    let (mut placed, mut spent, mut rounds) = (0_u64, 0.0, 1_u64);
    let (mut begun, mut at) = (clock::now(), cpu()?);
    loop {
        let filled = live.len() >= full;
        if filled && placed == 0 {
            (begun, at) = (clock::now(), cpu()?);
        }
        if filled && placed % BATCH == 1 {
            spent += cpu()? - at;
            if begun.elapsed() > Duration::from_secs(seconds) {
                break;
            }
            rounds += 1;
            beat(&mut fleet, now, rounds, workers, &live)?;
            at = cpu()?;
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
        live.push_back((created.worker_id, created.session_id));
        if filled {
            placed += 1;
            if let Some((_, oldest)) = live.pop_front() {
                fleet.session_ending(&oldest, None);
            }
        }
    }
    Ok(json!({"placements_per_second": placed as f64 / spent}))
}

/// A round of heartbeats, not measured: what has ended goes.
fn beat(
    fleet: &mut Fleet,
    now: Instant,
    round: u64,
    workers: usize,
    live: &VecDeque<(String, SessionId)>,
) -> Outcome<()> {
    let mut all: HashMap<&str, Vec<&SessionId>> = HashMap::new();
    for (worker, id) in live {
        all.entry(worker).or_default().push(id);
    }
    for n in 0..workers {
        let mut beat = heartbeat(n, format!("http://10.0.0.1:{n}"), round, Vec::new());
        let own = all.get(&*beat.worker_id).into_iter().flatten();
        let views: Outcome<Vec<SessionView>> = own
            .map(|id| {
                Ok(SessionView {
                    id: (*id).clone(),
                    ..session([10, 0, 0, 1].into())?
                })
            })
            .collect();
        beat.sessions = views?.into();
        fleet.heartbeat(now, clock::wall(), beat)?;
    }
    Ok(())
}

/// Seconds that this thread has run, whoever else is on the machine.
fn cpu() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos as f64 / 1e9)
}
