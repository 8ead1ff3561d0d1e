//! Creating a session: place, ask the worker, try the next one when it refuses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_types::{Method, Url};

use super::api::relayed;
use super::fleet::{FleetEvent, Reservation};
use super::placement::{Placement, Refusal};
use super::shared::{Held, Keyed};
use super::{Controller, api};
use crate::http::client::{Answer, ClientError, Outgoing};
use crate::http::keyed;
use crate::http::{Call, Failure, Reply};
use crate::ids::SessionId;
use crate::protocol::{CreateSession, Created};
use crate::sync::Mutex;
use crate::{clock, ids};

/// Time a worker has for a session to become ready: `sessions.start_timeout` and cleaning up.
const CREATE_WITHIN: Duration = Duration::from_secs(75);
/// Time a request waits for other creates on the same body.
const TURN_WITHIN: Duration = Duration::from_secs(60);
/// Advice to a client when there is no room.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// One lock for each body that is being paired.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<IpAddr, Weak<smol::lock::Mutex<()>>>>);

impl Turns {
    fn of(&self, body: IpAddr) -> Arc<smol::lock::Mutex<()>> {
        let mut turns = self.0.lock();
        turns.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = turns.get(&body).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        turns.insert(body, Arc::downgrade(&lock));
        lock
    }
}

/// What a request with or without an `Idempotency-Key` is to do.
enum Turn {
    Again(Created),
    Do(Ticket),
}

/// The duty to say how the work went: here, or to every controller of the fleet.
#[derive(Debug)]
enum Ticket {
    Everywhere(Box<Held>),
    Here(keyed::Ticket<Created>),
}

impl Ticket {
    /// Takes the request's turn. Without a key nothing is shared, and the store is not asked.
    async fn take(controller: &Controller, call: &Call) -> Result<Turn, Failure> {
        if let (Some(shared), Some(key)) = (&controller.shared, keyed::key_of(call)?) {
            return Ok(match shared.turn(key, call).await? {
                Keyed::Again(created) => Turn::Again(created),
                Keyed::Do(held) => Turn::Do(Self::Everywhere(Box::new(held))),
            });
        }
        Ok(match controller.keys.turn(call).await? {
            keyed::Turn::Again(created) => Turn::Again(created),
            keyed::Turn::Do(ticket) => Turn::Do(Self::Here(ticket)),
        })
    }

    fn key(&self) -> Option<&str> {
        match self {
            Self::Everywhere(held) => Some(held.key()),
            Self::Here(ticket) => ticket.key(),
        }
    }

    fn retry_at(&self) -> Option<&str> {
        match self {
            Self::Everywhere(held) => held.retry_at(),
            Self::Here(ticket) => ticket.retry_at.as_deref(),
        }
    }

    /// That worker is asked next.
    async fn asking(&mut self, worker_id: &str) -> Result<(), Failure> {
        match self {
            Self::Everywhere(held) => held.asking(worker_id).await,
            Self::Here(_) => Ok(()),
        }
    }

    fn answered(self, created: Created) {
        match self {
            Self::Everywhere(held) => held.answered(created),
            Self::Here(ticket) => ticket.answered(created),
        }
    }

    fn unsure(self, worker_id: &str) {
        match self {
            Self::Everywhere(held) => held.unsure(),
            Self::Here(ticket) => ticket.unsure(worker_id),
        }
    }
}

impl Controller {
    /// A session was made: whoever shares the fleet knows it before the caller does.
    async fn made(&self, id: &SessionId, worker_id: &str, events: Vec<FleetEvent>) {
        let view = self.view_of(id);
        match (&self.shared, view) {
            (Some(shared), Some(view)) => {
                self.note(&events);
                shared.announce(worker_id, view, &events).await;
            }
            _ => self.announce(events),
        }
    }
}

/// `POST /api/v1/sessions`.
pub(super) async fn create(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    let request: CreateSession = call.json()?;
    let ticket = match Ticket::take(&controller, &call).await? {
        Turn::Again(created) => return Ok(answer(&created)),
        Turn::Do(ticket) => ticket,
    };
    let busy = |_| {
        let what = format!("other sessions are being made on body {}", request.body_ip);
        Failure::new(503, "body_busy", what).retry_after(FULL_RETRY)
    };
    let deadline = clock::now() + TURN_WITHIN;
    let turn = controller.bodies.of(request.body_ip);
    let _turn = clock::by(deadline, turn.lock_arc()).await.map_err(busy)?;
    let _everywhere = match &controller.shared {
        Some(shared) => shared
            .turn_at(request.body_ip, deadline)
            .await
            .map_err(busy)?,
        None => None,
    };
    let created = place(&controller, &call, &request, ticket).await?;
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
    mut ticket: Ticket,
) -> Result<Created, Failure> {
    // A worker that may have made the session for an earlier try with this key is asked first: it
    // knows the key and answers with that session.
    if let Some(worker) = ticket.retry_at().map(str::to_owned) {
        return again(controller, call, request, ticket, &worker).await;
    }
    // Workers get a key in any case, so that a lost answer can be asked for again.
    let key = ticket.key().map_or_else(ids::label, str::to_owned);
    let seed = controller.process_id.len() as u64 ^ clock_seed();
    let mut placement = Placement::new(request, seed);
    loop {
        let placed = placement.place(&mut controller.fleet(), clock::now());
        let reservation = placed.map_err(|none| {
            controller.counters.placement(none.reason.slug());
            log::warn!(target: "controller", request_id = call.request_id.as_str(); "no place for a session: {none}");
            Failure::new(503, none.reason.slug(), "no worker takes the session")
                .detail(none.to_string())
                .retry_after(FULL_RETRY)
        })?;
        let worker_id = reservation.worker_id().to_owned();
        log::info!(target: "controller", request_id = call.request_id.as_str();
            "placing a session for body={} on worker={worker_id}", request.body_ip);
        if let Err(failure) = ticket.asking(&worker_id).await {
            controller.fleet().refused(reservation);
            return Err(failure);
        }
        match ask(controller, call, request, reservation.url(), &key).await {
            Ok(answer) if answer.status == 201 => {
                controller.counters.placement("placed");
                return settle(controller, call, request, reservation, &answer, ticket).await;
            }
            // Full or draining: the fleet's view is seconds old, another worker may have room.
            Ok(answer) if answer.status == 503 => {
                let failure = relayed(&answer);
                let why = format!("{}: {}", failure.reason, failure.error);
                controller.counters.placement("refused");
                placement.refused(&mut controller.fleet(), reservation, Refusal::ForAll, why);
            }
            // The token differs, or the worker is something else: not this caller's fault.
            Ok(answer) if matches!(answer.status, 401 | 403 | 404 | 405) => {
                let why = format!("answered {}: {}", answer.status, answer.excerpt());
                log::error!(target: "controller", "worker={worker_id} {why}; its controller.token must be this controller's admin_token");
                controller.counters.placement("refused");
                placement.refused(&mut controller.fleet(), reservation, Refusal::ForAll, why);
            }
            Ok(answer) => {
                controller.counters.placement("failed");
                controller.fleet().refused(reservation);
                return Err(relayed(&answer));
            }
            Err(error) if did_not_reach(&error) => {
                controller.counters.placement("refused");
                placement.refused(
                    &mut controller.fleet(),
                    reservation,
                    Refusal::ForAll,
                    error.to_string(),
                );
            }
            Err(error) => {
                log::warn!(target: "controller", request_id = call.request_id.as_str();
                    "worker={worker_id} may or may not have made a session: {error}");
                controller.counters.placement("unsure");
                controller.fleet().unsure(clock::now(), reservation);
                ticket.unsure(&worker_id);
                return Err(Failure::new(504, "timeout", format!("worker {worker_id} did not answer in time"))
                    .detail("repeat the request with the same Idempotency-Key to get the session if it was made")
                    .retry_after(FULL_RETRY));
            }
        }
    }
}

/// A seed that differs from request to request; nothing depends on its quality.
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

async fn settle(
    controller: &Controller,
    call: &Call,
    request: &CreateSession,
    reservation: Reservation,
    answer: &Answer,
    ticket: Ticket,
) -> Result<Created, Failure> {
    let worker_id = reservation.worker_id().to_owned();
    let mut created: Created = match answer.read() {
        Ok(created) => created,
        Err(error) => {
            controller.fleet().unsure(clock::now(), reservation);
            ticket.unsure(&worker_id);
            return Err(
                Failure::new(502, "bad_worker", "the worker's answer cannot be used")
                    .detail(error.to_string()),
            );
        }
    };
    rebase(controller, call, &worker_id, &mut created);
    let events = controller.fleet().created(
        clock::now(),
        controller.wall(),
        reservation,
        request,
        &created,
    );
    controller
        .made(&created.session_id, &worker_id, events)
        .await;
    ticket.answered(created.clone());
    Ok(created)
}

/// Puts the stream URL where browsers reach it: the worker's own public address where it has one,
/// else ours.
fn rebase(controller: &Controller, call: &Call, worker_id: &str, created: &mut Created) {
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
}

async fn again(
    controller: &Controller,
    call: &Call,
    request: &CreateSession,
    ticket: Ticket,
    worker_id: &str,
) -> Result<Created, Failure> {
    let worker = controller.fleet().worker(clock::now(), worker_id);
    let Some(worker) = worker else {
        return Err(api::unknown(controller));
    };
    let key = ticket.key().unwrap_or_default().to_owned();
    match ask(controller, call, request, &worker.url, &key).await {
        Ok(answer) if answer.status == 201 => {
            let mut created: Created = answer.read().map_err(|error| {
                Failure::new(502, "bad_worker", "the worker's answer cannot be used")
                    .detail(error.to_string())
            })?;
            rebase(controller, call, worker_id, &mut created);
            let view = super::fleet::announced(controller.wall(), request, &created);
            let events = controller.fleet().announced(clock::now(), worker_id, view);
            controller
                .made(&created.session_id, worker_id, events)
                .await;
            ticket.answered(created.clone());
            Ok(created)
        }
        Ok(answer) => Err(relayed(&answer)),
        Err(error) => {
            ticket.unsure(worker_id);
            Err(Failure::new(
                504,
                "timeout",
                format!("worker {worker_id} did not answer in time"),
            )
            .detail(error.to_string())
            .retry_after(FULL_RETRY))
        }
    }
}
