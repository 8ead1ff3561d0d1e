//! The worker's REST API (api.md, "Worker").

use std::sync::Arc;
use std::time::Duration;

use http_types::Method;
use serde::Deserialize;

use super::session_handle::SessionHandle;
use super::{Worker, admit, body_owners, health, metrics};
use crate::clock;
use crate::http::auth::Bearer;
use crate::http::common_routes::{Role, bind, common};
use crate::http::router::Router;
use crate::http::{Call, Failure, Reply};
use crate::protocol::{EndReason, Health, Yield};
use crate::session::lifecycle::Input;

/// Wait for the processes and files of a deleted session to be gone: two rounds of killing.
const DELETE_WITHIN: Duration = Duration::from_secs(14);
/// Wait for a session whose body is taken over to have left it: closing its app takes 15 s.
const YIELD_WITHIN: Duration = Duration::from_secs(40);

/// Every route of the API. The controller comes with its own token, which is this worker's
/// `controller.token`.
pub(super) fn router(worker: &Arc<Worker>) -> Router {
    let mut tokens = vec![("admin_token", worker.settings.token.clone())];
    let controller = worker.settings.controller.as_ref();
    tokens.extend(controller.map(|c| ("controller_token", c.token.clone())));
    let bearer = Arc::new(Bearer::named(tokens));
    let router = Router::new(bearer).audit(Arc::clone(&worker.audit));
    common(router, worker)
        .open(Method::Get, "/admin", |_| async {
            let line = "this is a worker: the dashboard is the controller's, at its /admin\n";
            Ok(Reply::text(404, "text/plain; charset=utf-8", line))
        })
        .secured(
            Method::Post,
            "/api/v1/sessions",
            bind(worker, admit::create),
        )
        .secured(
            Method::Get,
            "/api/v1/sessions",
            bind(worker, |w, _| async move {
                Ok(Reply::json(200, &w.roster.views()))
            }),
        )
        .secured(Method::Get, "/api/v1/sessions/:id", bind(worker, session))
        .secured(Method::Delete, "/api/v1/sessions/:id", bind(worker, delete))
        .secured(
            Method::Post,
            "/api/v1/sessions/:id/yield",
            bind(worker, yield_body),
        )
        .secured(Method::Post, "/api/v1/drain", bind(worker, drain))
        .secured(
            Method::Delete,
            "/api/v1/drain",
            bind(worker, |w, _| async move {
                w.undrain();
                Ok(Reply::empty(204))
            }),
        )
        .secured(
            Method::Get,
            "/api/v1/events",
            bind(worker, |w, call| async move { w.hub.listen(&call) }),
        )
}

impl Role for Worker {
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

async fn session(worker: Arc<Worker>, call: Call) -> Result<Reply, Failure> {
    Ok(Reply::json(200, &found(&worker, &call)?.view()))
}

/// Ends a session and answers when no process and no file of it is left; the clean-up of its body may
/// go on.
async fn delete(worker: Arc<Worker>, call: Call) -> Result<Reply, Failure> {
    let live = found(&worker, &call)?;
    let shown = live.shown();
    if shown.is_slot_free {
        // Whoever ended it has its answer.
        return Err(Failure::not_found("session"));
    }
    if shown.end_reason.is_none() {
        log::info!(target: "worker", session = live.id.as_str(), request_id = call.request_id.as_str(); "delete");
        live.report(Input::EndRequested(EndReason::Deleted)).await;
    }
    let gone = async { drop(live.wait(|s| s.is_slot_free || s.is_gone).await) };
    ended(DELETE_WITHIN, gone).await
}

/// Ends a session so that another one gets its body, and answers when the body is free. Without
/// `takeover` only a session that gives way is ended.
async fn yield_body(worker: Arc<Worker>, call: Call) -> Result<Reply, Failure> {
    let Yield { takeover } = call.json()?;
    let live = found(&worker, &call)?;
    if live.shown().end_reason.is_none() {
        if !takeover && !body_owners::gives_way(&worker, &live) {
            return Err(body_owners::busy(&worker, &live.id));
        }
        body_owners::take_over(&worker, &call, &live).await;
    }
    ended(YIELD_WITHIN, worker.owners.given_back(&live.id)).await
}

fn found(worker: &Worker, call: &Call) -> Result<Arc<SessionHandle>, Failure> {
    let id = call.param("id").parse().ok();
    id.and_then(|id| worker.roster.find(&id))
        .ok_or_else(|| Failure::not_found("session"))
}

async fn ended(within: Duration, end: impl Future<Output = ()>) -> Result<Reply, Failure> {
    let done = clock::by(clock::now() + within, end).await;
    done.map(|()| Reply::empty(204)).map_err(|_| {
        let within = clock::human(within);
        let what = format!("the session is ending, but has not ended within {within}");
        Failure::new(504, "timeout", what)
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SessionRequest {
    deadline: Option<String>,
}

async fn drain(worker: Arc<Worker>, call: Call) -> Result<Reply, Failure> {
    let wish: SessionRequest = if call.body.is_empty() {
        SessionRequest::default()
    } else {
        call.json()?
    };
    let deadline = wish
        .deadline
        .as_deref()
        .map(crate::http::call::deadline)
        .transpose()?;
    worker.drain(deadline);
    Ok(Reply::json(
        202,
        &serde_json::json!({
            "worker_id": worker.settings.worker_id,
            "status": "draining",
            "active_sessions": worker.roster.len(),
            "deadline": deadline.map(clock::rfc3339),
        }),
    ))
}
