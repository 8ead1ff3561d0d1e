//! What each session has: its peer, its uplink, and what they have carried.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event_loop::Registration;
use super::rtp_sender::{MicCounters, RtpSender};
use crate::http::bucket::Bucket;
use crate::ids::SessionId;

/// Ended sessions that are remembered, so that an offer on its way finds no session to open.
/// More than can end while one offer is answered.
const ENDED_MAX: usize = 256;

/// The sessions of one worker.
#[derive(Default)]
pub(super) struct SessionTable {
    pub(super) of: HashMap<SessionId, SessionEntry>,
    ended: VecDeque<SessionId>,
    /// Of sessions that have ended.
    past: MicCounters,
}

/// What one session has.
#[derive(Default)]
pub(super) struct SessionEntry {
    pub(super) offers: Bucket,
    pub(super) uplink: Option<Arc<Mutex<RtpSender>>>,
    /// What earlier uplinks of the session carried.
    pub(super) past: MicCounters,
    pub(super) live: Option<ActivePeer>,
    pub(super) announced: bool,
}

/// The session's peer.
pub(super) struct ActivePeer {
    pub(super) peer: u64,
    pub(super) connected: bool,
    /// Dropping it ends the peer.
    pub(super) _plug: Registration,
}

impl SessionEntry {
    pub(super) fn counters(&self) -> MicCounters {
        let mut sum = self.past;
        if let Some(uplink) = &self.uplink {
            sum += locked(uplink).counters();
        }
        sum
    }

    pub(super) fn is_on(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.connected)
    }
}

impl SessionTable {
    /// Sessions with a peer, but for one.
    pub(super) fn others(&self, session: &SessionId) -> usize {
        let live = |(id, slot): &(&SessionId, &SessionEntry)| *id != session && slot.live.is_some();
        self.of.iter().filter(live).count()
    }

    pub(super) fn has_ended(&self, session: &SessionId) -> bool {
        self.ended.contains(session)
    }

    /// Forgets the session, but for that it has ended.
    pub(super) fn end(&mut self, session: &SessionId) -> MicCounters {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        if !self.has_ended(session) {
            self.ended.push_back(session.clone());
        }
        let carried = self
            .of
            .remove(session)
            .map_or_else(MicCounters::default, |slot| slot.counters());
        self.past += carried;
        carried
    }

    /// What all sessions have carried, the ended ones too.
    pub(super) fn total(&self) -> MicCounters {
        let mut sum = self.past;
        for slot in self.of.values() {
            sum += slot.counters();
        }
        sum
    }
}

/// A panic elsewhere leaves nothing half done here: every change is one assignment.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
