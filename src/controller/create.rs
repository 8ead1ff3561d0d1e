//! Creating a session: place, ask the worker, try the next one when it refuses.

use std::sync::Arc;
use std::time::Duration;

use http_types::{Method, Url};

use super::api::worker_failure;
use super::body_owners::Claimant;
use super::fleet::FleetEvent;
use super::placement::{NoPlace, Placement};
use super::{Controller, api};
use crate::http::client::{Answer, ClientError, Outgoing};
use crate::http::idempotency::{self, Claim, ClaimGuard};
use crate::http::{Call, Failure, Reply};
use crate::protocol::{CreateSession, Created, EndReason, SPAWN_FAILED, Status};
use crate::{clock, exec};

/// Time a worker has until a session is ready: `sessions.start_timeout` and cleaning up.
const CREATE_WITHIN: Duration = Duration::from_secs(75);
/// Time a request waits for its body: for other creates and for a session that leaves it.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// When a client may try again that got no slot.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// `POST /api/v1/sessions`.
pub(super) async fn create(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    let mut request: CreateSession = call.json()?;
    let wish = request.clone();
    let claimant = Claimant::new(&controller, &call, &wish, BODY_WITHIN);
    let claim = match idempotency::claim(controller.store.keys(), &call).await? {
        Claim::Answered(created) => return Ok(answer(&created)),
        Claim::Granted(claim) => claim,
    };
    // The worker need not end anybody: the body is free then.
    request.takeover = false;
    // A worker that may have made the session already judges by the key.
    let claim = match repeat(&controller, &call, &request, claim).await? {
        Repeated::Made(created) => return Ok(answer(&created)),
        Repeated::Nowhere(claim) => claim,
    };
    let lock = claimant.acquire().await?;
    // While the body was waited for, a heartbeat may have told of the key.
    let claim = match repeat(&controller, &call, &request, claim).await? {
        Repeated::Made(created) => return Ok(answer(&created)),
        Repeated::Nowhere(claim) => claim,
    };
    let created = place(&controller, &call, &request, claim).await?;
    if created.status == Status::Starting {
        let id = created.session_id.clone();
        exec::spawn(async move { controller.hold_while_pairing(&id, lock).await }).detach();
    }
    Ok(answer(&created))
}

fn answer(created: &Created) -> Reply {
    Reply::json(201, created).header(
        "Location",
        format!("/api/v1/sessions/{}", created.session_id),
    )
}

async fn place(
    controller: &Controller,
    call: &Call,
    request: &CreateSession,
    mut claim: ClaimGuard<Created>,
) -> Result<Created, Failure> {
    // Workers get a key in any case, so that the HTTP client may repeat a request whose answer was
    // lost.
    let key = claim.key().map_or_else(idempotency::own_key, str::to_owned);
    let seed = controller.process_id.len() as u64 ^ clock_seed();
    let mut placement = Placement::new(request, seed);
    loop {
        let placed = placement.place(&mut controller.fleet(), clock::now());
        let reservation = placed.map_err(|none| {
            controller.counters.placement(none.reason.slug());
            log::warn!(target: "controller", request_id = call.request_id.as_str(); "no place for a session: {none}");
            no_place(&none)
        })?;
        let worker_id = reservation.worker_id().to_owned();
        log::info!(target: "controller", request_id = call.request_id.as_str();
            "placing a session for body={} on worker={worker_id}", request.body_ip);
        if let Err(failure) = claim.record_attempt(&worker_id).await {
            controller.fleet().refused(reservation);
            return Err(failure);
        }
        let (is_fault, refusal) = match ask(controller, call, request, reservation.url(), &key)
            .await
        {
            Ok(answer) if answer.status == 201 => {
                controller.counters.placement("placed");
                let created = match read_created(controller, call, &worker_id, &answer) {
                    Ok(created) => created,
                    Err(error) => {
                        controller
                            .fleet()
                            .outcome_unknown(clock::now(), reservation);
                        return Err(unreadable(claim, error));
                    }
                };
                let events = controller.fleet().created(
                    clock::now(),
                    clock::wall(),
                    reservation,
                    request,
                    &created,
                );
                return Ok(finish(controller, claim, created, events).await);
            }
            // Full or draining: the fleet's view is seconds old, another worker may have room. Or the
            // worker cannot stream, and has done nothing on the body.
            Ok(answer) if is_refusal(&answer) => {
                let failure = worker_failure(&answer);
                let is_full = matches!(&*failure.reason, "no_capacity" | "draining");
                (!is_full, format!("{}: {}", failure.reason, failure.error))
            }
            // The token differs, or the worker is something else: not this caller's fault.
            Ok(answer) if matches!(answer.status, 401 | 403 | 404 | 405) => {
                let why = format!("answered {}: {}", answer.status, answer.excerpt());
                log::error!(target: "controller", "worker={worker_id} {why}; its controller.token must be this controller's admin_token");
                (true, why)
            }
            Ok(answer) => {
                controller.counters.placement("failed");
                controller.fleet().refused(reservation);
                return Err(worker_failure(&answer));
            }
            Err(error) if did_not_reach(&error) => (false, error.to_string()),
            Err(error) => {
                log::warn!(target: "controller", request_id = call.request_id.as_str();
                    "worker={worker_id} may or may not have made a session: {error}");
                controller.counters.placement("unsure");
                controller
                    .fleet()
                    .outcome_unknown(clock::now(), reservation);
                claim.outcome_unknown();
                let advice = "repeat the request with the same Idempotency-Key to get the session if it was made";
                return Err(timeout(&worker_id, advice));
            }
        };
        controller.counters.placement("refused");
        let mut fleet = controller.fleet();
        placement.refused(&mut fleet, reservation, refusal.clone());
        if is_fault && fleet.create_failed(&worker_id, &refusal) {
            controller.counters.worker_paused();
            log::error!(target: "controller", "worker={worker_id} is passed over for a while: {refusal}");
        }
    }
}

/// Whether the worker did nothing on the body, so that another one may be asked. Who ended the session
/// while it started (deleted, taken over) does not want it elsewhere, and a body that was not left in
/// time is not free elsewhere.
fn is_refusal(answer: &Answer) -> bool {
    let reason = worker_failure(answer).reason;
    let is_ended = EndReason::ALL.iter().any(|end| {
        let is_the_workers = matches!(end, EndReason::WorkerShutdown | EndReason::Drained);
        !is_the_workers && end.slug() == &*reason
    });
    match answer.status {
        503 => !is_ended && &*reason != "timeout",
        502 => &*reason == SPAWN_FAILED,
        _ => false,
    }
}

/// The refusal when no worker takes a session.
pub(super) fn no_place(none: &NoPlace) -> Failure {
    Failure::new(503, none.reason.slug(), "no worker takes the session")
        .detail(none.to_string())
        .retry_after(FULL_RETRY)
}

/// A seed that differs between requests; it need not be random.
fn clock_seed() -> u64 {
    clock::wall()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::from(d.subsec_nanos()) ^ d.as_secs())
}

/// Whether the request cannot have reached the worker.
fn did_not_reach(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Connect(..)
            | ClientError::Resolve(..)
            | ClientError::Tls(..)
            | ClientError::Url(_)
    )
}

async fn ask(
    controller: &Controller,
    call: &Call,
    request: &CreateSession,
    url: &str,
    key: &str,
) -> Result<Answer, ClientError> {
    let order = Outgoing::new(Method::Post, format!("{url}/api/v1/sessions"))
        .bearer(&controller.settings.token)
        .header("x-request-id", call.request_id.as_str())
        .header("idempotency-key", key)
        .json(request)
        .within(CREATE_WITHIN);
    controller.client.send(order).await
}

/// What a worker says that was asked again.
enum Repeated {
    /// The session of that key.
    Made(Created),
    /// No worker has made it.
    Nowhere(ClaimGuard<Created>),
}

/// Asks the worker again that may have made the session for an earlier request with this key, or that
/// has told of it: it answers with that session, or makes it now, or refuses, and then nobody has it.
async fn repeat(
    controller: &Controller,
    call: &Call,
    request: &CreateSession,
    claim: ClaimGuard<Created>,
) -> Result<Repeated, Failure> {
    let Some(key) = claim.key() else {
        return Ok(Repeated::Nowhere(claim));
    };
    let worker = {
        let fleet = controller.fleet();
        let told = claim.request().and_then(|r| fleet.worker_of_key(&r.key));
        let asked = told.or_else(|| claim.attempted().map(str::to_owned));
        asked.and_then(|id| fleet.worker(clock::now(), &id))
    };
    let Some(worker) = worker else {
        return match claim.attempted() {
            // It has not been heard since this controller began.
            Some(_) if !controller.fleet().is_warm(clock::now()) => {
                let failure = api::starting(controller);
                claim.outcome_unknown();
                Err(failure)
            }
            _ => Ok(Repeated::Nowhere(claim)),
        };
    };
    let worker_id = worker.worker_id.as_str();
    match ask(controller, call, request, &worker.url, key).await {
        Ok(answer) if answer.status == 201 => {
            let created = match read_created(controller, call, worker_id, &answer) {
                Ok(created) => created,
                Err(error) => return Err(unreadable(claim, error)),
            };
            let view = super::fleet::announced(clock::wall(), request, &created);
            let events = controller.fleet().announced(clock::now(), worker_id, view);
            let created = finish(controller, claim, created, events).await;
            Ok(Repeated::Made(created))
        }
        Ok(answer) if is_refusal(&answer) => Ok(Repeated::Nowhere(claim)),
        Ok(answer) => Err(worker_failure(&answer)),
        Err(error)
            if did_not_reach(&error)
                && controller.fleet().has_given_up(clock::now(), worker_id) =>
        {
            Ok(Repeated::Nowhere(claim))
        }
        Err(error) => {
            claim.outcome_unknown();
            Err(timeout(worker_id, &error.to_string()))
        }
    }
}

fn timeout(worker_id: &str, detail: &str) -> Failure {
    let what = format!("worker {worker_id} did not answer in time");
    Failure::new(504, "timeout", what)
        .detail(detail.to_owned())
        .retry_after(FULL_RETRY)
}

/// The answer when a worker's 201 cannot be read: it has made a session.
fn unreadable(claim: ClaimGuard<Created>, error: ClientError) -> Failure {
    claim.outcome_unknown();
    Failure::new(502, "bad_worker", "the worker's answer cannot be used").detail(error.to_string())
}

/// Makes a new session known to every controller before the client knows it.
async fn finish(
    controller: &Controller,
    claim: ClaimGuard<Created>,
    created: Created,
    events: Vec<FleetEvent>,
) -> Created {
    controller.count_and_log(&events);
    let (worker_id, id) = (&created.worker_id, &created.session_id);
    controller
        .store
        .announce(controller, worker_id, id, &events)
        .await;
    claim.answered(created.clone());
    created
}

/// A worker's 201, with the stream URL where browsers reach it: at the worker's own public address
/// if it has one, else at ours.
fn read_created(
    controller: &Controller,
    call: &Call,
    worker_id: &str,
    answer: &Answer,
) -> Result<Created, ClientError> {
    let mut created: Created = answer.read()?;
    let public = controller
        .fleet()
        .worker(clock::now(), worker_id)
        .and_then(|w| w.public_url);
    let base = public
        .map(|url| url.trim_end_matches('/').to_owned())
        .unwrap_or_else(|| controller.base_url(&call.host, call.secure));
    if let Ok(url) = Url::parse(&created.stream_url) {
        created.stream_url = format!("{base}{}", &url[http_types::url::Position::BeforePath..]);
    }
    created.worker_id = worker_id.to_owned();
    Ok(created)
}
