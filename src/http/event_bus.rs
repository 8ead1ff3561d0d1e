//! Events of a role: numbered, kept for a while, sent to every listener.
//!
//! A hub numbers its events itself; a *shared* one is told their numbers, which rise but leave gaps
//! and are the same wherever a listener comes back to.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::call::Call;
use super::reply::{Failure, Reply};
use super::sse::{Event, Feed, Lost, feed};
use crate::clock;
use crate::sync::Mutex;

/// Events kept for listeners that come back: an hour of a busy fleet.
const RING: usize = 4_096;
/// Listeners at once; a dashboard is one.
const LISTENERS_MAX: usize = 256;

/// Numbers events and hands them to listeners.
#[derive(Debug, Default)]
pub(crate) struct EventBus(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    ring: VecDeque<Event>,
    /// Each with the last event that it has already.
    feeds: Vec<(u64, Feed)>,
    is_shared: bool,
}

impl EventBus {
    /// A hub whose events get their numbers elsewhere.
    #[must_use]
    pub(crate) fn shared() -> Self {
        Self(Mutex::new(Inner {
            is_shared: true,
            ..Inner::default()
        }))
    }

    /// Publishes an event: `payload` with `district` and `timestamp` added.
    pub(crate) fn publish(&self, name: &str, district: &str, payload: Value) {
        let data = Self::data(district, payload);
        let mut inner = self.0.lock();
        let id = inner.last + 1;
        inner.publish(id, name, data);
    }

    /// Publishes an event whose number and content were made elsewhere.
    pub(crate) fn publish_as(&self, id: u64, name: &str, data: String) {
        let mut inner = self.0.lock();
        inner.publish(id, name, data);
    }

    /// Events may be missing, for a reason of their source: tells every listener so, and those that
    /// come back with a number from before.
    pub(crate) fn interrupted(&self) {
        let mut inner = self.0.lock();
        inner.ring.clear();
        inner.feeds.retain(|(_, feed)| feed.send(missed()).is_ok());
    }

    /// An event's content: `payload` with `district` and `timestamp` added.
    #[must_use]
    pub(crate) fn data(district: &str, payload: Value) -> String {
        let mut data = match payload {
            Value::Object(map) => map,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        data.insert("district".into(), district.into());
        data.insert("timestamp".into(), clock::rfc3339(clock::wall()).into());
        Value::Object(data).to_string()
    }

    /// Answers `GET /api/v1/events`: what came after `Last-Event-ID`, then what comes. When that
    /// is no longer kept, or from an earlier life of this process, an event `missed` comes first.
    ///
    /// # Errors
    /// 503 when there are too many listeners.
    pub(crate) fn listen(&self, call: &Call) -> Result<Reply, Failure> {
        let since = call
            .header("last-event-id")
            .and_then(|id| id.parse::<u64>().ok());
        let mut inner = self.0.lock();
        inner.feeds.retain(|(_, feed)| !feed.is_gone());
        if inner.feeds.len() >= LISTENERS_MAX {
            return Err(Failure::new(
                503,
                "too_many_listeners",
                "too many event listeners",
            ));
        }
        let (feed, reply) = feed(());
        if let Some(since) = since {
            let newer: Vec<&Event> = inner.ring.iter().filter(|e| e.id > Some(since)).collect();
            // The feed holds fewer than the ring: a listener that far behind is told so.
            let kept = newer.len().min(super::sse::BACKLOG - 1);
            if inner.has_missed(since) || kept < newer.len() {
                let _ = feed.send(missed());
            }
            for event in &newer[newer.len() - kept..] {
                let _ = feed.send((*event).clone());
            }
        }
        let has = since.filter(|_| inner.is_shared).unwrap_or(0);
        inner.feeds.push((has, feed));
        Ok(reply)
    }
}

/// Tells a listener that events between are gone.
fn missed() -> Event {
    Event {
        id: None,
        name: "missed".into(),
        data: "{}".into(),
    }
}

impl Inner {
    fn publish(&mut self, id: u64, name: &str, data: String) {
        self.last = self.last.max(id);
        let event = Event {
            id: Some(id),
            name: name.to_owned(),
            data,
        };
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(event.clone());
        self.feeds.retain(|(has, feed)| {
            if id <= *has {
                return true;
            }
            match feed.send(event.clone()) {
                Ok(()) => true,
                Err(Lost::Gone) => false,
                Err(Lost::Slow) => {
                    log::warn!(target: "http", "an event listener did not keep up and was cut off");
                    false
                }
            }
        });
    }

    /// Whether events after `since` may be gone.
    fn has_missed(&self, since: u64) -> bool {
        let oldest = self.ring.front().and_then(|e| e.id);
        if self.is_shared {
            // Numbers have gaps: only what is still there proves that nothing between is missing.
            // One that is not here yet was told where the listener comes from.
            return oldest.is_none_or(|oldest| since < oldest);
        }
        since + 1 < oldest.unwrap_or(self.last + 1) || since > self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_hub_takes_numbers_with_gaps_and_knows_what_it_no_longer_has() {
        let hub = EventBus::shared();
        assert!(hub.0.lock().has_missed(5), "it knows nothing");
        for id in [256, 512, 513] {
            hub.publish_as(id, "e", "{}".to_owned());
        }
        let inner = hub.0.lock();
        for (since, missed) in [
            (7, true),
            (256, false),
            (300, false),
            (513, false),
            (9_999, false),
        ] {
            assert_eq!(inner.has_missed(since), missed, "{since}");
        }
    }

    #[test]
    fn a_hub_of_its_own_numbers_from_one_without_gaps() {
        let hub = EventBus::default();
        for _ in 0..=RING {
            hub.publish("e", "", Value::Null);
        }
        let inner = hub.0.lock();
        assert_eq!(inner.last, RING as u64 + 1);
        for (since, missed) in [
            (0, true),
            (1, false),
            (inner.last, false),
            (inner.last + 1, true),
        ] {
            assert_eq!(inner.has_missed(since), missed, "{since}");
        }
    }
}
