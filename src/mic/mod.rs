//! Microphones: SDP in, RTP out.
//!
//! A browser offers one send-only Opus track; the worker answers as an ICE-lite peer and sends
//! the packets on to the body. A session has one microphone: a new offer replaces the old, and
//! the stream to the body goes on as one. `offer` judges what is offered and `answer` accepts it;
//! `peer` is the WebRTC side, made of `path` (ICE), `handshake` (DTLS), `srtp` and `reception`;
//! `rebase` and `uplink` are the body's side; `switchboard` is the thread that serves them all, and
//! this file knows which session has what.

pub mod rtp_rewriter;
pub mod rtp_sender;
pub mod sdp_offer;
pub mod webrtc_peer;

mod datagram;
mod dtls;
mod error;
mod event_loop;
mod ice;
mod mic_settings;
mod peer_connection;
mod port_range;
mod rtcp;
mod rtp_forwarder;
mod sdp_answer;
mod session_table;
mod srtp;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::dtls::DtlsIdentity;
pub use self::error::{MicError, PeerError};
use self::event_loop::EventLoop;
pub use self::mic_settings::MicSettings;
use self::peer_connection::PeerConnection;
use self::port_range::bound;
use self::rtp_forwarder::RtpForwarder;
pub use self::rtp_sender::{MicCounters, RtpSender, source_towards};
pub use self::sdp_answer::SdpAnswer;
pub use self::sdp_offer::SdpOffer;
use self::session_table::{ActivePeer, SessionEntry, SessionTable, locked};
use self::webrtc_peer::WebRtcPeer;
use crate::clock;
use crate::http::bucket::Pace;
use crate::ids::{self, SessionId};

/// Offers of one session: a page that retries after a failed network, twice. An offer costs
/// a handshake.
const OFFERS: Pace = Pace {
    burst: 4,
    earns: Duration::from_secs(1),
};

/// The microphones of one worker. Dropping it closes them all.
pub struct Microphones {
    shared: Arc<Shared>,
    /// Started with the first microphone.
    exchange: Mutex<Option<Stack>>,
}

/// What all microphones share.
#[derive(Clone)]
struct Stack {
    switchboard: Arc<EventLoop>,
    identity: Arc<DtlsIdentity>,
}

type OnChange = dyn Fn(&SessionId, bool) + Send + Sync;

struct Shared {
    settings: MicSettings,
    on_change: Box<OnChange>,
    /// Keeps calls of `on_change` in the order of the changes.
    announcing: Mutex<()>,
    slots: Mutex<SessionTable>,
    /// Peers that are not yet released.
    open: AtomicUsize,
    next: AtomicU64,
}

impl Microphones {
    /// No microphones yet. `on_change` hears when a session's microphone goes on or off; it must
    /// not call `offer`, `stop` or `end`.
    pub fn new(
        settings: MicSettings,
        on_change: impl Fn(&SessionId, bool) + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                on_change: Box::new(on_change),
                announcing: Mutex::new(()),
                slots: Mutex::default(),
                open: AtomicUsize::new(0),
                next: AtomicU64::new(1),
            }),
            exchange: Mutex::default(),
        }
    }

    /// Answers an offer of `session`, whose body hears RTP at `target`. Takes a few
    /// milliseconds and waits for nothing: there is nothing to gather. So no more offers are in
    /// progress than threads call this. The caller knows that the session exists, and calls
    /// [`Microphones::end`] when it ends: that frees what is kept here for it.
    ///
    /// # Errors
    /// [`MicError`], and nothing is left open.
    pub fn offer(
        &self,
        session: &SessionId,
        target: SocketAddr,
        body: &[u8],
    ) -> Result<SdpAnswer, MicError> {
        let answer = self.answer(session, target, body);
        match &answer {
            // Refusals by the rate are what a flood makes; they do not flood the log.
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
        let settings = &self.shared.settings;
        let now = clock::now();
        self.admit(session, now)?;
        let offer = SdpOffer::parse(body).map_err(MicError::Offer)?;
        let socket = bound(settings.bind, settings.ports.as_ref()).map_err(MicError::Peer)?;
        let local = socket
            .local_addr()
            .map_err(|e| MicError::Peer(PeerError::Bind(settings.bind, e)))?;
        let exchange = self.exchange()?;
        let identity = &exchange.identity;
        let (peer, answer) =
            WebRtcPeer::answering(identity, offer, local, settings.idle, random_u32(), now)
                .map_err(MicError::Peer)?;
        let line = (peer, socket);
        self.install(session, target, line, &exchange.switchboard)?;
        self.shared.announce(session);
        log::info!(
            target: "mic", session = session.as_str(), port = local.port(), body:% = target;
            "offer answered"
        );
        Ok(answer)
    }

    fn admit(&self, session: &SessionId, now: Instant) -> Result<(), MicError> {
        let mut slots = locked(&self.shared.slots);
        if slots.has_ended(session) {
            return Err(MicError::Ended);
        }
        let slot = slots.of.entry(session.clone()).or_default();
        slot.offers.take(now, OFFERS).map_err(MicError::TooMany)?;
        self.room(&slots, session)
    }

    fn room(&self, slots: &SessionTable, session: &SessionId) -> Result<(), MicError> {
        let max = self.shared.settings.max;
        if slots.others(session) >= max {
            return Err(MicError::NoCapacity(max));
        }
        Ok(())
    }

    /// Makes `peer` the session's microphone and starts it. The one before is stopped.
    fn install(
        &self,
        session: &SessionId,
        target: SocketAddr,
        (peer, socket): (WebRtcPeer, UdpSocket),
        switchboard: &EventLoop,
    ) -> Result<(), MicError> {
        let mut slots = locked(&self.shared.slots);
        // The session may have ended while the answer was made.
        if slots.has_ended(session) {
            return Err(MicError::Ended);
        }
        self.room(&slots, session)?;
        let slot = slots.of.entry(session.clone()).or_default();
        let uplink = self.uplink(slot, target)?;
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        locked(&uplink).hand_over(id);
        let owner = RtpForwarder::new(&self.shared, session, id, uplink);
        slot.live = Some(ActivePeer {
            peer: id,
            connected: false,
            _plug: switchboard.plug(id, PeerConnection::new(peer, socket, owner)),
        });
        Ok(())
    }

    /// The slot's stream to `target`: the one there is, or a new one.
    fn uplink(
        &self,
        slot: &mut SessionEntry,
        target: SocketAddr,
    ) -> Result<Arc<Mutex<RtpSender>>, MicError> {
        let fits = |u: &&Arc<Mutex<RtpSender>>| locked(u).target() == target;
        if let Some(uplink) = slot.uplink.as_ref().filter(fits) {
            return Ok(uplink.clone());
        }
        let settings = &self.shared.settings;
        let fresh = RtpSender::open(target, settings.source, settings.payload_type, random_u32())
            .map_err(|e| MicError::Unreachable(target, e))?;
        slot.past = slot.counters();
        Ok(slot.uplink.insert(Arc::new(Mutex::new(fresh))).clone())
    }

    fn exchange(&self) -> Result<Stack, MicError> {
        let mut exchange = locked(&self.exchange);
        if let Some(started) = &*exchange {
            return Ok(started.clone());
        }
        let identity =
            DtlsIdentity::new().map_err(|e| MicError::Peer(PeerError::Stack(e.to_string())))?;
        let switchboard =
            EventLoop::start().map_err(|e| MicError::Peer(PeerError::EventLoop(e)))?;
        let started = Stack {
            switchboard: Arc::new(switchboard),
            identity: Arc::new(identity),
        };
        Ok(exchange.insert(started).clone())
    }

    /// Switches the session's microphone off. The next offer continues its stream.
    pub fn stop(&self, session: &SessionId) {
        if let Some(slot) = locked(&self.shared.slots).of.get_mut(session) {
            slot.live = None;
        }
        self.shared.announce(session);
    }

    /// Forgets the session: closes its microphone and returns what it carried. Later offers of
    /// the session are refused.
    pub fn end(&self, session: &SessionId) -> MicCounters {
        self.stop(session);
        locked(&self.shared.slots).end(session)
    }

    /// Whether the session's microphone is connected.
    #[must_use]
    pub fn is_on(&self, session: &SessionId) -> bool {
        let slots = locked(&self.shared.slots);
        slots.of.get(session).is_some_and(SessionEntry::is_on)
    }

    /// Connected microphones.
    #[must_use]
    pub fn on(&self) -> usize {
        let slots = locked(&self.shared.slots);
        slots.of.values().filter(|slot| slot.is_on()).count()
    }

    /// What the session's microphone has carried.
    #[must_use]
    pub fn counters(&self, session: &SessionId) -> Option<MicCounters> {
        locked(&self.shared.slots)
            .of
            .get(session)
            .map(SessionEntry::counters)
    }

    /// What all microphones have carried since the start.
    #[must_use]
    pub fn total(&self) -> MicCounters {
        locked(&self.shared.slots).total()
    }

    /// Peers not yet released: connected, connecting or closing. Each holds one socket.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }
}

impl Drop for Microphones {
    fn drop(&mut self) {
        for slot in locked(&self.shared.slots).of.values_mut() {
            slot.live = None;
        }
    }
}

impl Shared {
    /// Tells the listener what it does not know yet about one session.
    fn announce(&self, session: &SessionId) {
        let _in_order = locked(&self.announcing);
        let changed = {
            let mut slots = locked(&self.slots);
            slots.of.get_mut(session).and_then(|slot| {
                let is_on = slot.is_on();
                (std::mem::replace(&mut slot.announced, is_on) != is_on).then_some(is_on)
            })
        };
        if let Some(is_on) = changed {
            (self.on_change)(session, is_on);
        }
    }

    /// Changes the session's peer when it is still this one.
    fn with_peer(
        &self,
        session: &SessionId,
        peer: u64,
        change: impl FnOnce(&mut Option<ActivePeer>),
    ) {
        if let Some(slot) = locked(&self.slots).of.get_mut(session)
            && slot.live.as_ref().is_some_and(|live| live.peer == peer)
        {
            change(&mut slot.live);
        }
        self.announce(session);
    }
}

/// A random number that is no secret: an SSRC, a description's name.
fn random_u32() -> u32 {
    u32::from_str_radix(&ids::label()[..8], 16).unwrap_or(1)
}

impl std::fmt::Debug for Microphones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Microphones")
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
