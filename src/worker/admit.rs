//! Admitting a session: judge the wish, take a slot, start its life.

use std::sync::Arc;
use std::time::Duration;

use super::driver::Driver;
use super::effects::{StepContext, program_user};
use super::session_handle::{
    Birth, SessionHandle, SessionRequest, SessionResources, Shown, snippet,
};
use super::{Worker, body_owners};
use crate::body::experience::Launch;
use crate::body::sunshine::SunshineCredentials;
use crate::clock;
use crate::http::idempotency::{self, Claim, RequestKey};
use crate::http::{Call, Failure, Reply};
use crate::ids::SessionId;
use crate::protocol::{CreateSession, Created, EndReason, Status};
use crate::secret::Secret;
use crate::session::lifecycle::Lifecycle;
use crate::session::ports::PortError;

/// Advice to a client when there is no room.
pub(super) const FULL_RETRY: Duration = Duration::from_secs(5);
/// Longest free text of a request: an executable's path on Windows has up to 32,767 characters,
/// names and credentials are short.
const TEXT_MAX: usize = 1_024;
const PATH_MAX: usize = 32_767;

/// `POST /api/v1/sessions`.
pub(super) async fn create(worker: Arc<Worker>, call: Call) -> Result<Reply, Failure> {
    let request: CreateSession = call.json()?;
    let claim = match idempotency::claim(&worker.keys, &call).await? {
        Claim::Answered(id) => return repeated(&worker, &call, &id, request.wait).await,
        Claim::Granted(claim) => claim,
    };
    let wait = request.wait;
    let key = claim.request().filter(|key| !key.is_own).cloned();
    let live = admit(&worker, request, key, &call).await?;
    let shown = is_made(&live, wait).await;
    if let Some(reason) = shown.end_reason {
        return Err(start_failure(reason, shown.failure));
    }
    claim.answered(live.id.clone());
    Ok(answer(
        &worker,
        &call,
        &live.id,
        shown.status,
        shown.stream_path,
    ))
}

/// Waits until a session is ready or over; without `wait` until a restart of the worker keeps it.
async fn is_made(live: &SessionHandle, wait: bool) -> Shown {
    if wait {
        // Ended at the latest by `sessions.start_timeout` and the time for cleaning up.
        live.wait(|s| s.is_up || s.is_gone).await
    } else {
        // What was promised is known to the next process, too.
        live.wait(|s| s.is_kept).await
    }
}

/// The answer to a request that came again: about the session that was made, as it is now.
async fn repeated(
    worker: &Worker,
    call: &Call,
    id: &SessionId,
    wait: bool,
) -> Result<Reply, Failure> {
    let Some(live) = worker.roster.known(id) else {
        return Ok(answer(worker, call, id, Status::Ended, None));
    };
    let shown = is_made(&live, wait).await;
    if let (Some(reason), None) = (shown.end_reason, shown.ready_at) {
        return Err(start_failure(reason, shown.failure));
    }
    Ok(answer(worker, call, id, shown.status, shown.stream_path))
}

fn answer(
    worker: &Worker,
    call: &Call,
    id: &SessionId,
    status: Status,
    stream_path: Option<String>,
) -> Reply {
    let base = match &worker.settings.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!(
            "{}://{}",
            if call.secure { "https" } else { "http" },
            call.host
        ),
    };
    let path = stream_path.unwrap_or_else(|| format!("/session/{id}/"));
    let created = Created {
        session_id: id.clone(),
        stream_url: format!("{base}{path}"),
        worker_id: worker.settings.worker_id.clone(),
        status,
    };
    Reply::json(201, &created).header("Location", format!("/api/v1/sessions/{id}"))
}

/// A session that ended before it was ready.
fn start_failure(reason: EndReason, failure: Option<(&'static str, String)>) -> Failure {
    match (reason, failure) {
        (EndReason::StartFailed | EndReason::ProcessExited, Some((slug, why))) => match slug {
            "disk_full" => disk_full(why),
            "timeout" => Failure::new(504, slug, why),
            _ => Failure::new(502, slug, why),
        },
        (reason, _) => Failure::new(
            503,
            reason.to_string(),
            format!("the session ended before it was ready: {reason}"),
        ),
    }
}

async fn admit(
    worker: &Arc<Worker>,
    request: CreateSession,
    key: Option<RequestKey>,
    call: &Call,
) -> Result<Arc<SessionHandle>, Failure> {
    worker.refusal().map_or(Ok(()), |why| Err(refused(why)))?;
    let mut wish = wish(worker, request, key)?;
    let credentials =
        SunshineCredentials::new(wish.user.clone(), wish.password.clone()).map_err(|e| {
            Failure::new(
                400,
                "bad_request",
                format!("sunshine_user, sunshine_pass: {e}"),
            )
        })?;
    let body = worker
        .bodies
        .body(wish.request.body_ip, credentials)
        .map_err(|e| Failure::new(400, "forbidden_address", e.to_string()))?;
    wish.request.body_ip = body.ip();
    // Before anything is begun that a restart would have to find.
    worker.check_disk().await.map_err(disk_full)?;
    if let Some((slug, why)) = worker.shortage() {
        return Err(Failure::new(503, slug, why).retry_after(FULL_RETRY));
    }
    let id = SessionId::random().map_err(|e| {
        Failure::new(
            503,
            "no_randomness",
            format!("the kernel gives no random bytes: {e}"),
        )
    })?;
    let takeover = std::mem::take(&mut wish.request.takeover);
    let claim = body_owners::claim(worker, call, body.ip(), &id, takeover).await?;
    let slot = worker.ports.claim().map_err(|error| {
        let what = match &error {
            PortError::Full { .. } => format!("all {} slots are taken", worker.settings.max),
            other => other.to_string(),
        };
        Failure::new(503, "no_capacity", what).retry_after(FULL_RETRY)
    })?;
    if let Some(launch) = &mut wish.launch {
        launch.session_id = id.to_string();
    }
    let settings = &worker.settings;
    let tag = snippet(&id, &wish, settings);
    let place = SessionResources::new(slot, worker.sessions_dir.of(&id));
    let (live, inbox) = SessionHandle::new(id, wish, place, program_user(), tag, Birth::now());
    let life = Lifecycle::new(clock::now(), settings.life);
    let mut driver = Driver::new(
        worker,
        &live,
        life,
        StepContext::new(Some(body.clone()), claim),
    );
    driver
        .begin_ledger()
        .await
        .map_err(|e| disk_full(e.to_string()))?;
    if let Err(why) = worker.enlist(&live) {
        driver.give_up().await;
        return Err(refused(why));
    }
    log::info!(target: "worker", session = live.id.as_str(), request_id = call.request_id.as_str();
        "admitted body={} port={}", body.ip(), live.port);
    worker.publish("session_created", &live.id, serde_json::Map::new());
    driver.start(inbox);
    Ok(live)
}

/// The state disk takes no ledger entry: another worker may serve.
fn disk_full(why: String) -> Failure {
    Failure::new(503, "disk_full", why).retry_after(FULL_RETRY)
}

fn refused(why: &'static str) -> Failure {
    Failure::new(503, "draining", why).retry_after(FULL_RETRY)
}

fn wish(
    worker: &Worker,
    request: CreateSession,
    key: Option<RequestKey>,
) -> Result<SessionRequest, Failure> {
    for (field, value, max) in [
        ("sunshine_user", &request.sunshine_user, TEXT_MAX),
        ("sunshine_pass", &request.sunshine_pass, TEXT_MAX),
        ("experience", &request.experience, TEXT_MAX),
        ("exe_path", &request.exe_path, PATH_MAX),
        ("district", &request.district, TEXT_MAX),
        ("app", &request.app, TEXT_MAX),
    ] {
        if value.as_ref().is_some_and(|v| v.chars().count() > max) {
            return Err(Failure::new(
                400,
                "bad_request",
                format!("{field}: more than {max} characters"),
            ));
        }
    }
    let settings = &worker.settings;
    let missing = |field: &str, key: &str| {
        Failure::new(
            400,
            "bad_request",
            format!("{field}: missing, and {key} is not configured"),
        )
    };
    let user = request
        .sunshine_user
        .clone()
        .or_else(|| settings.sunshine_user.clone());
    let user = user.ok_or_else(|| missing("sunshine_user", "sunshine.username"))?;
    let password = request.sunshine_pass.clone().map(Secret::new);
    let password = password.or_else(|| settings.sunshine_password.clone());
    let password = password.ok_or_else(|| missing("sunshine_pass", "sunshine.password"))?;
    let launch = launch_of(&request);
    Ok(SessionRequest {
        request,
        user,
        password,
        launch,
        key,
    })
}

/// What hydrabody is to launch for that request; the session is still to be named.
pub(super) fn launch_of(request: &CreateSession) -> Option<Launch> {
    let exe_path = request.exe_path.as_ref().filter(|p| !p.is_empty())?;
    Some(Launch::new(request.experience.as_deref(), exe_path, ""))
}
