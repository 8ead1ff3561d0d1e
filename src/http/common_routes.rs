//! What the APIs of both roles have in common: signs of life and figures.

use std::future::Future;
use std::sync::Arc;

use http_types::Method;

use super::router::Router;
use super::{Call, Failure, Handler, Reply};
use crate::protocol::Health;

/// A controller or a worker, as its API shows it.
pub(crate) trait Role: Send + Sync + 'static {
    /// `GET /api/v1/health`.
    fn health(&self) -> Health;

    /// `GET /readyz`: whether a session could be created now.
    ///
    /// # Errors
    /// 503 that says why not.
    fn ready(&self) -> Result<Reply, Failure>;

    /// `GET /metrics`.
    fn metrics(self: &Arc<Self>) -> Reply;

    /// Whether anybody may read them.
    fn are_metrics_public(&self) -> bool;
}

/// Adds what every role answers.
#[must_use]
pub(crate) fn common<R: Role>(router: Router, role: &Arc<R>) -> Router {
    router
        .open(
            Method::Get,
            "/api/v1/health",
            bind(
                role,
                |r, _| async move { Ok(Reply::json(200, &r.health())) },
            ),
        )
        .open(Method::Get, "/livez", |_| async {
            Ok(Reply::text(200, "text/plain", "alive\n"))
        })
        .open(
            Method::Get,
            "/readyz",
            bind(role, |r, _| async move { r.ready() }),
        )
        .open(Method::Get, "/api/v1/openapi.json", |_| async {
            Ok(super::openapi::reply())
        })
        .route(
            Method::Get,
            "/metrics",
            !role.are_metrics_public(),
            bind(role, |r, _| async move { Ok(r.metrics()) }),
        )
}

/// A handler that is given its role.
pub(crate) fn bind<R, F, Fut>(role: &Arc<R>, handler: F) -> impl Handler
where
    R: Send + Sync + 'static,
    F: Fn(Arc<R>, Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    let role = Arc::clone(role);
    move |call: Call| handler(Arc::clone(&role), call)
}
