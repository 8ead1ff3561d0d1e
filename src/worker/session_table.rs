//! The sessions of this worker, by id.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, MutexGuard};

use super::session_handle::SessionHandle;
use crate::ids::SessionId;
use crate::protocol::SessionView;
use crate::session::lifecycle::Input;
use crate::sync::Mutex;

/// Ended sessions whose end a heartbeat has yet to tell: more than end between two.
const UNTOLD_MAX: usize = 128;
/// Ended sessions that are remembered, so that a page that asks late learns why and
/// a visitor can still rate: those of the last minutes.
const REMEMBERED_MAX: usize = 256;

/// All sessions that hold a slot, and the last that ended.
#[derive(Debug, Default)]
pub(super) struct LiveSessions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<SessionId, Arc<SessionHandle>>,
    untold: VecDeque<SessionView>,
    remembered: VecDeque<Arc<SessionHandle>>,
}

impl LiveSessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    pub(super) fn add(&self, live: &Arc<SessionHandle>) {
        self.lock().live.insert(live.id.clone(), Arc::clone(live));
    }

    pub(super) fn find(&self, id: &SessionId) -> Option<Arc<SessionHandle>> {
        self.lock().live.get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// How many hold a slot; one whose body is being cleaned up holds none.
    pub(super) fn slots(&self) -> usize {
        self.all()
            .iter()
            .filter(|live| !live.shown().is_slot_free)
            .count()
    }

    /// Takes an ended session off; its end waits to be reported.
    pub(super) fn remove(&self, live: &Arc<SessionHandle>) {
        let view = live.view();
        let mut inner = self.lock();
        inner.live.remove(&live.id);
        if inner.remembered.len() == REMEMBERED_MAX {
            inner.remembered.pop_front();
        }
        inner.remembered.push_back(Arc::clone(live));
        if inner.untold.len() == UNTOLD_MAX {
            inner.untold.pop_front();
        }
        inner.untold.push_back(view);
    }

    /// A session that is no more: its page may still ask why, and rate it.
    pub(super) fn ended(&self, id: &SessionId) -> Option<Arc<SessionHandle>> {
        self.lock()
            .remembered
            .iter()
            .rev()
            .find(|live| live.id == *id)
            .cloned()
    }

    /// A session that is there, or was until lately.
    pub(super) fn known(&self, id: &SessionId) -> Option<Arc<SessionHandle>> {
        self.find(id).or_else(|| self.ended(id))
    }

    /// Every session, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<SessionHandle>> {
        let mut all: Vec<_> = self.lock().live.values().cloned().collect();
        all.sort_by_key(|live| live.begun);
        all
    }

    /// Every session as others see it, oldest first.
    pub(super) fn views(&self) -> Vec<SessionView> {
        self.all().iter().map(|live| live.view()).collect()
    }

    /// Every session as its controller is told: with the key of its create.
    pub(super) fn told_views(&self) -> Vec<SessionView> {
        let with_key = |live: &Arc<SessionHandle>| SessionView {
            idempotency_key: live.wish.key.as_ref().map(|key| key.key.clone()),
            ..live.view()
        };
        self.all().iter().map(with_key).collect()
    }

    /// Ended sessions whose end is not reported yet.
    pub(super) fn untold(&self) -> Vec<SessionView> {
        self.lock().untold.iter().cloned().collect()
    }

    /// These ends were reported.
    pub(super) fn told(&self, views: &[SessionView]) {
        self.lock()
            .untold
            .retain(|u| !views.iter().any(|v| v.id == u.id));
    }

    /// Says the same to every session.
    pub(super) fn tell_all(&self, input: &Input) {
        for live in self.all() {
            live.tell(input.clone());
        }
    }
}
