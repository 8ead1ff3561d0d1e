//! Events of a role: numbered, kept for a while, sent to every listener.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::call::Call;
use super::reply::{Failure, Reply};
use super::sse::{Event, Feed, Lost, feed};
use crate::clock;

/// Events kept for listeners that come back: an hour of a busy fleet.
const RING: usize = 4_096;
/// Listeners at once; a dashboard is one.
const LISTENERS_MAX: usize = 256;

/// Numbers events and hands them to listeners.
#[derive(Debug, Default)]
pub struct Hub(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    ring: VecDeque<Event>,
    feeds: Vec<Feed>,
}

impl Hub {
    /// Publishes an event: `payload` with `district` and `timestamp` added.
    pub fn publish(&self, name: &str, district: &str, payload: Value) {
        let mut data = match payload {
            Value::Object(map) => map,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        data.insert("district".into(), district.into());
        data.insert("timestamp".into(), clock::rfc3339(clock::wall()).into());
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let event = Event {
            id: Some(inner.last),
            name: name.to_owned(),
            data: Value::Object(data).to_string(),
        };
        if inner.ring.len() == RING {
            inner.ring.pop_front();
        }
        inner.ring.push_back(event.clone());
        inner.feeds.retain(|feed| match feed.send(event.clone()) {
            Ok(()) => true,
            Err(Lost::Gone) => false,
            Err(Lost::Slow) => {
                log::warn!(target: "http", "an event listener did not keep up and was cut off");
                false
            }
        });
    }

    /// Answers `GET /api/v1/events`: what came after `Last-Event-ID`, then what comes. When that
    /// is no longer kept, or from an earlier life of this process, an event `missed` comes first.
    ///
    /// # Errors
    /// 503 when there are too many listeners.
    pub fn listen(&self, call: &Call) -> Result<Reply, Failure> {
        let since = call
            .header("last-event-id")
            .and_then(|id| id.parse::<u64>().ok());
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.feeds.retain(|feed| !feed.is_gone());
        if inner.feeds.len() >= LISTENERS_MAX {
            return Err(Failure::new(
                503,
                "too_many_listeners",
                "too many event listeners",
            ));
        }
        let (feed, reply) = feed(());
        if let Some(since) = since {
            let oldest = inner
                .ring
                .front()
                .and_then(|e| e.id)
                .unwrap_or(inner.last + 1);
            let newer: Vec<&Event> = inner.ring.iter().filter(|e| e.id > Some(since)).collect();
            // The feed holds fewer than the ring: a listener that far behind is told so.
            let kept = newer.len().min(super::sse::BACKLOG - 1);
            if since + 1 < oldest || since > inner.last || kept < newer.len() {
                let missed = Event {
                    id: None,
                    name: "missed".into(),
                    data: "{}".into(),
                };
                let _ = feed.send(missed);
            }
            for event in &newer[newer.len() - kept..] {
                let _ = feed.send((*event).clone());
            }
        }
        inner.feeds.push(feed);
        Ok(reply)
    }
}
