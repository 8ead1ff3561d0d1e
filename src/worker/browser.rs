//! `/session/<id>/...`: what visitors' browsers reach without a token.
//!
//! Our own endpoints of a session (`own`), and behind an allow-list the stream program's page.

mod own;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::session_handle::{SessionHandle, policy};
use super::{Worker, api};
use crate::body::stream_api::USER_HEADER;
use crate::http::exchange::{API_BODY_MAX, BROWSER_BODY_MAX};
use crate::http::router::Router;
use crate::http::server::Service;
use crate::http::{Done, Exchange, Failure, Reply};
use crate::ids::SessionId;
use crate::page::{self, SessionInfo};
use crate::protocol::Status;
use crate::proxy::origin_guard;

use own::Own;

/// What the stream page reads of the stream program's API, in any generation; the rest would let a
/// visitor add hosts, unpair the body or pair another, and other methods give its user a password.
const ALLOWED_API: [&str; 4] = [
    "api/authenticate",
    "api/host/stream",
    "api/role",
    "api/user",
];
const ALLOWED_API_BELOW: &str = "api/settings/";

/// Everything a worker serves.
pub(super) struct Front {
    worker: Arc<Worker>,
    api: Router,
}

impl Front {
    pub(super) fn new(worker: &Arc<Worker>) -> Self {
        Self {
            worker: Arc::clone(worker),
            api: api::router(worker),
        }
    }
}

#[async_trait]
impl Service for Front {
    async fn serve(&self, exchange: Exchange) -> Done {
        let Some(rest) = exchange.head.path().strip_prefix("/session/") else {
            return exchange.serve(&self.api, API_BODY_MAX).await;
        };
        match origin_guard::guard(&exchange.head) {
            Ok(None) => {}
            Ok(Some(reply)) => return exchange.answer(reply).await,
            Err(failure) => return exchange.answer_failure(failure).await,
        }
        let (id, inner) = rest
            .split_once('/')
            .map_or((rest, None), |(id, inner)| (id, Some(inner.to_owned())));
        let id = id.parse::<SessionId>().ok();
        let live = id.as_ref().and_then(|id| self.worker.roster.find(id));
        let ours = inner.as_deref().is_some_and(is_ours);
        match (live, inner) {
            (Some(live), Some(inner)) if ours => {
                let handler = Own {
                    worker: Arc::clone(&self.worker),
                    live,
                    inner,
                };
                exchange.serve(&handler, BROWSER_BODY_MAX).await
            }
            (Some(live), inner) => {
                self.stream_page(exchange, &live, inner.as_deref().unwrap_or(""))
                    .await
            }
            // The overlay comes after the end, and so does the rating.
            (None, Some(inner)) if inner == "rating" => {
                match id.and_then(|id| self.worker.roster.ended(&id)) {
                    Some(live) => {
                        let handler = Own {
                            worker: Arc::clone(&self.worker),
                            live,
                            inner,
                        };
                        exchange.serve(&handler, BROWSER_BODY_MAX).await
                    }
                    None => exchange.answer_failure(Failure::not_found("session")).await,
                }
            }
            // Quit is idempotent, also when the session is gone already.
            (None, Some(inner))
                if inner == "quit" && id.is_some() && exchange.head.method.as_str() == "POST" =>
            {
                exchange.answer(Reply::empty(204)).await
            }
            (None, inner) => self.gone(exchange, id, inner.as_deref()).await,
        }
    }
}

fn is_ours(inner: &str) -> bool {
    matches!(
        inner,
        "quit" | "rating" | "stats" | "events" | "mic" | "mic/offer"
    ) || inner.starts_with("_neck/")
}

fn is_allowed(method: &str, inner: &str) -> bool {
    if inner.split('/').any(|part| part == "." || part == "..") || inner.contains('%') {
        // No file of the page has such a name; what the stream program makes of one is not ours
        // to guess.
        return false;
    }
    let lower = inner.to_ascii_lowercase();
    if !lower.starts_with("api/") && lower != "api" && !lower.starts_with('/') {
        return true;
    }
    let is_read = matches!(method, "GET" | "HEAD");
    is_read && (ALLOWED_API.contains(&inner) || inner.starts_with(ALLOWED_API_BELOW))
}

fn language(exchange: &Exchange) -> Option<String> {
    exchange
        .head
        .fields
        .text("accept-language")
        .map(str::to_owned)
}

fn is_browser(exchange: &Exchange) -> bool {
    exchange
        .head
        .fields
        .members("accept")
        .any(|m| m.starts_with(b"text/html"))
}

impl Front {
    async fn stream_page(
        &self,
        exchange: Exchange,
        live: &Arc<SessionHandle>,
        inner: &str,
    ) -> Done {
        let shown = live.shown();
        if shown.status == Status::Ending || shown.status == Status::Ended {
            return self
                .gone(exchange, Some(live.id.clone()), Some(inner))
                .await;
        }
        if inner.is_empty() && is_browser(&exchange) {
            // The stream program's own index lists hosts through an API that is closed here.
            return match &shown.stream_path {
                Some(path) => {
                    exchange
                        .answer(Reply::empty(302).header("Location", path.clone()))
                        .await
                }
                None => {
                    let page = starting(language(&exchange).as_deref());
                    exchange.answer(page).await
                }
            };
        }
        if !is_allowed(exchange.head.method.as_str(), inner) {
            let failure = Failure::new(
                403,
                "forbidden",
                "this part of the stream program is not open to browsers",
            );
            return exchange.answer_failure(failure).await;
        }
        if !shown.is_up {
            if is_browser(&exchange) {
                return {
                    let page = starting(language(&exchange).as_deref());
                    exchange.answer(page).await
                };
            }
            let failure = Failure::new(503, "starting", "the stream process is starting");
            return exchange
                .answer_failure(failure.retry_after(Duration::from_secs(1)))
                .await;
        }
        let policy = policy(live, USER_HEADER, language(&exchange));
        self.worker
            .proxy
            .forward(exchange, &live.upstream(), &policy)
            .await
    }

    async fn gone(&self, exchange: Exchange, id: Option<SessionId>, inner: Option<&str>) -> Done {
        let reason = id.as_ref().and_then(|id| {
            let roster = &self.worker.roster;
            let live = roster.find(id).or_else(|| roster.ended(id));
            live.and_then(|live| live.shown().end_reason)
        });
        if let (Some(reason), Some(id), Some("_neck/session.json")) = (reason, &id, inner) {
            let info = SessionInfo {
                session_id: id.clone(),
                status: Status::Ended,
                end_reason: Some(reason),
                ice_servers: Vec::new(),
            };
            return exchange
                .answer(Reply::json(200, &info).header("Cache-Control", "no-store"))
                .await;
        }
        // Pages that are still open need their files to show that it is over.
        if let Some(asset) = inner
            .and_then(|i| i.strip_prefix("_neck/"))
            .and_then(page::asset)
        {
            return exchange.answer(asset_reply(&asset)).await;
        }
        if is_browser(&exchange) {
            let page = page::gone(
                &self.worker.settings.return_url,
                language(&exchange).as_deref(),
            );
            let reply = Reply::text(404, "text/html; charset=utf-8", page);
            return exchange
                .answer(reply.header("Cache-Control", "no-store"))
                .await;
        }
        exchange.answer_failure(Failure::not_found("session")).await
    }
}

/// A page that asks again until the stream can be opened.
fn starting(language: Option<&str>) -> Reply {
    Reply::text(503, "text/html; charset=utf-8", page::unavailable(language))
        .header("Cache-Control", "no-store")
        .header("Retry-After", "2")
        .header("Refresh", "2")
}

fn asset_reply(asset: &page::PageFile) -> Reply {
    Reply::bytes(200, asset.content_type, asset.bytes.to_vec())
        .header("ETag", asset.etag.as_str())
        .header("Cache-Control", "no-cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_reach_the_page_and_what_it_needs_and_nothing_else() {
        for open in [
            "stream.html",
            "stream.js",
            "config.js",
            "api/authenticate",
            "api/host/stream",
            "styles/index.js",
            "api/settings/default",
            "apix.js",
        ] {
            assert!(is_allowed("GET", open), "{open}");
        }
        for closed in [
            "api/hosts",
            "api/host",
            "api/pair",
            "api/login",
            "api/users",
            "api/host/cancel",
            "API/hosts",
            "api",
            "a/../api/hosts",
            "./api/hosts",
            "a/%2e%2e/api/hosts",
            "%61pi/hosts",
            "/api/hosts",
            "api//hosts",
            "api/host/stream/webrtc",
            "api/authenticate/",
        ] {
            assert!(!is_allowed("GET", closed), "{closed}");
        }
        for method in ["POST", "PATCH", "PUT", "DELETE", "OPTIONS"] {
            for read in ["api/user", "api/role", "api/settings/default"] {
                assert!(!is_allowed(method, read), "{method} {read}");
            }
        }
    }
}
