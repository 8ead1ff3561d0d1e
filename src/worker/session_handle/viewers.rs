//! A session's viewers: signalling tunnels and event streams of pages, and the notices that they get.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{SessionHandle, SessionRequest};
use crate::exec;
use crate::http::Reply;
use crate::http::sse::{Event, feed};
use crate::ids::SessionId;
use crate::protocol::EndReason;
use crate::proxy::{self, Pass};
use crate::session::lifecycle::{Input, ViewerId};
use crate::worker::settings::WorkerSettings;
use crate::{clock, page};

/// Page event streams of one session: a few tabs and their reconnects.
const FEEDS_MAX: usize = 16;
/// How long after a page began to signal a streamer may still appear for it: the stream program
/// lists the body's apps first, and gives the page a minute to say what it wants.
const UNSETTLED: Duration = Duration::from_secs(90);

impl SessionHandle {
    fn next_viewer(&self) -> ViewerId {
        self.viewers.fetch_add(1, Ordering::Relaxed)
    }

    /// Leave for a signalling tunnel: a viewer until it ends. Streamers of earlier tunnels end
    /// first: a session has one encoder.
    pub(in crate::worker) async fn admit_tunnel(self: Arc<Self>) -> Pass {
        // Before the page can have an app started.
        if !self.traces().streamed {
            self.mark(|traces| traces.streamed = true).await;
        }
        if let (Some(running), Some(streamer)) = (self.running(), self.streamer()) {
            let ended = running.end_streamers(&streamer).await;
            if ended > 0 {
                log::info!(target: "session", session = self.id.as_str();
                    "a page signals anew, ended {ended} earlier streamers");
            }
        }
        let viewer = self.next_viewer();
        let (stopper, cut) = exec::stop();
        {
            let mut told = self.told();
            told.signalled_at = Some(clock::now());
            // A session that has been cut meanwhile stays so.
            if told.shown.end_reason.is_none() {
                told.tunnels.insert(viewer, stopper);
            }
        }
        // Create the guard before the report: if this future is dropped, its drop reports ViewerLeft.
        // Report before returning it, so that ViewerJoined always precedes ViewerLeft.
        let live = Arc::downgrade(&self);
        let keep = Box::new(Presence { live, viewer });
        self.report(Input::ViewerJoined(viewer)).await;
        Pass { cut, keep }
    }

    /// A page's event stream: a viewer until it ends. `None` when there are too many.
    pub(in crate::worker) async fn admit_feed(self: &Arc<Self>) -> Option<Reply> {
        let viewer = self.next_viewer();
        let live = Arc::downgrade(self);
        let (feed, reply) = feed(Presence { live, viewer });
        {
            let mut told = self.told();
            told.feeds.retain(|feed| !feed.is_gone());
            if told.feeds.len() >= FEEDS_MAX {
                return None;
            }
            if let Some(reason) = told.shown.end_reason {
                // Said, and over.
                let _ = feed.send(ended(reason));
                return Some(reply);
            }
            told.feeds.push(feed);
        }
        self.report(Input::ViewerJoined(viewer)).await;
        Some(reply)
    }

    /// Ends all streamers but the youngest, for a while after a page began to signal: those of two
    /// pages that signal at once start side by side.
    pub(in crate::worker) async fn settle_streamers(&self) {
        let lately = |at| clock::now().saturating_duration_since(at) < UNSETTLED;
        if !self.told().signalled_at.is_some_and(lately) {
            return;
        }
        if let (Some(running), Some(streamer)) = (self.running(), self.streamer()) {
            let ended = running.end_older_streamers(&streamer).await;
            if ended > 0 {
                log::warn!(target: "session", session = self.id.as_str();
                    "two pages signalled at once, ended {ended} earlier streamers");
            }
        }
    }

    /// Tells every open page.
    pub(in crate::worker) fn notify(&self, event: &Event) {
        self.told()
            .feeds
            .retain(|feed| feed.send(event.clone()).is_ok());
    }

    /// Cuts every tunnel and ends every event stream.
    pub(in crate::worker) fn cut(&self) {
        let mut told = self.told();
        told.tunnels.clear();
        told.feeds.clear();
    }
}

/// The page's event for an end.
pub(in crate::worker) fn ended(reason: EndReason) -> Event {
    Event {
        id: None,
        name: "ended".into(),
        data: serde_json::json!({"end_reason": reason}).to_string(),
    }
}

/// A viewer, until dropped.
struct Presence {
    live: Weak<SessionHandle>,
    viewer: ViewerId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let Some(live) = self.live.upgrade() else {
            return;
        };
        live.told().tunnels.remove(&self.viewer);
        live.tell(Input::ViewerLeft(self.viewer));
    }
}

/// The script tag for a session's pages.
pub(in crate::worker) fn snippet(
    id: &SessionId,
    wish: &SessionRequest,
    settings: &WorkerSettings,
) -> Arc<str> {
    let wished = wish.request.district.as_deref();
    let own = settings.district.as_str();
    page::snippet(&page::PageConfig {
        session: id,
        return_url: &settings.return_url,
        experience: wish.request.experience.as_deref(),
        district: wished.or(Some(own).filter(|own| !own.is_empty())),
        body: None,
        head: None,
        body_ip: Some(wish.request.body_ip),
        relay_only: settings.relay_only,
        mic: settings.mic_enabled,
    })
    .into()
}

/// The policy under which browsers reach this session's stream process.
pub(in crate::worker) fn policy(
    live: &Arc<SessionHandle>,
    user_header: &'static str,
    language: Option<String>,
) -> proxy::Policy {
    let tunnels = Arc::clone(live);
    proxy::Policy {
        set: vec![(user_header, live.program_user.clone())],
        cookies: Some(&["mlSession"]),
        snippet: Some(Arc::clone(&live.snippet)),
        on_tunnel: Some(Arc::new(move || {
            Box::pin(Arc::clone(&tunnels).admit_tunnel())
        })),
        error_page: Some(Arc::new(move |_| page::unavailable(language.as_deref()))),
    }
}
