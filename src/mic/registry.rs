//! The microphones of one worker: answers offers and knows which session has which peer.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::dtls::DtlsIdentity;
use super::error::{MicError, PeerError};
use super::event_loop::EventLoop;
use super::mic_settings::MicSettings;
use super::peer_connection::PeerConnection;
use super::port_range::bind_in_range;
use super::rtp_forwarder::RtpForwarder;
use super::rtp_sender::{MicCounters, RtpSender};
use super::sdp_answer::SdpAnswer;
use super::sdp_offer::SdpOffer;
use super::session_table::{ActivePeer, SessionEntry, Sessions};
use super::webrtc_peer::WebRtcPeer;
use crate::clock;
use crate::http::rate_limit::Rate;
use crate::ids::SessionId;
use crate::sync::Mutex;

/// Rate of offers of one session: enough for a page that retries twice after a network failure. An
/// offer costs a DTLS handshake.
const OFFERS: Rate = Rate {
    burst: 4,
    interval: Duration::from_secs(1),
};

/// The microphones of one worker. Dropping it closes all of them.
pub struct Microphones {
    settings: MicSettings,
    pub(super) sessions: Arc<Sessions>,
    next_peer: AtomicU64,
    /// Started by the first offer.
    stack: Mutex<Option<Arc<Stack>>>,
}

/// What all microphones share.
struct Stack {
    event_loop: EventLoop,
    identity: Arc<DtlsIdentity>,
}

impl Microphones {
    /// No microphones yet. `on_change` is called when a session's microphone goes on or off; it must
    /// not call `offer`, `stop` or `end`.
    pub fn new(
        settings: MicSettings,
        on_change: impl Fn(&SessionId, bool) + Send + Sync + 'static,
    ) -> Self {
        Self {
            settings,
            sessions: Arc::new(Sessions::new(Box::new(on_change))),
            next_peer: AtomicU64::new(1),
            stack: Mutex::default(),
        }
    }

    /// Answers an offer of `session`, whose body receives RTP at `target`. Takes a few milliseconds
    /// and does not wait, since an ICE-lite peer gathers no candidates. The caller has checked that
    /// the session exists, and calls [`Microphones::end`] when it ends, which frees its entry.
    ///
    /// # Errors
    /// [`MicError`]; nothing is left open.
    pub fn offer(
        &self,
        session: &SessionId,
        target: SocketAddr,
        body: &[u8],
    ) -> Result<SdpAnswer, MicError> {
        let answer = self.answer(session, target, body);
        match &answer {
            // Not at level info: a flood of offers must not flood the log.
            Err(MicError::TooMany(_)) => {
                log::debug!(target: "mic", session = session.as_str(); "too many offers");
            }
            Err(error) => {
                let reason = error.reason();
                log::info!(target: "mic", session = session.as_str(), reason; "offer refused: {error}");
            }
            Ok(_) => {}
        }
        answer
    }

    fn answer(
        &self,
        session: &SessionId,
        target: SocketAddr,
        body: &[u8],
    ) -> Result<SdpAnswer, MicError> {
        let settings = &self.settings;
        let now = clock::now();
        self.check_limits(session, now)?;
        let offer = SdpOffer::parse(body)?;
        let socket = bind_in_range(settings.bind, settings.ports.as_ref())?;
        let local = socket
            .local_addr()
            .map_err(|e| PeerError::Bind(settings.bind, e))?;
        let stack = self.stack()?;
        let identity = &stack.identity;
        let (peer, answer) =
            WebRtcPeer::accept(identity, offer, local, settings.idle, random_u32(), now)?;
        self.install(session, target, peer, socket, &stack.event_loop)?;
        self.sessions.notify(session);
        log::info!(
            target: "mic", session = session.as_str(), port = local.port(), body:% = target;
            "offer answered"
        );
        Ok(answer)
    }

    fn check_limits(&self, session: &SessionId, now: Instant) -> Result<(), MicError> {
        let mut table = self.sessions.table.lock();
        let others = table.active_besides(session);
        let entry = table.entry(session).ok_or(MicError::Ended)?;
        entry.offers.take(now, OFFERS).map_err(MicError::TooMany)?;
        self.check_capacity(others)
    }

    /// `others` is the number of active microphones of other sessions.
    fn check_capacity(&self, others: usize) -> Result<(), MicError> {
        let max = self.settings.max;
        if others >= max {
            return Err(MicError::NoCapacity(max));
        }
        Ok(())
    }

    /// Starts `peer` as the session's microphone. The one before is stopped.
    fn install(
        &self,
        session: &SessionId,
        target: SocketAddr,
        peer: WebRtcPeer,
        socket: UdpSocket,
        event_loop: &EventLoop,
    ) -> Result<(), MicError> {
        let mut table = self.sessions.table.lock();
        let others = table.active_besides(session);
        // The session may have ended while the answer was made.
        let entry = table.entry(session).ok_or(MicError::Ended)?;
        self.check_capacity(others)?;
        let sender = self.sender(entry, target)?;
        let id = self.next_peer.fetch_add(1, Ordering::Relaxed);
        sender.lock().switch_to(id);
        let handler = Box::new(RtpForwarder::new(&self.sessions, session, id, sender));
        let connection = PeerConnection::new(peer, socket, handler);
        entry.active = Some(ActivePeer {
            id,
            connected: false,
            _registration: event_loop.register(id, connection),
        });
        Ok(())
    }

    /// The session's RTP stream to `target`: the existing one, or a new one.
    fn sender(
        &self,
        entry: &mut SessionEntry,
        target: SocketAddr,
    ) -> Result<Arc<Mutex<RtpSender>>, MicError> {
        if let Some(sender) = &entry.sender
            && sender.lock().target() == target
        {
            return Ok(sender.clone());
        }
        let MicSettings {
            source,
            payload_type,
            ..
        } = self.settings;
        let sender = RtpSender::open(target, source, payload_type, random_u32())
            .map_err(|e| MicError::Unreachable(target, e))?;
        entry.past = entry.counters();
        Ok(entry.sender.insert(Arc::new(Mutex::new(sender))).clone())
    }

    fn stack(&self) -> Result<Arc<Stack>, PeerError> {
        let mut stack = self.stack.lock();
        if let Some(started) = &*stack {
            return Ok(started.clone());
        }
        let started = Arc::new(Stack {
            identity: Arc::new(DtlsIdentity::new()?),
            event_loop: EventLoop::start().map_err(PeerError::EventLoop)?,
        });
        Ok(stack.insert(started).clone())
    }

    /// Switches the session's microphone off. The next offer continues its RTP stream.
    pub fn stop(&self, session: &SessionId) {
        self.sessions.table.lock().stop(session);
        self.sessions.notify(session);
    }

    /// Closes the session's microphone, removes its entry and returns its counters. Later offers of
    /// the session are refused.
    pub fn end(&self, session: &SessionId) -> MicCounters {
        self.stop(session);
        self.sessions.table.lock().end(session)
    }

    /// The number of connected microphones.
    #[must_use]
    pub fn on(&self) -> usize {
        self.sessions.table.lock().on()
    }

    /// The sum of all counters since the start, of ended sessions too.
    #[must_use]
    pub fn total(&self) -> MicCounters {
        self.sessions.table.lock().total()
    }

    /// The number of peers that are connecting, connected or closing. Each holds one socket.
    #[must_use]
    pub fn open(&self) -> usize {
        self.sessions.open_peers.load(Ordering::Acquire)
    }
}

impl Drop for Microphones {
    fn drop(&mut self) {
        self.sessions.table.lock().stop_all();
    }
}

/// A random number that is not a secret: for an SSRC or the id of a description.
fn random_u32() -> u32 {
    getrandom::u32().unwrap_or(1)
}

impl std::fmt::Debug for Microphones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Microphones")
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
