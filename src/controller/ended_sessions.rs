//! The workers of sessions that have ended lately: pages ask there why, and send the rating.

use std::collections::{HashMap, VecDeque};

use crate::ids::SessionId;
use crate::sync::Mutex;

/// Ended sessions that are remembered: some minutes of a busy fleet.
const KEPT: usize = 4_096;

/// Ended sessions by id, oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct EndedSessions(Mutex<(HashMap<SessionId, String>, VecDeque<SessionId>)>);

impl EndedSessions {
    pub(super) fn remember(&self, id: &SessionId, worker_id: &str) {
        let mut inner = self.0.lock();
        let (workers, order) = &mut *inner;
        if workers.insert(id.clone(), worker_id.to_owned()).is_none() {
            order.push_back(id.clone());
        }
        if order.len() > KEPT
            && let Some(oldest) = order.pop_front()
        {
            workers.remove(&oldest);
        }
    }

    /// The worker that had the session.
    pub(super) fn worker_of(&self, id: &SessionId) -> Option<String> {
        self.0.lock().0.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let ended = EndedSessions::default();
        let ids: Vec<SessionId> = (0..=KEPT).map(|_| SessionId::random().unwrap()).collect();
        for id in &ids {
            ended.remember(id, "w");
            ended.remember(id, "w");
        }
        assert_eq!(ended.worker_of(&ids[0]), None);
        assert_eq!(ended.worker_of(&ids[1]).as_deref(), Some("w"));
        assert_eq!(ended.worker_of(&ids[KEPT]).as_deref(), Some("w"));
    }
}
