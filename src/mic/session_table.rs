//! The state of each session's microphone: its peer, its RTP sender and its counters.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::event_loop::Registration;
use super::rtp_sender::{MicCounters, RtpSender};
use crate::http::rate_limit::TokenBucket;
use crate::ids::SessionId;
use crate::sync::Mutex;

/// Ended sessions that are remembered, so that a late offer cannot open them again: more than can
/// end while one offer is answered.
const ENDED_MAX: usize = 256;

/// Called with the session and whether its microphone is on.
type OnChange = dyn Fn(&SessionId, bool) + Send + Sync;

/// The sessions of one worker, shared by the registry and the handlers of the peers.
pub(super) struct Sessions {
    on_change: Box<OnChange>,
    /// Held during a call of `on_change`, so that calls come in the order of the changes.
    notifying: Mutex<()>,
    pub(super) table: Mutex<SessionTable>,
    /// Peers that are not closed yet.
    pub(super) open_peers: AtomicUsize,
}

/// The entries by session.
#[derive(Default)]
pub(super) struct SessionTable {
    entries: HashMap<SessionId, SessionEntry>,
    ended: VecDeque<SessionId>,
    /// Counters of ended sessions.
    past: MicCounters,
}

/// The microphone of one session.
#[derive(Default)]
pub(super) struct SessionEntry {
    pub(super) offers: TokenBucket,
    pub(super) sender: Option<Arc<Mutex<RtpSender>>>,
    /// Counters of the session's earlier senders.
    pub(super) past: MicCounters,
    pub(super) active: Option<ActivePeer>,
    /// The state that `on_change` was last called with.
    notified: bool,
}

/// The peer of a session.
pub(super) struct ActivePeer {
    pub(super) id: u64,
    pub(super) connected: bool,
    /// Dropping it closes the peer.
    pub(super) _registration: Registration,
}

impl Sessions {
    pub(super) fn new(on_change: Box<OnChange>) -> Self {
        Self {
            on_change,
            notifying: Mutex::default(),
            table: Mutex::default(),
            open_peers: AtomicUsize::new(0),
        }
    }

    /// Calls `on_change` if the session's microphone went on or off since the last call.
    pub(super) fn notify(&self, session: &SessionId) {
        let _in_order = self.notifying.lock();
        let changed = self.table.lock().take_change(session);
        if let Some(is_on) = changed {
            (self.on_change)(session, is_on);
        }
    }

    /// Changes the session's peer, unless another one has replaced it.
    pub(super) fn with_peer(
        &self,
        session: &SessionId,
        id: u64,
        change: impl FnOnce(&mut Option<ActivePeer>),
    ) {
        if let Some(entry) = self.table.lock().entries.get_mut(session)
            && entry.active.as_ref().is_some_and(|active| active.id == id)
        {
            change(&mut entry.active);
        }
        self.notify(session);
    }
}

impl SessionEntry {
    pub(super) fn counters(&self) -> MicCounters {
        let mut sum = self.past;
        if let Some(sender) = &self.sender {
            sum += sender.lock().counters();
        }
        sum
    }

    pub(super) fn is_on(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.connected)
    }
}

impl SessionTable {
    /// The session's entry, a new one if there is none; `None` if the session has ended.
    pub(super) fn entry(&mut self, session: &SessionId) -> Option<&mut SessionEntry> {
        let open = !self.ended.contains(session);
        open.then(|| self.entries.entry(session.clone()).or_default())
    }

    /// The number of sessions with a peer, without this one.
    pub(super) fn active_besides(&self, session: &SessionId) -> usize {
        let others = self.entries.iter().filter(|(id, _)| *id != session);
        others.filter(|(_, entry)| entry.active.is_some()).count()
    }

    /// The number of connected microphones.
    pub(super) fn on(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_on()).count()
    }

    /// Closes the session's peer.
    pub(super) fn stop(&mut self, session: &SessionId) {
        if let Some(entry) = self.entries.get_mut(session) {
            entry.active = None;
        }
    }

    /// Closes all peers.
    pub(super) fn stop_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.active = None;
        }
    }

    /// Removes the session, remembers that it has ended, and returns its counters.
    pub(super) fn end(&mut self, session: &SessionId) -> MicCounters {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        if !self.ended.contains(session) {
            self.ended.push_back(session.clone());
        }
        let removed = self.entries.remove(session);
        let counters = removed.map_or_else(MicCounters::default, |entry| entry.counters());
        self.past += counters;
        counters
    }

    /// The sum of all counters, of ended sessions too.
    pub(super) fn total(&self) -> MicCounters {
        let mut sum = self.past;
        for entry in self.entries.values() {
            sum += entry.counters();
        }
        sum
    }

    /// Whether the session's microphone is on, if that is not notified yet.
    fn take_change(&mut self, session: &SessionId) -> Option<bool> {
        let entry = self.entries.get_mut(session)?;
        let is_on = entry.is_on();
        (std::mem::replace(&mut entry.notified, is_on) != is_on).then_some(is_on)
    }
}
