//! The controller's REST API (api.md, "Controller").

use std::sync::Arc;
use std::time::Duration;

use http_types::Method::{Delete, Get, Post};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fleet::FleetError;
use super::{Controller, create, health, metrics, relay};
use crate::dashboard::{Board, Desk, Query};
use crate::http::auth::Bearer;
use crate::http::call::bad_json;
use crate::http::client::Outgoing;
use crate::http::common_routes::{Role, bind, common};
use crate::http::router::Router;
use crate::http::{Call, Failure, Reply};
use crate::ids::SessionId;
use crate::protocol::reading::{self, Reading};
use crate::protocol::{DrainOrder, EndReason, ErrorBody, Health, Heartbeat, SessionView, VERSION};
use crate::{clock, config};

/// Time a worker has to end a session: it answers when nothing of it is left.
const DELETE_WITHIN: Duration = Duration::from_secs(15);

/// Every route of the API.
pub(super) fn router(controller: &Arc<Controller>) -> Router {
    let bearer = Arc::new(Bearer::new(vec![controller.settings.token.clone()]));
    let router = Router::new(bearer).audit(Arc::clone(&controller.audit));
    let router = common(router, controller)
        .secured(
            Post,
            "/api/v1/workers/heartbeat",
            bind(controller, heartbeat),
        )
        .unaudited();
    operate(router, controller)
}

/// The dashboard: the operators' routes again, with the cookie as their authentication.
pub(super) fn desk(controller: &Arc<Controller>) -> Desk {
    let router = controller.dashboard.router();
    let router = router.secured(Get, "/api/v1/board", bind(controller, board));
    Desk(operate(router, controller))
}

/// Adds the operators' routes.
fn operate(router: Router, c: &Arc<Controller>) -> Router {
    router
        .secured(Get, "/api/v1/workers", bind(c, workers))
        .secured(Post, "/api/v1/workers/:id/drain", bind(c, drain))
        .secured(Delete, "/api/v1/workers/:id/drain", bind(c, undrain))
        .secured(Post, "/api/v1/sessions", bind(c, create::create))
        .secured(Get, "/api/v1/sessions", bind(c, sessions))
        .secured(Get, "/api/v1/sessions/:id", bind(c, session))
        .secured(Delete, "/api/v1/sessions/:id", bind(c, delete))
        .secured(Get, "/api/v1/events", bind(c, events))
}

async fn workers(controller: Arc<Controller>, _: Call) -> Result<Reply, Failure> {
    Ok(Reply::json(200, &controller.fleet().workers(clock::now())))
}

async fn sessions(controller: Arc<Controller>, _: Call) -> Result<Reply, Failure> {
    Ok(Reply::json(200, &controller.fleet().sessions()))
}

async fn events(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    controller.event_bus.listen(&call)
}

/// What the dashboard shows.
async fn board(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    let query = Query::of(&call)?;
    let health = health::health(&controller);
    let base = controller.base_url(&call.host, call.secure);
    let now = clock::rfc3339(clock::wall());
    let fleet = controller.fleet();
    let workers = fleet.workers(clock::now());
    let board = Board::new(&query, now, health, workers, fleet.each_session(), &base);
    drop(fleet);
    Ok(Reply::json(200, &board))
}

impl Role for Controller {
    fn health(&self) -> Health {
        health::health(self)
    }

    fn ready(&self) -> Result<Reply, Failure> {
        health::ready(self)
    }

    fn metrics(self: &Arc<Self>) -> Reply {
        metrics::metrics(self)
    }

    fn are_metrics_public(&self) -> bool {
        self.settings.metrics_public
    }
}

async fn heartbeat(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    call.check_json()?;
    let beat = read_beat(&call.body).inspect_err(|_| controller.counters.beat(false))?;
    check_words(&beat).inspect_err(|_| controller.counters.beat(false))?;
    let worker_id = beat.worker_id.clone();
    let unpublished = controller.store.unpublished(&beat);
    let outcome = controller
        .fleet()
        .heartbeat(clock::now(), clock::wall(), beat);
    controller.counters.beat(outcome.is_ok());
    let mut beat = outcome.map_err(|error| {
        log::warn!(target: "controller", "refused a heartbeat: {error} peer={}", call.peer);
        fleet_failure(&error)
    })?;
    if let Some(replaced) = beat.replaced {
        log::info!(target: "controller", "worker={worker_id} replaced its process {replaced}");
    }
    let reply = {
        let mut fleet = controller.fleet();
        let changes = controller.store.apply_drain(&mut fleet, &worker_id);
        beat.events.extend(changes);
        fleet.reply(&worker_id, clock::wall())
    };
    controller.announce(beat.events);
    if let (Some(unpublished), true) = (unpublished, beat.is_fresh) {
        controller.store.forward(unpublished);
    }
    Ok(Reply::json(200, &reply))
}

/// Reads a heartbeat of any version. What cannot be read is logged once.
fn read_beat(text: &[u8]) -> Result<Heartbeat, Failure> {
    let (worker, version, unread) = match reading::read::<Heartbeat>(text) {
        Ok(Reading { value, left_out }) => {
            let who = format!("worker {}", value.worker_id);
            reading::tell("controller", &who, &value.version, &left_out);
            reading::tell("controller", &who, &value.version, &value.sessions.left_out);
            // An unreadable list must not be taken for an empty one: that would end its sessions.
            match left_out.into_iter().find(|l| l.field == "sessions") {
                Some(unread) => (value.worker_id, value.version, unread),
                None => return Ok(value),
            }
        }
        Err(unread) => {
            let said: Value = serde_json::from_slice(text).unwrap_or_default();
            let word = |name: &str| said[name].as_str().unwrap_or("unknown").to_owned();
            (word("worker_id"), word("version"), unread)
        }
    };
    let failure = bad_json(&format!("{unread}; this is version {VERSION}"));
    reading::tell(
        "controller",
        &format!("worker {worker}"),
        &version,
        &[unread],
    );
    Err(failure)
}

/// What a worker says of itself goes into logs, events, paths, pages and calls.
fn check_words(beat: &Heartbeat) -> Result<(), Failure> {
    let is_name = |name: &str| !name.is_empty() && config::is_label(name);
    let names = [
        ("worker_id", &beat.worker_id),
        ("process_id", &beat.process_id),
    ];
    let replaced = beat.replaces.iter().map(|id| ("replaces", id));
    for (field, name) in names.into_iter().chain(replaced) {
        // A client resolves these two as directories.
        if !is_name(name) || matches!(name.as_str(), "." | "..") {
            return Err(bad_word(
                field,
                "must be a name of 1 to 64 ",
                "`.`, `-`, `_`",
            ));
        }
    }
    if !config::is_label(&beat.district) {
        return Err(bad_word(
            "district",
            "must have at most 64 ",
            "`.`, `-`, `_`",
        ));
    }
    // A `+` begins the build's name in a version.
    if !config::is_label(&beat.version.replace('+', "-")) {
        return Err(bad_word(
            "version",
            "must have at most 64 ",
            "`.`, `-`, `_`, `+`",
        ));
    }
    let url = Some(&beat.url).filter(|url| !url.is_empty());
    let urls = [("url", url), ("public_url", beat.public_url.as_ref())];
    for (field, url) in urls {
        let Some(url) = url else { continue };
        // The parser drops line breaks and tabs, which would stay in the text that is kept.
        let wrong = if url.bytes().all(|b| b.is_ascii_graphic()) {
            config::base_url(url).err()
        } else {
            Some(
                "contains a character that is no printable ASCII; write such a host as xn--..."
                    .to_owned(),
            )
        };
        if let Some(wrong) = wrong {
            let what = format!("{field}: {wrong}");
            return Err(Failure::new(400, "bad_request", what));
        }
    }
    Ok(())
}

fn bad_word(field: &str, rule: &str, marks: &str) -> Failure {
    let what = format!("{field}: {rule}ASCII letters, digits and {marks}");
    Failure::new(400, "bad_request", what)
}

fn fleet_failure(error: &FleetError) -> Failure {
    let (status, reason) = match error {
        FleetError::DuplicateWorker { .. } => (409, "duplicate_worker"),
        FleetError::FleetFull { .. } => (503, "fleet_full"),
        FleetError::UnknownWorker { .. } => (404, "not_found"),
    };
    Failure::new(status, reason, error.to_string())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DrainRequest {
    /// RFC 3339 time, or a span from now (`30m`).
    deadline: Option<String>,
}

async fn drain(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    let request: DrainRequest = if call.body.is_empty() {
        DrainRequest::default()
    } else {
        call.json()?
    };
    let deadline = request
        .deadline
        .as_deref()
        .map(crate::http::call::deadline)
        .transpose()?;
    let deadline = deadline.map(clock::rfc3339);
    order_drain(&controller, &call, Some(DrainOrder { deadline })).await?;
    log::info!(target: "controller", "drain worker={} deadline={} request_id={}", call.param("id"),
        request.deadline.as_deref().unwrap_or("none"), call.request_id);
    let worker = controller.fleet().worker(clock::now(), call.param("id"));
    Ok(Reply::json(202, &worker))
}

async fn undrain(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    order_drain(&controller, &call, None).await?;
    log::info!(target: "controller", "undrain worker={} request_id={}", call.param("id"), call.request_id);
    Ok(Reply::empty(204))
}

async fn order_drain(
    controller: &Controller,
    call: &Call,
    drain: Option<DrainOrder>,
) -> Result<(), Failure> {
    let worker_id = call.param("id").to_owned();
    // Before the other controllers get an order for a worker that nobody knows.
    if controller
        .fleet()
        .worker(clock::now(), &worker_id)
        .is_none()
    {
        return Err(fleet_failure(&FleetError::UnknownWorker { worker_id }));
    }
    controller
        .store
        .order_drain(&worker_id, drain.clone())
        .await?;
    let outcome = controller.fleet().order_drain(&worker_id, drain);
    controller.announce(outcome.map_err(|e| fleet_failure(&e))?);
    Ok(())
}

#[derive(Serialize)]
struct OwnedSession {
    worker_id: String,
    #[serde(flatten)]
    session: SessionView,
}

async fn session(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    let id = session_id(&controller, &call)?;
    relay::look_up(&controller, &id).await?;
    let found = controller
        .fleet()
        .session(&id)
        .map(|(worker, session)| OwnedSession {
            worker_id: worker.to_owned(),
            session: session.clone(),
        });
    match found {
        Some(owned) => Ok(Reply::json(200, &owned)),
        None => Err(unknown_session(&controller, &id)),
    }
}

async fn delete(controller: Arc<Controller>, call: Call) -> Result<Reply, Failure> {
    let id = session_id(&controller, &call)?;
    relay::look_up(&controller, &id).await?;
    let route = controller.fleet().session_owner(&id);
    let Some(route) = route else {
        return Err(unknown_session(&controller, &id));
    };
    let order = Outgoing::new(Delete, format!("{}/api/v1/sessions/{id}", route.url))
        .bearer(&controller.settings.token)
        .header("x-request-id", call.request_id.as_str())
        .within(DELETE_WITHIN);
    let answer = controller.client.send(order).await.map_err(|error| {
        log::warn!(target: "controller", "cannot end session={id} worker={}: {error} request_id={}",
            route.worker_id, call.request_id);
        Failure::new(
            502,
            "worker_unreachable",
            format!("worker {} does not answer", route.worker_id),
        )
        .detail(error.to_string())
    })?;
    match answer.status {
        204 => {
            // Its worker tells when its body is left, too.
            controller
                .fleet()
                .session_ending(&id, Some(EndReason::Deleted));
            controller.store.session_ended(&id);
            Ok(Reply::empty(204))
        }
        _ => Err(worker_failure(&answer)),
    }
}

fn session_id(controller: &Controller, call: &Call) -> Result<SessionId, Failure> {
    call.param("id").parse().map_err(|_| unknown(controller))
}

/// The answer for an unknown session: 404 if it has ended, else as [`unknown`].
fn unknown_session(controller: &Controller, id: &SessionId) -> Failure {
    match controller.ended.worker_of(id) {
        Some(_) => Failure::not_found("session"),
        None => unknown(controller),
    }
}

/// The answer for an unknown session: 404, or 503 while a controller that has just started has not
/// heard its workers yet.
pub(super) fn unknown(controller: &Controller) -> Failure {
    if controller.fleet().is_warm(clock::now()) {
        return Failure::not_found("session");
    }
    starting(controller)
}

/// 503: the controller has just started, and has not heard from its workers yet.
pub(super) fn starting(controller: &Controller) -> Failure {
    Failure::new(
        503,
        "starting",
        "the controller has just started and is hearing from its workers",
    )
    .retry_after(controller.settings.pace.heartbeat_interval)
}

/// A worker's error answer, for this controller's client.
pub(super) fn worker_failure(answer: &crate::http::client::Answer) -> Failure {
    match answer.read::<ErrorBody>() {
        Ok(body) if (400..600).contains(&answer.status) => {
            let mut failure = Failure::new(answer.status, body.reason, body.error);
            failure.detail = body.detail;
            failure.owner = body.owner.map(Box::new);
            failure.retry_after = answer
                .fields
                .text("retry-after")
                .and_then(|v| v.parse().ok())
                .map(Duration::from_secs);
            failure
        }
        _ => Failure::new(
            502,
            "bad_worker",
            format!("the worker answered with status {}", answer.status),
        )
        .detail(answer.excerpt()),
    }
}
