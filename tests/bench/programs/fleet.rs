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
//! Each prints one line of JSON.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hydraneckwebrtc::clock;
use hydraneckwebrtc::controller::fleet::{Fleet, Pace};
use hydraneckwebrtc::controller::placement::Placement;
use hydraneckwebrtc::ids::SessionId;
use hydraneckwebrtc::protocol::{CreateSession, Created, Heartbeat, SessionView, Status};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Slots of a simulated worker: the runbook's.
const SLOTS: usize = 15;
/// Connections that heartbeats are sent over at once.
const SENDERS: usize = 8;
/// How often a worker beats when sessions are measured.
const INTERVAL: Duration = Duration::from_secs(5);
/// Token of the controllers under test.
const TOKEN: &str = "bench-token";

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let line = match words.as_slice() {
        ["place", workers, seconds] => place(workers.parse()?, seconds.parse()?)?,
        ["beat", workers, seconds, changing, controllers @ ..] if !controllers.is_empty() => beat(
            workers.parse()?,
            Duration::from_secs(seconds.parse()?),
            changing.parse()?,
            controllers,
        )?,
        ["create", workers, seconds, clients, controllers @ ..] if !controllers.is_empty() => {
            create(
                workers.parse()?,
                Duration::from_secs(seconds.parse()?),
                clients.parse()?,
                controllers,
            )?
        }
        ["lag", samples, told, shown] => lag(samples.parse()?, told, shown)?,
        _ => return Err("usage: see the head of tests/bench/programs/fleet.rs".into()),
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
        sequence,
        replaces: Vec::new(),
        drain_ordered: false,
        drain_deadline: None,
        sessions,
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

/// Places, makes and ends sessions in a fleet that is two thirds full.
fn place(workers: usize, seconds: u64) -> Outcome<Value> {
    let now = clock::now();
    let pace = Pace {
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
    let mut live = std::collections::VecDeque::new();
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

/// A connection that is kept, and opened again when it was closed.
struct Caller {
    at: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Caller {
    fn new(at: &str) -> Self {
        Self {
            at: at.trim_start_matches("http://").to_owned(),
            stream: None,
        }
    }

    fn call(&mut self, method: &str, path: &str, content: &[u8]) -> Outcome<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.at)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                BufReader::new(stream)
            }
        };
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            content.len()
        )
        .into_bytes();
        request.extend_from_slice(content);
        stream.get_mut().write_all(&request)?;
        let (status, length, closes) = head(&mut stream)?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        if !closes {
            self.stream = Some(stream);
        }
        Ok((status, answer))
    }
}

/// Status (or 0 for a request), length of the content, and whether the connection ends.
fn head(stream: &mut BufReader<TcpStream>) -> Outcome<(u16, usize, bool)> {
    let (mut status, mut length, mut closes) = (0, 0, false);
    let mut line = String::new();
    for n in 0.. {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err("the connection was closed".into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if n == 0 {
            status = text
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .unwrap_or(0);
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        closes |= text == "connection: close";
        if text.is_empty() {
            break;
        }
    }
    Ok((status, length, closes))
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

fn beat(workers: usize, span: Duration, changing: u64, controllers: &[&str]) -> Outcome<Value> {
    let pace = std::env::var("PACE")
        .ok()
        .map(|s| s.parse::<f64>())
        .transpose()?;
    // Two sessions a worker: what a fleet has on average at an event's quiet hours.
    let known: Vec<Vec<SessionView>> = (0..workers as u64)
        .map(|n| (0..2).map(|k| session(body(2 * n + k))).collect())
        .collect::<Outcome<_>>()?;
    let begun = clock::now();
    let spans = Mutex::new(Vec::new());
    let (sent, failed, measured) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let measure_from = AtomicU64::new(u64::MAX);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (known, spans, sent, failed, measured) =
                (&known, &spans, &sent, &failed, &measured);
            let measure_from = &measure_from;
            scope.spawn(move || {
                let mut callers: Vec<Caller> =
                    controllers.iter().map(|at| Caller::new(at)).collect();
                let mut mine = Vec::new();
                let its: Vec<usize> = (sender..workers).step_by(SENDERS).collect();
                for round in 1_u64.. {
                    let round_begun = clock::now();
                    for (k, n) in its.iter().copied().enumerate() {
                        if begun.elapsed() >= span && round > 1 {
                            spans
                                .lock()
                                .map(|mut all| all.append(&mut mine))
                                .unwrap_or_default();
                            return;
                        }
                        if let Some(pace) = pace {
                            let due = round_begun
                                + Duration::from_secs_f64(pace * k as f64 / its.len() as f64);
                            pause(due.saturating_duration_since(clock::now()));
                        }
                        let mut sessions = known[n].clone();
                        let roll = (n as u64).wrapping_mul(7).wrapping_add(round) % 100;
                        if roll < changing {
                            sessions[0].disconnect_count = round as u32;
                        }
                        let beat = heartbeat(n, format!("http://10.0.0.1:{n}"), round, sessions);
                        let content = serde_json::to_vec(&beat).unwrap_or_default();
                        let at = clock::now();
                        let which = n % callers.len();
                        match callers[which].call("POST", "/api/v1/workers/heartbeat", &content) {
                            Ok((200, _)) => {
                                sent.fetch_add(1, Ordering::Relaxed);
                                if round > 1 {
                                    measured.fetch_add(1, Ordering::Relaxed);
                                    mine.push(since(at));
                                }
                            }
                            _ => {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    // The first round registers everybody.
                    measure_from.fetch_min(since(begun), Ordering::Relaxed);
                }
            });
        }
    });
    let all = spans.into_inner().unwrap_or_default();
    Ok(json!({
        "heartbeats": sent.into_inner(), "failed": failed.into_inner(),
        "registered_after_us": measure_from.into_inner(),
        "heartbeats_per_second": measured.into_inner() as f64 / begun.elapsed().as_secs_f64(),
        "latency": micros(all),
    }))
}

#[allow(clippy::disallowed_methods)] // the pace of a simulated worker
fn pause(span: Duration) {
    thread::sleep(span);
}

/// What the simulated workers have.
struct Workers {
    sessions: Vec<Mutex<Vec<SessionView>>>,
    at: String,
}

/// Serves every worker's API on one port: creates, and nothing else.
fn serve(workers: usize) -> Outcome<Arc<Workers>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let all = Arc::new(Workers {
        sessions: (0..workers).map(|_| Mutex::default()).collect(),
        at: format!("http://{}", listener.local_addr()?),
    });
    let served = Arc::clone(&all);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = Arc::clone(&served);
            thread::spawn(move || while_open(&served, stream));
        }
    });
    Ok(all)
}

fn while_open(workers: &Workers, stream: TcpStream) -> Outcome<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let n = line.split('/').nth(1).and_then(|n| n.parse::<usize>().ok());
        let n = n.ok_or("no worker's path")?;
        let (_, length, closes) = head(&mut stream)?;
        let mut content = vec![0; length];
        stream.read_exact(&mut content)?;
        let wish: CreateSession = serde_json::from_slice(&content)?;
        let view = session(wish.body_ip)?;
        let id = view.id.clone();
        let mut its = workers.sessions[n].lock().map_err(|_| "poisoned")?;
        let status = if its.len() < SLOTS {
            its.push(view);
            "201 Created"
        } else {
            "503 Service Unavailable"
        };
        drop(its);
        let answer = json!({
            "session_id": id, "stream_url": format!("{}/session/{id}/", workers.at),
            "worker_id": format!("w{n:05}"), "status": "ready",
            "error": "full", "code": 503, "reason": "no_capacity", "request_id": "",
        })
        .to_string();
        write!(
            stream.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
        if closes {
            return Ok(());
        }
    }
}

fn create(workers: usize, span: Duration, clients: usize, controllers: &[&str]) -> Outcome<Value> {
    let all = serve(workers)?;
    let stop = AtomicBool::new(false);
    let (number, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let registered = AtomicUsize::new(0);
    let spans = Mutex::new(Vec::new());
    let mut took = Duration::ZERO;
    thread::scope(|scope| {
        let (all, stop, number, refused) = (&all, &stop, &number, &refused);
        let (registered, spans) = (&registered, &spans);
        for sender in 0..SENDERS {
            scope.spawn(move || {
                let mut callers: Vec<Caller> =
                    controllers.iter().map(|at| Caller::new(at)).collect();
                for round in 1_u64.. {
                    let begun = clock::now();
                    for n in (sender..workers).step_by(SENDERS) {
                        let mut its = all.sessions[n].lock().held();
                        // Short visits: what a heartbeat has told ends before the next.
                        if round > 1 {
                            its.retain(|view| view.viewers == 0);
                            its.iter_mut().for_each(|view| view.viewers = 1);
                        }
                        let url = format!("{}/{n}", all.at);
                        let content = serde_json::to_vec(&heartbeat(n, url, round, its.clone()));
                        drop(its);
                        let which = n % callers.len();
                        let content = content.unwrap_or_default();
                        let _ = callers[which].call("POST", "/api/v1/workers/heartbeat", &content);
                        if round == 1 {
                            registered.fetch_add(1, Ordering::Relaxed);
                        }
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    while begun.elapsed() < INTERVAL && !stop.load(Ordering::Relaxed) {
                        pause(Duration::from_millis(20));
                    }
                }
            });
        }
        while registered.load(Ordering::Relaxed) < workers {
            pause(Duration::from_millis(20));
        }
        // Every controller has the whole fleet.
        pause(Duration::from_secs(2));
        let begun = clock::now();
        let askers: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let mut caller = Caller::new(controllers[client % controllers.len()]);
                    let mut mine = Vec::new();
                    while begun.elapsed() < span {
                        let n = number.fetch_add(1, Ordering::Relaxed);
                        let wish = json!({"body_ip": body(n)}).to_string();
                        let at = clock::now();
                        match caller.call("POST", "/api/v1/sessions", wish.as_bytes()) {
                            Ok((201, _)) => mine.push(since(at)),
                            _ => {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
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
        "creates_per_second": spans.len() as f64 / took.as_secs_f64(),
        "refused": refused.into_inner(), "latency": micros(spans),
    }))
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

fn lag(samples: usize, told: &str, shown: &str) -> Outcome<Value> {
    let mut stream = TcpStream::connect(shown.trim_start_matches("http://"))?;
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )?;
    let sent: Mutex<HashMap<String, Instant>> = Mutex::default();
    let spans = Mutex::new(Vec::new());
    thread::scope(|scope| -> Outcome<()> {
        let (sent, spans) = (&sent, &spans);
        let reader = stream.try_clone()?;
        scope.spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data: ") else {
                    continue;
                };
                let data: Value = serde_json::from_str(data).unwrap_or_default();
                let id = data["session_id"].as_str().unwrap_or_default();
                if let Some(at) = sent.lock().held().remove(id) {
                    spans.lock().held().push(since(at));
                }
            }
        });
        let mut caller = Caller::new(told);
        let url = "http://10.0.0.1:1".to_owned();
        for n in 0..samples {
            // The first of a worker's sessions is found, not created: it is there before.
            let view = session(body(n as u64))?;
            sent.lock().held().insert(view.id.to_string(), clock::now());
            let beat = heartbeat(0, url.clone(), n as u64 + 1, vec![view]);
            let _ = caller.call(
                "POST",
                "/api/v1/workers/heartbeat",
                &serde_json::to_vec(&beat)?,
            )?;
            pause(Duration::from_millis(10));
        }
        pause(Duration::from_secs(1));
        stream.shutdown(std::net::Shutdown::Both)?;
        Ok(())
    })?;
    let spans = spans.into_inner().unwrap_or_default();
    Ok(json!({"samples": spans.len(), "lag": micros(spans)}))
}
