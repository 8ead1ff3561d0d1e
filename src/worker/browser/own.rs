//! Our own endpoints of a session: quit, rating, statistics, events, microphone, and the page's files.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_types::Method;
use serde::Deserialize;

use super::asset_reply;
use crate::clock;
use crate::http::audit::Caller;
use crate::http::auth::{self, Asking};
use crate::http::{Call, Failure, Handler, Reply};
use crate::page::{self, SessionInfo};
use crate::protocol::{EndReason, PageStats, Status};
use crate::records::rating::Rating;
use crate::session::lifecycle::Input;
use crate::worker::session_handle::{SessionHandle, Wanted};
use crate::worker::{Worker, ice_servers};

/// Least time between two digests of a page's statistics.
const STATS_PAUSE: Duration = Duration::from_millis(900);
/// Advice to a page whose rating could not be written.
const RATING_RETRY: Duration = Duration::from_secs(5);
/// Largest digest.
const STATS_MAX: usize = 4 * 1024;

/// Our own endpoints of one session.
pub(super) struct Own {
    pub(super) worker: Arc<Worker>,
    pub(super) live: Arc<SessionHandle>,
    pub(super) inner: String,
}

#[async_trait]
impl Handler for Own {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let changes = !matches!(call.method, Method::Get | Method::Head) && self.inner != "stats";
        let caller = changes.then(|| Caller::of(&call));
        let outcome = self.respond(call).await;
        // A line for each of a flood would be a flood.
        let is_flood = |failure: &Failure| failure.status == 429;
        if let Some(caller) = caller.filter(|_| !outcome.as_ref().is_err_and(is_flood)) {
            self.worker.audit.note("visitor", &caller, &outcome);
        }
        outcome
    }
}

impl Own {
    /// Digests and offers are bounded where they go.
    fn check_pace(&self, method: Method) -> Result<(), Failure> {
        let wanted = match (method, self.inner.as_str()) {
            (Method::Post, "stats" | "mic/offer") => return Ok(()),
            (Method::Post, "quit") => Wanted::Quit,
            (Method::Post, "rating") => Wanted::Rating,
            _ => Wanted::Other,
        };
        self.live.admit_wish(wanted).map_err(|wait| {
            Failure::new(429, "too_many_requests", "too many requests of one session")
                .retry_after(wait)
        })
    }

    async fn respond(&self, call: Call) -> Result<Reply, Failure> {
        if !matches!(call.method, Method::Get | Method::Head) {
            self.check_pace(call.method)?;
            check_origin(&call)?;
        }
        match (call.method, self.inner.as_str()) {
            (Method::Post, "quit") => Ok(self.quit()),
            (Method::Post, "rating") => self.rating(&call).await,
            (Method::Post, "stats") => self.stats(&call),
            (Method::Get, "events") => self.live.admit_feed().await.ok_or_else(|| {
                Failure::new(
                    429,
                    "too_many_requests",
                    "too many event streams of one session",
                )
                .retry_after(Duration::from_secs(5))
            }),
            (Method::Post, "mic/offer") => self.mic_offer(&call),
            (Method::Delete, "mic") => {
                self.worker.mics.stop(&self.live.id);
                Ok(Reply::empty(204))
            }
            (Method::Get | Method::Head, "_neck/session.json") => {
                Ok(Reply::json(200, &self.info()).header("Cache-Control", "no-store"))
            }
            (Method::Get | Method::Head, inner) => {
                let asset = inner.strip_prefix("_neck/").and_then(page::asset);
                let asset = asset.ok_or_else(|| Failure::not_found("file"))?;
                if call.header("if-none-match") == Some(asset.etag.as_str()) {
                    return Ok(Reply::empty(304).header("ETag", asset.etag.as_str()));
                }
                Ok(asset_reply(&asset))
            }
            (method, _) => Err(Failure::new(
                405,
                "method_not_allowed",
                format!("{method} is not allowed here"),
            )),
        }
    }
}

/// A browser says where its request comes from; other pages have no business here. Programs send
/// no `Origin`.
fn check_origin(call: &Call) -> Result<(), Failure> {
    if Asking::Whole(call).is_foreign() {
        return Err(auth::foreign());
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Score {
    score: u8,
}

/// `RTCPeerConnectionState` (W3C WebRTC).
const CONNECTION_STATES: [&str; 6] = [
    "closed",
    "connected",
    "connecting",
    "disconnected",
    "failed",
    "new",
];
/// `RTCIceCandidateType` (W3C WebRTC).
const CANDIDATE_TYPES: [&str; 4] = ["host", "prflx", "relay", "srflx"];

/// A digest without words that no browser has: they would go into records. A number that cannot be
/// is an error that names its field.
fn judged(mut stats: PageStats) -> Result<PageStats, &'static str> {
    for (field, number) in [
        ("rtt_ms", stats.rtt_ms),
        ("bitrate_kbps", stats.bitrate_kbps),
        ("fps", stats.fps),
    ] {
        if number.is_some_and(|n| n < 0.0) {
            return Err(field);
        }
    }
    let known = |said: &String, words: &[&str]| words.contains(&said.as_str());
    let state = stats.connection_state.take();
    stats.connection_state = state.filter(|said| known(said, &CONNECTION_STATES));
    let kind = stats.ice_candidate_type.take();
    stats.ice_candidate_type = kind.filter(|said| known(said, &CANDIDATE_TYPES));
    Ok(stats)
}

impl Own {
    fn quit(&self) -> Reply {
        log::info!(target: "session", session = self.live.id.as_str(); "the visitor quit");
        self.live.tell(Input::EndRequested(EndReason::Quit));
        Reply::empty(204)
    }

    async fn rating(&self, call: &Call) -> Result<Reply, Failure> {
        let Score { score } = call.json()?;
        if !(1..=10).contains(&score) {
            return Err(Failure::new(
                400,
                "bad_request",
                format!("score: {score} is not between 1 and 10"),
            ));
        }
        self.live.rate(score);
        let request = &self.live.wish.request;
        let rating = Rating {
            experience: request.experience.clone(),
            score,
            session_id: self.live.id.clone(),
            district: request
                .district
                .clone()
                .unwrap_or_else(|| self.worker.settings.district.clone()),
            timestamp: clock::rfc3339(clock::wall()),
        };
        log::info!(target: "rating", session = self.live.id.as_str(); "score={score}");
        if let Err(error) = self.worker.ratings.put(&rating).await {
            log::error!(target: "rating", session = self.live.id.as_str(); "score={score} is not sent: {error}");
            return Err(
                Failure::new(503, "disk_full", "the rating cannot be kept now")
                    .retry_after(RATING_RETRY),
            );
        }
        let mut more = serde_json::Map::new();
        more.insert("score".into(), score.into());
        self.worker.publish("rating", &self.live.id, more);
        Ok(Reply::empty(204))
    }

    fn stats(&self, call: &Call) -> Result<Reply, Failure> {
        if call.body.len() > STATS_MAX {
            return Err(Failure::new(
                413,
                "content_too_large",
                format!("at most {STATS_MAX} bytes"),
            ));
        }
        let stats = judged(call.json()?).map_err(|field| {
            Failure::new(400, "bad_request", format!("{field}: cannot be negative"))
        })?;
        if !self.live.measure(stats.clone(), STATS_PAUSE) {
            return Err(
                Failure::new(429, "too_many_requests", "at most one digest a second")
                    .retry_after(Duration::from_secs(1)),
            );
        }
        self.worker.counters.measured(&stats);
        Ok(Reply::empty(204))
    }

    fn mic_offer(&self, call: &Call) -> Result<Reply, Failure> {
        if !self.worker.settings.mic_enabled {
            return Err(Failure::new(
                404,
                "mic_disabled",
                "the microphone is not offered here",
            ));
        }
        let target = (
            self.live.wish.request.body_ip,
            self.worker.settings.mic_port,
        )
            .into();
        match self.worker.mics.offer(&self.live.id, target, &call.body) {
            Ok(answer) => Ok(Reply::json(200, &answer).header("Cache-Control", "no-store")),
            Err(error) => {
                let mut failure = Failure::new(error.status(), error.reason(), error.to_string());
                failure.retry_after = error.retry_after();
                Err(failure)
            }
        }
    }

    fn info(&self) -> SessionInfo {
        let shown = self.live.shown();
        let servers = if self.worker.settings.mic_enabled {
            ice_servers::servers(&self.worker, &self.live)
        } else {
            Vec::new()
        };
        SessionInfo {
            session_id: self.live.id.clone(),
            // A page that reloads while the stream process restarts would find nothing.
            status: if shown.is_up || shown.end_reason.is_some() {
                shown.status
            } else {
                Status::Starting
            },
            end_reason: shown.end_reason,
            ice_servers: servers
                .into_iter()
                .map(|(urls, username, credential)| page::BrowserIceServer {
                    urls,
                    username: (!username.is_empty()).then_some(username),
                    credential: (!credential.is_empty()).then(|| credential.expose().to_owned()),
                })
                .collect(),
        }
    }
}
