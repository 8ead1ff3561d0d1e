//! Microphones: SDP in, RTP out.
//!
//! A browser offers one send-only Opus track; the worker answers as an ICE-lite peer and sends
//! the packets on to the body. A session has one microphone: a new offer replaces the old, and
//! the stream to the body goes on as one. `offer` judges what is offered, `peer` is the WebRTC
//! side, `rebase` and `uplink` are the body's side, this file knows which session has what.

pub mod offer;
pub mod peer;
pub mod rebase;
pub mod uplink;

mod bucket;
mod error;
mod owner;
#[cfg(test)]
mod speaker;
mod stack;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smol::channel::Sender;

use self::bucket::Bucket;
pub use self::error::{MicError, PeerError};
pub use self::offer::{Answer, OFFER_MAX, Offer, OfferError};
use self::owner::Owner;
use self::peer::Peer;
pub use self::uplink::{Counters, Uplink, source_towards};
use crate::ids::{self, SessionId};
use crate::{clock, exec};

/// Payload type of Opus that the body expects by default: what Chromium calls it.
const PAYLOAD_TYPE: u8 = 111;
/// Microphones of one worker by default: its default number of sessions.
const MAX: usize = 15;
/// Default time without a packet after which a microphone is closed. Silence is sent as well,
/// so this is a page that forgot it.
const IDLE: Duration = Duration::from_secs(60);
/// Ended sessions that are remembered, so that an offer on its way finds no session to open.
/// More than can end while one offer is answered.
const ENDED_MAX: usize = 256;

/// How microphones are received and sent on.
#[derive(Clone, Debug)]
pub struct MicSettings {
    /// The one address that peers listen on. TURN relays must be allowed to reach it.
    pub bind: IpAddr,
    /// Ports of the peers; any free one without a range. Each microphone takes one.
    pub ports: Option<RangeInclusive<u16>>,
    /// The address RTP is sent from, for example the tunnel's; the kernel's choice when absent.
    pub source: Option<IpAddr>,
    /// RTP payload type on the way to the body.
    pub payload_type: u8,
    /// Microphones at once.
    pub max: usize,
    /// A microphone that sends nothing for this long is closed.
    pub idle: Duration,
}

impl MicSettings {
    /// The defaults, on one address.
    #[must_use]
    pub fn on(bind: IpAddr) -> Self {
        Self {
            bind,
            ports: None,
            source: None,
            payload_type: PAYLOAD_TYPE,
            max: MAX,
            idle: IDLE,
        }
    }
}

/// The microphones of one worker. Dropping it closes them all.
pub struct Microphones {
    shared: Arc<Shared>,
}

type OnChange = dyn Fn(&SessionId, bool) + Send + Sync;

struct Shared {
    settings: MicSettings,
    on_change: Box<OnChange>,
    /// Keeps calls of `on_change` in the order of the changes.
    announcing: Mutex<()>,
    state: Mutex<State>,
    /// Peers that are not yet released.
    open: AtomicUsize,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    slots: HashMap<SessionId, Slot>,
    ended: VecDeque<SessionId>,
    /// Of sessions that have ended.
    past: Counters,
}

/// What one session has.
#[derive(Default)]
struct Slot {
    offers: Bucket,
    uplink: Option<Arc<Mutex<Uplink>>>,
    /// What earlier uplinks of the session carried.
    past: Counters,
    live: Option<Live>,
    announced: bool,
}

/// The session's peer.
struct Live {
    peer: u64,
    connected: bool,
    /// Dropping it stops the peer.
    _stop: Sender<()>,
}

impl Slot {
    fn counters(&self) -> Counters {
        let mut sum = self.past;
        if let Some(uplink) = &self.uplink {
            sum += locked(uplink).counters();
        }
        sum
    }

    fn is_on(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.connected)
    }
}

impl State {
    /// Sessions with a peer, but for one.
    fn others(&self, session: &SessionId) -> usize {
        let live = |(id, slot): &(&SessionId, &Slot)| *id != session && slot.live.is_some();
        self.slots.iter().filter(live).count()
    }
}

/// A panic elsewhere leaves nothing half done here: every change is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
                state: Mutex::default(),
                open: AtomicUsize::new(0),
                next: AtomicU64::new(1),
            }),
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
    ) -> Result<Answer, MicError> {
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
    ) -> Result<Answer, MicError> {
        let settings = &self.shared.settings;
        self.admit(session, clock::now())?;
        let offer = Offer::parse(body).map_err(MicError::Offer)?;
        let (peer, answer) = Peer::answering(offer, settings.bind, settings.ports.as_ref())
            .map_err(MicError::Peer)?;
        self.install(session, target, peer)?;
        self.shared.announce(session);
        Ok(answer)
    }

    fn admit(&self, session: &SessionId, now: Instant) -> Result<(), MicError> {
        let mut state = locked(&self.shared.state);
        if state.ended.contains(session) {
            return Err(MicError::Ended);
        }
        let slot = state.slots.entry(session.clone()).or_default();
        slot.offers.take(now).map_err(MicError::TooMany)?;
        self.room(&state, session)
    }

    fn room(&self, state: &State, session: &SessionId) -> Result<(), MicError> {
        let max = self.shared.settings.max;
        if state.others(session) >= max {
            return Err(MicError::NoCapacity(max));
        }
        Ok(())
    }

    /// Makes `peer` the session's microphone and starts it. The one before is stopped.
    fn install(&self, session: &SessionId, target: SocketAddr, peer: Peer) -> Result<(), MicError> {
        let settings = &self.shared.settings;
        let mut state = locked(&self.shared.state);
        // The session may have ended while the answer was made.
        if state.ended.contains(session) {
            return Err(MicError::Ended);
        }
        self.room(&state, session)?;
        let slot = state.slots.entry(session.clone()).or_default();
        let fits = |u: &&Arc<Mutex<Uplink>>| locked(u).target() == target;
        let uplink = match slot.uplink.as_ref().filter(fits) {
            Some(uplink) => uplink.clone(),
            None => {
                let fresh = Uplink::open(target, settings.source, settings.payload_type, ssrc())
                    .map_err(|e| MicError::Uplink(target, e))?;
                slot.past = slot.counters();
                slot.uplink.insert(Arc::new(Mutex::new(fresh))).clone()
            }
        };
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        locked(&uplink).hand_over(id);
        let (stop, stopped) = smol::channel::bounded(1);
        let replaced = slot.live.replace(Live {
            peer: id,
            connected: false,
            _stop: stop,
        });
        let port = peer.port();
        log::info!(
            target: "mic", session = session.as_str(), port, body:% = target, replaced = replaced.is_some();
            "offer answered"
        );
        let owner = Owner::new(&self.shared, session, id, uplink);
        exec::spawn(owner.own(peer, stopped)).detach();
        Ok(())
    }

    /// Switches the session's microphone off. The next offer continues its stream.
    pub fn stop(&self, session: &SessionId) {
        if let Some(slot) = locked(&self.shared.state).slots.get_mut(session) {
            slot.live = None;
        }
        self.shared.announce(session);
    }

    /// Forgets the session: closes its microphone and returns what it carried. Later offers of
    /// the session are refused.
    pub fn end(&self, session: &SessionId) -> Counters {
        self.stop(session);
        let mut state = locked(&self.shared.state);
        if state.ended.len() == ENDED_MAX {
            state.ended.pop_front();
        }
        if !state.ended.contains(session) {
            state.ended.push_back(session.clone());
        }
        let carried = state
            .slots
            .remove(session)
            .map_or_else(Counters::default, |slot| slot.counters());
        state.past += carried;
        carried
    }

    /// Whether the session's microphone is connected.
    #[must_use]
    pub fn is_on(&self, session: &SessionId) -> bool {
        let state = locked(&self.shared.state);
        state.slots.get(session).is_some_and(Slot::is_on)
    }

    /// Connected microphones.
    #[must_use]
    pub fn on(&self) -> usize {
        let state = locked(&self.shared.state);
        state.slots.values().filter(|slot| slot.is_on()).count()
    }

    /// What the session's microphone has carried.
    #[must_use]
    pub fn counters(&self, session: &SessionId) -> Option<Counters> {
        locked(&self.shared.state)
            .slots
            .get(session)
            .map(Slot::counters)
    }

    /// What all microphones have carried since the start.
    #[must_use]
    pub fn total(&self) -> Counters {
        let state = locked(&self.shared.state);
        let mut sum = state.past;
        for slot in state.slots.values() {
            sum += slot.counters();
        }
        sum
    }

    /// Peers not yet released: connected, connecting or closing. Each holds one socket.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }
}

impl Drop for Microphones {
    fn drop(&mut self) {
        for slot in locked(&self.shared.state).slots.values_mut() {
            slot.live = None;
        }
    }
}

impl Shared {
    /// Tells the listener what it does not know yet about one session.
    fn announce(&self, session: &SessionId) {
        let _in_order = locked(&self.announcing);
        let changed = {
            let mut state = locked(&self.state);
            state.slots.get_mut(session).and_then(|slot| {
                let is_on = slot.is_on();
                (std::mem::replace(&mut slot.announced, is_on) != is_on).then_some(is_on)
            })
        };
        if let Some(is_on) = changed {
            (self.on_change)(session, is_on);
        }
    }

    /// Changes the session's peer when it is still this one.
    fn with_peer(&self, session: &SessionId, peer: u64, change: impl FnOnce(&mut Option<Live>)) {
        if let Some(slot) = locked(&self.state).slots.get_mut(session)
            && slot.live.as_ref().is_some_and(|live| live.peer == peer)
        {
            change(&mut slot.live);
        }
        self.announce(session);
    }
}

/// A random SSRC for one session's stream.
fn ssrc() -> u32 {
    u32::from_str_radix(&ids::label()[..8], 16).unwrap_or(1)
}

impl std::fmt::Debug for Microphones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Microphones")
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
