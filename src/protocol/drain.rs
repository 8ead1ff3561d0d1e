//! A drain's deadline between a controller and a worker, whose clocks may differ.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::HeartbeatReply;

/// A drain that was ordered for a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// RFC 3339 time at which the remaining sessions end; none: they may stay.
    #[serde(default)]
    pub deadline: Option<String>,
}

impl HeartbeatReply {
    /// Sets the drain that the worker is to be under; `wall` is the controller's time.
    pub fn set_drain(&mut self, drain: Option<DrainOrder>, wall: SystemTime) {
        self.drain = Some(drain.is_some());
        self.drain_deadline = drain.and_then(|order| order.deadline);
        self.drain_remaining_ms = left(self.drain_deadline.as_deref(), wall)
            .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    }

    /// Time until the drain's deadline. Older controllers send only the date, which is compared with
    /// the worker's clock, `wall`.
    #[must_use]
    pub fn drain_left(&self, wall: SystemTime) -> Option<Duration> {
        let told = self.drain_remaining_ms.map(Duration::from_millis);
        told.or_else(|| left(self.drain_deadline.as_deref(), wall))
    }
}

/// Time from `wall` until the deadline; zero if it has passed.
fn left(deadline: Option<&str>, wall: SystemTime) -> Option<Duration> {
    let at = humantime::parse_rfc3339(deadline?).ok()?;
    Some(at.duration_since(wall).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_drains_deadline_is_a_span_by_the_controllers_clock_whatever_the_workers_says() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        let order = |deadline| Some(DrainOrder { deadline });
        let mut reply: HeartbeatReply =
            serde_json::from_str(r#"{"heartbeat_interval_ms":5000}"#).unwrap();
        assert_eq!(reply.drain_left(wall), None);
        let deadline = clock::rfc3339(wall + hour);
        reply.set_drain(order(Some(deadline)), wall);
        assert_eq!(reply.drain_remaining_ms, Some(3_600_000));
        for skewed in [wall - day, wall, wall + day] {
            assert_eq!(reply.drain_left(skewed), Some(hour));
        }
        let older = HeartbeatReply {
            drain_remaining_ms: None,
            ..reply.clone()
        };
        assert_eq!(older.drain_left(wall), Some(hour));
        assert_eq!(older.drain_left(wall + day), Some(Duration::ZERO));
        reply.set_drain(order(reply.drain_deadline.clone()), wall + day);
        assert_eq!(reply.drain_left(wall), Some(Duration::ZERO), "it is over");
        for (drain, is_drained) in [(order(None), true), (None, false)] {
            reply.set_drain(drain, wall);
            assert_eq!(
                (reply.drain, reply.drain_left(wall)),
                (Some(is_drained), None)
            );
        }
    }
}
