//! Telling the controller: on a beat, and at once when a session changes.
//!
//! Heartbeats go to one of several controllers, the same as long as it answers: they share them.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use http_types::Method;
use smol::channel::Receiver;

use super::settings::ControllerPeer;
use super::{Worker, health};
use crate::exec::{self, Stop};
use crate::http::client::{Answer, ClientError, Outgoing};
use crate::protocol::reading::{self, Reading};
use crate::protocol::{ErrorBody, Heartbeat, HeartbeatReply, VERSION};
use crate::{clock, ids};

/// Least time between two beats, however much changes.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause while the controller is away, as a multiple of the interval. A controller that
/// comes back waits only so long for its workers before it denies what it does not know.
const BACK_OFF_MAX: u32 = 2;
/// Longest wait for an answer; a beat is given up before the next is due.
const WITHIN_MAX: Duration = Duration::from_secs(10);
/// Wanted intervals outside these bounds are not followed.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Starts the beat, if the worker has a controller.
pub(super) fn start(worker: &Arc<Worker>, kicked: Receiver<()>, stop: Stop) {
    let Some(peer) = worker.settings.controller.clone() else {
        log::info!(target: "heartbeat", "no controller.url: this worker stands alone");
        return;
    };
    let worker = Arc::clone(worker);
    exec::spawn(async move {
        stop.or(beat_for_ever(&worker, &peer, &kicked)).await;
    })
    .detach();
}

/// The last heartbeat of a process that stops: no more sessions here, and what has just ended.
pub(super) async fn last_word(worker: &Arc<Worker>) {
    if let Some(peer) = &worker.settings.controller {
        let mut way = Way::of(worker, peer);
        if let Err(why) = beat(worker, peer, &mut way, u64::MAX).await {
            log::warn!(target: "heartbeat", "{why}");
        }
    }
}

/// The controller that gets the heartbeats.
#[derive(Debug)]
struct Way(usize);

impl Way {
    /// Workers share the controllers out by their names.
    fn of(worker: &Worker, peer: &ControllerPeer) -> Self {
        let bytes = worker.settings.worker_id.bytes();
        let sum = bytes.fold(0_usize, |sum, b| {
            sum.wrapping_mul(31).wrapping_add(b.into())
        });
        Self(sum % peer.urls.len())
    }

    fn url<'a>(&self, peer: &'a ControllerPeer) -> &'a str {
        &peer.urls[self.0 % peer.urls.len()]
    }

    fn next(&mut self, peer: &ControllerPeer) {
        self.0 = (self.0 + 1) % peer.urls.len();
    }
}

async fn beat_for_ever(worker: &Arc<Worker>, peer: &ControllerPeer, kicked: &Receiver<()>) {
    let mut interval = peer.interval;
    let (mut sequence, mut failures) = (0_u64, 0_u32);
    let mut way = Way::of(worker, peer);
    let mut told = None;
    loop {
        sequence += 1;
        let outcome = beat(worker, peer, &mut way, sequence).await;
        worker.counters.beat(outcome.is_ok());
        let mut pause = match outcome {
            Ok(reply) => {
                if failures > 0 || told != Some(way.0) {
                    log::info!(target: "heartbeat", "registered with {} as {}", way.url(peer), worker.settings.worker_id);
                }
                told = Some(way.0);
                failures = 0;
                if reply.heartbeat_interval_ms > 0 {
                    let wanted = Duration::from_millis(reply.heartbeat_interval_ms);
                    interval = wanted.clamp(INTERVAL_MIN, INTERVAL_MAX);
                }
                follow(worker, &reply);
                problem(worker, None);
                interval
            }
            Err(why) => {
                failures += 1;
                // The first failure and then every tenth: a controller that is away is no flood.
                if failures % 10 == 1 {
                    log::warn!(target: "heartbeat", "{why} failures={failures}");
                }
                problem(worker, Some(why));
                interval * failures.min(BACK_OFF_MAX)
            }
        };
        // Workers that started together do not stay together.
        pause = pause.mul_f64(0.9 + 0.2 * fraction());
        clock::sleep(PAUSE_MIN).await;
        let kick = async {
            let _ = kicked.recv().await;
        };
        let rest = clock::sleep(pause.saturating_sub(PAUSE_MIN));
        if failures > 0 {
            // Changes do not hurry a controller that does not answer.
            rest.await;
        } else {
            smol::future::or(kick, rest).await;
        }
    }
}

/// A number from 0 to 1 that differs from worker to worker.
fn fraction() -> f64 {
    let label = ids::label();
    let digits = u32::from_str_radix(&label[..4], 16).unwrap_or(0);
    f64::from(digits) / 65_536.0
}

fn problem(worker: &Worker, why: Option<String>) {
    *worker.controller_problem.lock() = why;
}

/// One heartbeat to the first controller that answers, beginning with the one told last.
async fn beat(
    worker: &Arc<Worker>,
    peer: &ControllerPeer,
    way: &mut Way,
    sequence: u64,
) -> Result<HeartbeatReply, String> {
    let mut whys = Vec::new();
    for _ in &peer.urls {
        match beat_to(worker, peer, way.url(peer), sequence).await {
            Ok(reply) => return Ok(reply),
            // What one controller judges, all would.
            Err(Unheard::Judged(why)) => return Err(why),
            Err(Unheard::Away(why)) => whys.push(why),
        }
        way.next(peer);
    }
    Err(whys.join("; "))
}

/// Why a heartbeat was not taken.
enum Unheard {
    /// No answer, or one that says that the controller cannot: another one may.
    Away(String),
    /// Refused for what it is.
    Judged(String),
}

async fn beat_to(
    worker: &Arc<Worker>,
    peer: &ControllerPeer,
    url: &str,
    sequence: u64,
) -> Result<HeartbeatReply, Unheard> {
    let told = worker.roster.untold();
    let mut sessions = worker.roster.told_views();
    sessions.extend(told.iter().cloned());
    let drain = worker.drain_state().clone();
    let heartbeat = Heartbeat {
        worker_id: worker.settings.worker_id.clone(),
        process_id: worker.process_id.clone(),
        url: url_of(worker),
        public_url: worker.settings.public_url.clone(),
        district: worker.settings.district.clone(),
        version: VERSION.into(),
        max_sessions: worker.settings.max,
        wireguard: health::has_wireguard(worker),
        draining: drain.own || drain.stopping,
        refuses: worker.shortage().map(|(_, why)| why),
        sequence,
        replaces: worker.predecessors.clone(),
        drain_ordered: drain.ordered,
        drain_deadline: drain.ordered_deadline,
        sessions: sessions.into(),
    };
    let within = peer.interval.min(WITHIN_MAX);
    let call = Outgoing::new(Method::Post, format!("{url}/api/v1/workers/heartbeat"))
        .bearer(&peer.token)
        .json(&heartbeat)
        .within(within);
    let answer = worker
        .client
        .send(call)
        .await
        .map_err(|e| Unheard::Away(explain(url, &e)))?;
    if worker.settings.url.is_none() && learn_url(worker, &answer) {
        worker.kick();
    }
    let reason = answer.read::<ErrorBody>().map(|body| body.reason).ok();
    let is_duplicate = reason.as_deref() == Some("duplicate_worker");
    worker.is_duplicate.store(is_duplicate, Ordering::Relaxed);
    if !answer.is_ok() {
        let why = refused(url, &answer);
        // Only this is the fleet's judgement. Anything else is one controller's, or of a proxy before
        // it: the next one may answer otherwise.
        let is_judged = is_duplicate || (answer.status == 400 && reason.is_some());
        return Err(if is_judged {
            Unheard::Judged(why)
        } else {
            Unheard::Away(why)
        });
    }
    worker.roster.told(&told);
    reading::read(&answer.body)
        .map(|reply: Reading<HeartbeatReply>| {
            reading::tell(
                "heartbeat",
                &format!("controller {url}"),
                "unknown",
                &reply.left_out,
            );
            reply.value
        })
        .map_err(|e| Unheard::Away(format!("controller {url} answers what cannot be read: {e}")))
}

/// Where the controller reaches this worker. Until the first answer shows the route, an address
/// that is right when both share a machine.
fn url_of(worker: &Worker) -> String {
    let learned = || learned_url(worker).clone();
    let known = worker.settings.url.clone().or_else(learned);
    known.unwrap_or_else(|| format!("http://127.0.0.1:{}", worker.settings.listen_port))
}

fn learned_url(worker: &Worker) -> MutexGuard<'_, Option<String>> {
    worker.learned_url.lock()
}

/// The address from which this machine reaches the controller is where the controller reaches it.
fn learn_url(worker: &Worker, answer: &Answer) -> bool {
    let Some(local) = answer.local else {
        return false;
    };
    let learned = format!(
        "http://{}",
        SocketAddr::new(local.ip(), worker.settings.listen_port)
    );
    let mut url = learned_url(worker);
    let is_new = url.as_ref() != Some(&learned);
    if is_new {
        log::info!(target: "heartbeat", "the controller reaches this worker at {learned}; set worker.url if it does not");
        *url = Some(learned);
    }
    is_new
}

fn explain(url: &str, error: &ClientError) -> String {
    format!("controller {url} does not answer: {error}")
}

fn refused(url: &str, answer: &Answer) -> String {
    let remedy = match answer.status {
        401 => "; controller.token must be the controller's server.admin_token",
        409 => {
            "; another process has this worker's name, stop it or give one of them its own worker.id"
        }
        _ => "",
    };
    format!(
        "controller {url} refuses with {}: {}{remedy}",
        answer.status,
        answer.excerpt()
    )
}

/// Follows the controller's wish to drain.
fn follow(worker: &Worker, reply: &HeartbeatReply) {
    let Some(ordered) = reply.drain else {
        return;
    };
    let (changed, lifted) = {
        let mut drain = worker.drain_state();
        let changed = drain.ordered != ordered || drain.ordered_deadline != reply.drain_deadline;
        drain.ordered = ordered;
        drain.ordered_deadline.clone_from(&reply.drain_deadline);
        (changed, changed && !ordered && !drain.own)
    };
    if lifted {
        log::info!(target: "heartbeat", "the controller lifted the drain");
        worker
            .roster
            .tell_all(&crate::session::lifecycle::Input::DrainLifted);
    } else if changed && ordered {
        log::info!(target: "heartbeat", "the controller ordered a drain deadline={}", reply.drain_deadline.as_deref().unwrap_or("none"));
        worker.order_drain(reply.drain_left(clock::wall()));
    }
}
