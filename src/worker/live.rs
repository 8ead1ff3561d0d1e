//! One session as the rest of the worker sees it: what is known of it, and how to reach it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use smol::channel::{Receiver, Sender};

use crate::body::Traces;
use crate::body::experience::Launch;
use crate::exec::{self, Stopper};
use crate::http::sse::{Event, Feed};
use crate::ids::SessionId;
use crate::page;
use crate::protocol::{CreateSession, EndReason, PageStats, Phase, SessionView, Status};
use crate::proxy::{Pass, Upstream};
use crate::secret::Secret;
use crate::session::lifecycle::{Input, Lifecycle, ViewerId};
use crate::session::ports::Slot;
use crate::session::running::Running;
use crate::{clock, proxy};

/// Inputs that may wait for a session: its steps, its viewers and its users.
const INBOX: usize = 256;
/// Page event streams of one session: a few tabs and their reconnects.
const FEEDS_MAX: usize = 16;

/// What a session was asked to be.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) request: CreateSession,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) launch: Option<Launch>,
}

/// The ports of a session.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) port: u16,
    pub(super) udp: RangeInclusive<u16>,
    /// None when its process is dead and the configured ranges have moved since.
    pub(super) slot: Option<Slot>,
}

impl From<Slot> for Place {
    fn from(slot: Slot) -> Self {
        Self {
            port: slot.port(),
            udp: slot.udp(),
            slot: Some(slot),
        }
    }
}

/// A session that holds a slot.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SessionId,
    pub(super) wish: Wish,
    pub(super) port: u16,
    pub(super) udp: RangeInclusive<u16>,
    slot: Mutex<Option<Slot>>,
    pub(super) begun: Instant,
    pub(super) created_at: SystemTime,
    /// User name that the proxy sends to the stream program.
    pub(super) program_user: String,
    pub(super) snippet: Arc<str>,
    inbox: Sender<Input>,
    viewers: AtomicU64,
    told: Mutex<Told>,
}

/// What changes in a session's life.
#[derive(Debug, Default)]
struct Told {
    shown: Shown,
    traces: Traces,
    running: Option<Arc<Running>>,
    feeds: Vec<Feed>,
    tunnels: HashMap<ViewerId, Stopper>,
    waiting: Vec<Sender<()>>,
    rating: Option<u8>,
    is_unsaved: bool,
    mic: bool,
    stats: Option<(PageStats, Instant)>,
}

impl Told {
    /// Closed by the next change.
    fn listen(&mut self) -> Receiver<()> {
        let (waker, changed) = smol::channel::bounded(1);
        self.waiting.push(waker);
        changed
    }
}

/// The lifecycle's view, as it was published last.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) status: Status,
    pub(super) phase: Option<Phase>,
    pub(super) is_up: bool,
    pub(super) is_launching: bool,
    pub(super) viewers: u32,
    pub(super) disconnect_count: u32,
    pub(super) stream_path: Option<String>,
    pub(super) ready_at: Option<SystemTime>,
    pub(super) end_reason: Option<EndReason>,
    pub(super) failure: Option<(&'static str, String)>,
    pub(super) duration: Option<Duration>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            status: Status::Starting,
            phase: Some(Phase::Reaching),
            is_up: false,
            is_launching: false,
            viewers: 0,
            disconnect_count: 0,
            stream_path: None,
            ready_at: None,
            end_reason: None,
            failure: None,
            duration: None,
        }
    }
}

impl Live {
    pub(super) fn new(
        id: SessionId,
        wish: Wish,
        place: Place,
        program_user: String,
        snippet: Arc<str>,
        created_at: SystemTime,
    ) -> (Arc<Self>, Receiver<Input>) {
        let (inbox, inputs) = smol::channel::bounded(INBOX);
        let live = Self {
            id,
            wish,
            port: place.port,
            udp: place.udp,
            slot: Mutex::new(place.slot),
            begun: clock::now(),
            created_at,
            program_user,
            snippet,
            inbox,
            viewers: AtomicU64::new(1),
            told: Mutex::default(),
        };
        (Arc::new(live), inputs)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something to the session without waiting. A full inbox means that it hangs; it is
    /// then told by its own deadlines.
    pub(super) fn tell(&self, input: Input) {
        if let Err(smol::channel::TrySendError::Full(lost)) = self.inbox.try_send(input) {
            log::error!(target: "session", session = self.id.as_str(); "inbox full, lost {lost:?}");
        }
    }

    /// Says something to the session and waits for room in its inbox.
    pub(super) async fn report(&self, input: Input) {
        let _ = self.inbox.send(input).await;
    }

    /// What the lifecycle has to show now.
    pub(super) fn look(&self, life: &Lifecycle) -> Shown {
        let before = self.shown();
        Shown {
            status: life.status(),
            phase: life.phase(),
            is_up: life.is_up(),
            is_launching: before.is_launching,
            viewers: life.viewers(),
            disconnect_count: life.disconnect_count(),
            stream_path: life.stream_path().map(str::to_owned),
            ready_at: before.ready_at.or_else(|| life.is_up().then(clock::wall)),
            end_reason: life.end_reason(),
            failure: life.failure().map(|f| (f.slug(), f.to_string())),
            duration: life.end_reason().map(|_| life.duration(clock::now())),
        }
    }

    /// Shows it; answers what was shown before. Wakes waiters.
    pub(super) fn show(&self, mut shown: Shown) -> Shown {
        let mut told = self.told();
        shown.is_launching = told.shown.is_launching;
        told.waiting.clear();
        std::mem::replace(&mut told.shown, shown)
    }

    pub(super) fn shown(&self) -> Shown {
        self.told().shown.clone()
    }

    pub(super) fn set_launching(&self, is_launching: bool) {
        self.told().shown.is_launching = is_launching;
    }

    pub(super) fn set_ready_at(&self, at: Option<SystemTime>) {
        self.told().shown.ready_at = at;
    }

    /// Waits until what the session shows satisfies `wanted`, and answers it.
    pub(super) async fn wait(&self, wanted: impl Fn(&Shown) -> bool) -> Shown {
        loop {
            let changed = {
                let mut told = self.told();
                if wanted(&told.shown) {
                    return told.shown.clone();
                }
                told.listen()
            };
            // Closed by the next change.
            let _ = changed.recv().await;
        }
    }

    pub(super) fn traces(&self) -> Traces {
        self.told().traces.clone()
    }

    pub(super) fn set_traces(&self, traces: Traces) {
        self.told().traces = traces;
    }

    pub(super) fn running(&self) -> Option<Arc<Running>> {
        self.told().running.clone()
    }

    pub(super) fn set_running(&self, running: Option<Arc<Running>>) {
        self.told().running = running;
    }

    pub(super) fn rate(&self, score: u8) {
        {
            let mut told = self.told();
            told.rating = Some(score);
            told.is_unsaved = true;
            told.waiting.clear();
        }
        // Wakes the driver, which keeps it.
        self.tell(Input::Tick);
    }

    /// Whether the ledger misses something that no change of the lifecycle will write; asked once.
    pub(super) fn take_unsaved(&self) -> bool {
        std::mem::take(&mut self.told().is_unsaved)
    }

    /// Waits until the rating is another than `before`.
    pub(super) async fn wait_for_rating(&self, before: Option<u8>) -> u8 {
        loop {
            let changed = {
                let mut told = self.told();
                if let Some(score) = told.rating.filter(|_| told.rating != before) {
                    return score;
                }
                told.listen()
            };
            let _ = changed.recv().await;
        }
    }

    pub(super) fn set_mic(&self, on: bool) {
        self.told().mic = on;
    }

    pub(super) fn rating(&self) -> Option<u8> {
        self.told().rating
    }

    /// Takes in the page's digest; `false` when the last one is younger than `pause`.
    pub(super) fn measure(&self, stats: PageStats, pause: Duration) -> bool {
        let now = clock::now();
        let mut told = self.told();
        if told
            .stats
            .as_ref()
            .is_some_and(|(_, at)| now.saturating_duration_since(*at) < pause)
        {
            return false;
        }
        told.stats = Some((stats, now));
        true
    }

    pub(super) fn stats(&self) -> Option<PageStats> {
        self.told().stats.as_ref().map(|(stats, _)| stats.clone())
    }

    /// Gives the slot's ports back. A session is remembered for a while after its end; its slot is
    /// not.
    pub(super) fn release_slot(&self) {
        self.slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Where the stream process listens.
    pub(super) fn upstream(&self) -> Upstream {
        Upstream::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    fn next_viewer(&self) -> ViewerId {
        self.viewers.fetch_add(1, Ordering::Relaxed)
    }

    /// Leave for a signalling tunnel: a viewer until it ends. Streamers of earlier tunnels end
    /// first: a session has one encoder.
    pub(super) async fn admit_tunnel(self: Arc<Self>, streamer: PathBuf) -> Pass {
        if let Some(running) = self.running() {
            let ended = running.end_streamers(&streamer).await;
            if ended > 0 {
                log::info!(target: "session", session = self.id.as_str();
                    "a page signals anew, ended {ended} earlier streamers");
            }
        }
        let viewer = self.next_viewer();
        let (stopper, cut) = exec::stop();
        self.told().tunnels.insert(viewer, stopper);
        self.tell(Input::ViewerJoined(viewer));
        let live = Arc::downgrade(&self);
        Pass {
            cut,
            keep: Box::new(Presence { live, viewer }),
        }
    }

    /// A page's event stream: a viewer until it ends. `None` when there are too many.
    pub(super) fn admit_feed(self: &Arc<Self>) -> Option<crate::http::Reply> {
        let mut told = self.told();
        told.feeds.retain(|feed| !feed.is_gone());
        if told.feeds.len() >= FEEDS_MAX {
            return None;
        }
        let viewer = self.next_viewer();
        let (feed, reply) = crate::http::sse::feed(Presence {
            live: Arc::downgrade(self),
            viewer,
        });
        if let Some(reason) = told.shown.end_reason {
            let _ = feed.send(ended(reason));
        }
        told.feeds.push(feed);
        drop(told);
        self.tell(Input::ViewerJoined(viewer));
        Some(reply)
    }

    /// Tells every open page.
    pub(super) fn notify(&self, event: &Event) {
        self.told()
            .feeds
            .retain(|feed| feed.send(event.clone()).is_ok());
    }

    /// Cuts every tunnel and ends every event stream.
    pub(super) fn cut(&self) {
        let mut told = self.told();
        told.tunnels.clear();
        told.feeds.clear();
    }

    /// The session as every API shows it.
    pub(super) fn view(&self) -> SessionView {
        let told = self.told();
        let shown = &told.shown;
        let launching = shown.is_launching && shown.phase == Some(Phase::Pairing);
        SessionView {
            id: self.id.clone(),
            status: shown.status,
            phase: if launching {
                Some(Phase::Launching)
            } else {
                shown.phase
            },
            body_ip: self.wish.request.body_ip,
            experience: self.wish.request.experience.clone(),
            district: self.wish.request.district.clone(),
            created_at: clock::rfc3339(self.created_at),
            ready_at: shown.ready_at.map(clock::rfc3339),
            connected: shown.status == Status::Connected,
            viewers: shown.viewers,
            disconnect_count: shown.disconnect_count,
            duration_ms: u64::try_from(shown.duration.unwrap_or_else(|| self.age()).as_millis())
                .unwrap_or(u64::MAX),
            port: self.port,
            stream_path: shown.stream_path.clone(),
            end_reason: shown.end_reason,
            detail: shown.failure.as_ref().map(|(_, what)| what.clone()),
            rating: told.rating,
            mic: told.mic,
            stats: told.stats.as_ref().map(|(stats, _)| stats.clone()),
        }
    }

    /// Time since admission, over restarts of the worker.
    pub(super) fn age(&self) -> Duration {
        clock::wall()
            .duration_since(self.created_at)
            .unwrap_or_default()
    }
}

/// The page's event for an end.
pub(super) fn ended(reason: EndReason) -> Event {
    Event {
        id: None,
        name: "ended".into(),
        data: serde_json::json!({"end_reason": reason}).to_string(),
    }
}

/// A viewer, until dropped.
struct Presence {
    live: Weak<Live>,
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
pub(super) fn snippet(
    id: &SessionId,
    wish: &Wish,
    return_url: &str,
    relay_only: bool,
    mic: bool,
) -> Arc<str> {
    page::snippet(&page::PageConfig {
        session: id,
        return_url,
        experience: wish.request.experience.as_deref(),
        district: wish.request.district.as_deref(),
        body: None,
        head: None,
        body_ip: Some(wish.request.body_ip),
        relay_only,
        mic,
    })
    .into()
}

/// The policy under which browsers reach this session's stream process.
pub(super) fn policy(
    live: &Arc<Live>,
    user_header: &'static str,
    streamer: PathBuf,
    language: Option<String>,
) -> proxy::Policy {
    let tunnels = Arc::clone(live);
    proxy::Policy {
        set: vec![(user_header, live.program_user.clone())],
        cookies: Some(&["mlSession"]),
        snippet: Some(Arc::clone(&live.snippet)),
        on_tunnel: Some(Arc::new(move || {
            Box::pin(Arc::clone(&tunnels).admit_tunnel(streamer.clone()))
        })),
        error_page: Some(Arc::new(move |_| page::unavailable(language.as_deref()))),
    }
}
