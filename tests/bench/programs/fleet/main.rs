//! A simulated fleet for measuring controllers: see `tests/bench/fleet`.
//!
//! - `fleet place WORKERS SECONDS`: placements in a second of this process's CPU time, without any
//!   socket.
//! - `fleet beat WORKERS SECONDS CHANGING CONTROLLER...`: heartbeats of so many workers as fast as
//!   they are answered, shared out over the controllers; of a hundred heartbeats `CHANGING` say
//!   something new. `PACE=SECONDS` in the environment makes each worker beat once in that time
//!   instead, as workers do.
//! - `fleet create WORKERS SECONDS CLIENTS CONTROLLER...`: sessions a second, with workers that
//!   make them at once and beat every five seconds; each by another body.
//! - `fleet lag SAMPLES TOLD SHOWN`: time from a heartbeat that one controller is told until the
//!   other's event stream shows what it said.
//!
//! Each prints one line of JSON. `beat` and `create` print `ready` before, when every worker is
//! registered, and go on when they are told a line, or nothing more, through their input.

mod beat;
mod caller;
mod create;
mod lag;
mod place;
mod workers;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use hydraneckwebrtc::testing::ids::SessionId;
use hydraneckwebrtc::testing::protocol::{Heartbeat, SessionView};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Slots of a simulated worker: the runbook's.
const SLOTS: usize = 15;
/// Connections that heartbeats are sent over at once.
const SENDERS: usize = 8;
/// How often a worker beats when sessions are measured.
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait before a look whether something is over or begins.
const LOOK: Duration = Duration::from_millis(20);
/// Token of the controllers under test.
const TOKEN: &str = "bench-token";

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let line = match words.as_slice() {
        ["place", workers, seconds] => place::place(workers.parse()?, seconds.parse()?)?,
        ["beat", workers, seconds, changing, controllers @ ..] if !controllers.is_empty() => {
            beat::beat(
                workers.parse()?,
                Duration::from_secs(seconds.parse()?),
                changing.parse()?,
                controllers,
            )?
        }
        ["create", workers, seconds, clients, controllers @ ..] if !controllers.is_empty() => {
            create::create(
                workers.parse()?,
                Duration::from_secs(seconds.parse()?),
                clients.parse()?,
                controllers,
            )?
        }
        ["lag", samples, told, shown] => lag::lag(samples.parse()?, told, shown)?,
        _ => return Err("usage: see the head of tests/bench/programs/fleet/main.rs".into()),
    };
    println!("{line}");
    Ok(())
}

fn heartbeat(n: usize, url: String, sequence: u64, sessions: Vec<SessionView>) -> Heartbeat {
    Heartbeat {
        worker_id: format!("w{n:05}"),
        process_id: format!("{n:016x}"),
        url,
        public_url: None,
        district: format!("d{}", n % 7),
        version: "0.1.0".to_owned(),
        max_sessions: SLOTS,
        wireguard: true,
        draining: false,
        refuses: None,
        sequence,
        replaces: Vec::new(),
        drain_ordered: false,
        drain_deadline: None,
        sessions: sessions.into(),
    }
}

fn session(body: IpAddr) -> Outcome<SessionView> {
    let view = json!({
        "id": SessionId::random()?, "status": "ready", "body_ip": body,
        "experience": "a-middling-name", "created_at": "2026-01-01T00:00:00Z",
        "ready_at": "2026-01-01T00:00:01Z", "connected": false, "viewers": 0,
        "disconnect_count": 0, "duration_ms": 1_000, "port": 8080,
        "stream_path": "/session/0123456789abcdef0123456789abcdef/stream.html?hostId=1&appId=2",
    });
    Ok(serde_json::from_value(view)?)
}

fn body(n: u64) -> IpAddr {
    let [_, a, b, c] = (n as u32).to_be_bytes();
    Ipv4Addr::new(10, a, b, c).into()
}

fn micros(mut all: Vec<u64>) -> Value {
    all.sort_unstable();
    let at = |share: f64| {
        let last = all.len().saturating_sub(1);
        all.get((last as f64 * share) as usize)
            .copied()
            .unwrap_or(0)
    };
    json!({"p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0)})
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Says that the fleet is registered, and waits for the word to go on.
fn ready() {
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[allow(clippy::disallowed_methods)] // the pace of a simulated worker
fn pause(span: Duration) {
    thread::sleep(span);
}

/// The inside of a lock, whatever happened to other threads.
trait Inside<'a, T> {
    fn held(self) -> std::sync::MutexGuard<'a, T>;
}

impl<'a, T> Inside<'a, T> for std::sync::LockResult<std::sync::MutexGuard<'a, T>> {
    fn held(self) -> std::sync::MutexGuard<'a, T> {
        self.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
