//! The sessions of this worker, by id.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live::Live;
use crate::ids::SessionId;
use crate::protocol::{EndReason, SessionView};
use crate::session::lifecycle::Input;

/// Ended sessions whose end a heartbeat has yet to tell: more than end between two.
const UNTOLD_MAX: usize = 128;
/// Ended sessions that are remembered, so that a page that asks late learns why.
const REMEMBERED_MAX: usize = 256;

/// All sessions that hold a slot, and the last that ended.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<SessionId, Arc<Live>>,
    untold: VecDeque<SessionView>,
    remembered: VecDeque<(SessionId, EndReason)>,
}

impl Roster {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, live: &Arc<Live>) {
        self.lock().live.insert(live.id.clone(), Arc::clone(live));
    }

    pub(super) fn find(&self, id: &SessionId) -> Option<Arc<Live>> {
        self.lock().live.get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Takes an ended session off; its end waits to be told.
    pub(super) fn remove(&self, live: &Live) {
        let view = live.view();
        let mut inner = self.lock();
        inner.live.remove(&live.id);
        if inner.remembered.len() == REMEMBERED_MAX {
            inner.remembered.pop_front();
        }
        if let Some(reason) = view.end_reason {
            inner.remembered.push_back((live.id.clone(), reason));
        }
        if inner.untold.len() == UNTOLD_MAX {
            inner.untold.pop_front();
        }
        inner.untold.push_back(view);
    }

    /// Why a session that is no more has ended.
    pub(super) fn end_of(&self, id: &SessionId) -> Option<EndReason> {
        self.lock()
            .remembered
            .iter()
            .rev()
            .find(|(known, _)| known == id)
            .map(|(_, reason)| *reason)
    }

    /// Every session, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<_> = self.lock().live.values().cloned().collect();
        all.sort_by_key(|live| live.begun);
        all
    }

    /// Every session as others see it, oldest first.
    pub(super) fn views(&self) -> Vec<SessionView> {
        self.all().iter().map(|live| live.view()).collect()
    }

    /// Ended sessions whose end was not told yet.
    pub(super) fn untold(&self) -> Vec<SessionView> {
        self.lock().untold.iter().cloned().collect()
    }

    /// These ends were told.
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
