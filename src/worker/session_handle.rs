//! One session as the rest of the worker sees it: what is known of it, and how to reach it.

mod marks;
mod shown;
mod viewers;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use smol::channel::{Receiver, Sender, TrySendError};

use crate::body::CleanupRecord;
use crate::body::experience::Launch;
use crate::clock;
use crate::exec::{self, Stopper};
use crate::http::idempotency::RequestKey;
use crate::http::rate_limit::{Rate, TokenBucket};
use crate::http::sse::Feed;
use crate::ids::SessionId;
use crate::protocol::{CreateSession, PageStats, SessionView, Status};
use crate::proxy::Upstream;
use crate::secret::Secret;
use crate::session::lifecycle::{Incarnation, Input, ViewerId};
use crate::session::ports::Slot;
use crate::session::stream_process::StreamProcess;
use crate::session::workspace::Workspace;
use crate::sync::Mutex;

pub(super) use shown::Shown;
pub(super) use viewers::{ended, policy, snippet};

/// What a visitor may ask of a session, of each kind: more than a page does that is left and
/// entered, or stars that are tried one after the other.
const ASKED: Rate = Rate {
    burst: 20,
    interval: Duration::from_secs(1),
};
/// Inputs that may wait for a session: its steps, its viewers and its users.
const INBOX: usize = 256;

/// What a session was asked to be.
#[derive(Clone, Debug)]
pub(super) struct SessionRequest {
    pub(super) request: CreateSession,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) launch: Option<Launch>,
    /// The `Idempotency-Key` of the create, if its client sent one.
    pub(super) key: Option<RequestKey>,
}

/// What a session has of this machine.
#[derive(Debug)]
pub(super) struct SessionResources {
    pub(super) port: u16,
    pub(super) udp: RangeInclusive<u16>,
    /// None when its process is dead and the configured ranges have moved since.
    pub(super) slot: Option<Slot>,
    /// Where it was made: `sessions.dir` may be another since.
    pub(super) workspace: Workspace,
}

impl SessionResources {
    pub(super) fn new(slot: Slot, workspace: Workspace) -> Self {
        Self {
            port: slot.port(),
            udp: slot.udp(),
            slot: Some(slot),
            workspace,
        }
    }
}

/// What visitors ask of a session, as far as nothing else bounds it. Each kind has its own bounds:
/// who rates without end does not keep anybody from leaving.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Other,
    Quit,
    Rating,
}

impl Wanted {
    /// How many kinds there are.
    const COUNT: usize = Self::Rating as usize + 1;
}

/// When a session began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    /// For people.
    pub(super) at: SystemTime,
    /// For everything else, on this machine's own clock, over restarts of the worker.
    pub(super) mark: clock::Mark,
}

impl Birth {
    pub(super) fn now() -> Self {
        Self {
            at: clock::wall(),
            mark: clock::Mark::now(),
        }
    }
}

/// A session that holds a slot.
#[derive(Debug)]
pub(super) struct SessionHandle {
    pub(super) id: SessionId,
    pub(super) wish: SessionRequest,
    pub(super) port: u16,
    pub(super) udp: RangeInclusive<u16>,
    pub(super) workspace: Workspace,
    slot: Mutex<Option<Slot>>,
    /// When this process admitted or adopted it.
    pub(super) begun: Instant,
    pub(super) birth: Birth,
    /// User name that the proxy sends to the stream program.
    pub(super) program_user: String,
    pub(super) snippet: Arc<str>,
    /// Held while a stream process is started, and while one is ended.
    pub(super) spawning: smol::lock::Mutex<()>,
    /// The last run whose end was asked for; it is not to be started any more.
    abandoned: AtomicU32,
    inbox: Sender<Input>,
    viewers: AtomicU64,
    told: Mutex<Told>,
}

/// What changes in a session's life.
#[derive(Debug, Default)]
struct Told {
    shown: Shown,
    traces: CleanupRecord,
    running: Option<Arc<StreamProcess>>,
    streamer: Option<PathBuf>,
    signalled_at: Option<Instant>,
    feeds: Vec<Feed>,
    tunnels: HashMap<ViewerId, Stopper>,
    waiting: Vec<Sender<()>>,
    rating: Option<u8>,
    /// Counts the changes that no change of the lifecycle writes down.
    changes: u64,
    /// How many of them the ledger has.
    saved: u64,
    mic: bool,
    stats: Option<(PageStats, Instant)>,
    asked: [TokenBucket; Wanted::COUNT],
}

impl Told {
    /// Closed by the next change.
    fn listen(&mut self) -> Receiver<()> {
        let (waker, changed) = smol::channel::bounded(1);
        self.waiting.push(waker);
        changed
    }
}

impl SessionHandle {
    pub(super) fn new(
        id: SessionId,
        wish: SessionRequest,
        place: SessionResources,
        program_user: String,
        snippet: Arc<str>,
        birth: Birth,
    ) -> (Arc<Self>, Receiver<Input>) {
        let (inbox, inputs) = smol::channel::bounded(INBOX);
        let live = Self {
            id,
            wish,
            port: place.port,
            udp: place.udp,
            workspace: place.workspace,
            slot: Mutex::new(place.slot),
            begun: clock::now(),
            birth,
            program_user,
            snippet,
            spawning: smol::lock::Mutex::new(()),
            abandoned: AtomicU32::new(0),
            inbox,
            viewers: AtomicU64::new(1),
            told: Mutex::default(),
        };
        (Arc::new(live), inputs)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock()
    }

    /// Says something to the session without waiting here. It is not lost when the inbox is full
    /// (a slow disk, a flood of requests): a task of its own waits for room.
    pub(super) fn tell(self: &Arc<Self>, input: Input) {
        if let Err(TrySendError::Full(input)) = self.inbox.try_send(input) {
            log::warn!(target: "session", session = self.id.as_str(); "inbox full, {input:?} has to wait");
            let live = Arc::clone(self);
            exec::spawn(async move { live.report(input).await }).detach();
        }
    }

    /// Wakes the session. A full inbox does that, too.
    fn wake(&self) {
        let _ = self.inbox.try_send(Input::Tick);
    }

    /// Says something to the session and waits for room in its inbox.
    pub(super) async fn report(&self, input: Input) {
        let _ = self.inbox.send(input).await;
    }

    pub(super) fn traces(&self) -> CleanupRecord {
        self.told().traces.clone()
    }

    pub(super) fn set_traces(&self, traces: CleanupRecord) {
        self.told().traces = traces;
    }

    pub(super) fn running(&self) -> Option<Arc<StreamProcess>> {
        self.told().running.clone()
    }

    pub(super) fn set_running(&self, running: Option<Arc<StreamProcess>>) {
        let mut told = self.told();
        told.running = running;
        told.waiting.clear();
    }

    /// Waits until it has no stream process.
    pub(super) async fn stopped(&self) {
        loop {
            let changed = {
                let mut told = self.told();
                if told.running.is_none() {
                    return;
                }
                told.listen()
            };
            let _ = changed.recv().await;
        }
    }

    /// The run and those before it are not to be started any more.
    pub(super) fn abandon(&self, run: Incarnation) {
        self.abandoned.fetch_max(run, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self, run: Incarnation) -> bool {
        self.abandoned.load(Ordering::Relaxed) >= run
    }

    /// What the stream process runs for each stream; the configured one may be another since.
    pub(super) fn streamer(&self) -> Option<PathBuf> {
        self.told().streamer.clone()
    }

    pub(super) fn set_streamer(&self, streamer: Option<PathBuf>) {
        self.told().streamer = streamer;
    }

    pub(super) fn rate(&self, score: u8) {
        {
            let mut told = self.told();
            told.rating = Some(score);
            told.changes += 1;
            told.waiting.clear();
        }
        // The driver keeps it.
        self.wake();
    }

    pub(super) fn rating(&self) -> Option<u8> {
        self.told().rating
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

    /// Whether visitors may ask for this once more; else how long to wait.
    pub(super) fn admit_wish(&self, wanted: Wanted) -> Result<(), Duration> {
        self.told().asked[wanted as usize].take(clock::now(), ASKED)
    }

    pub(super) fn set_mic(&self, on: bool) {
        self.told().mic = on;
    }

    /// Takes in the page's digest; `false` when the last one is younger than `pause`.
    pub(super) fn measure(&self, stats: PageStats, pause: Duration) -> bool {
        let now = clock::now();
        let mut told = self.told();
        let is_young = |(_, at): &(PageStats, Instant)| now.saturating_duration_since(*at) < pause;
        if told.stats.as_ref().is_some_and(is_young) {
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
        self.slot.lock().take();
    }

    /// Where the stream process listens.
    pub(super) fn upstream(&self) -> Upstream {
        Upstream::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// Time since admission, over restarts of the worker.
    pub(super) fn age(&self) -> Duration {
        self.birth.mark.elapsed()
    }

    /// The session as every API shows it.
    pub(super) fn view(&self) -> SessionView {
        let told = self.told();
        let shown = &told.shown;
        SessionView {
            idempotency_key: None,
            id: self.id.clone(),
            status: shown.status,
            phase: shown.phase,
            body_ip: Some(self.wish.request.body_ip),
            experience: self.wish.request.experience.clone(),
            district: self.wish.request.district.clone(),
            created_at: clock::rfc3339(self.birth.at),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_inbox_has_no_room_for_is_said_later() {
        let id = SessionId::random().unwrap();
        let place = SessionResources {
            port: 1,
            udp: 2..=3,
            slot: None,
            workspace: Workspace::recorded(&std::path::Path::new("/x").join(id.as_str()), &id)
                .unwrap(),
        };
        let wish = SessionRequest {
            request: serde_json::from_str(r#"{"body_ip":"10.0.0.1"}"#).unwrap(),
            user: String::new(),
            password: Secret::new("x"),
            launch: None,
            key: None,
        };
        let (live, inbox) =
            SessionHandle::new(id, wish, place, String::new(), "".into(), Birth::now());
        for viewer in 0..INBOX as u64 {
            live.tell(Input::ViewerLeft(viewer));
        }
        live.tell(Input::ViewerLeft(INBOX as u64));
        live.rate(5);
        let heard = exec::block_on(async {
            let mut heard = Vec::new();
            for _ in 0..=INBOX {
                heard.push(inbox.recv().await.unwrap());
            }
            heard
        });
        assert!(heard.contains(&Input::ViewerLeft(INBOX as u64)));
    }
}
