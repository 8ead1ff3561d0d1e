//! The one place where time enters.
//!
//! [`now`] is monotonic and serves every interval, deadline and timeout; [`wall`] is shown to
//! people and other services and never compared. Sans-IO cores take an [`Instant`] from their
//! caller, so that tests run them in virtual time.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

/// Monotonic time, for intervals and deadlines.
#[must_use]
#[allow(clippy::disallowed_methods)] // this is the clock
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for timestamps that people read.
#[must_use]
#[allow(clippy::disallowed_methods)] // this is the clock
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A moment that other processes of this machine can measure from: no one sets this clock, and it
/// goes on while the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(i64);

impl Mark {
    /// Now.
    #[must_use]
    pub(crate) fn now() -> Self {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(since_boot.tv_sec * 1_000 + since_boot.tv_nsec / 1_000_000)
    }

    /// The moment `span` ago; also one before the machine started.
    #[must_use]
    pub(crate) fn ago(span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(Self::now().0.saturating_sub(span))
    }

    /// The moment that another process wrote down since the machine started.
    #[must_use]
    pub(crate) fn from_millis(since_boot: i64) -> Self {
        Self(since_boot)
    }

    /// Milliseconds since the machine started.
    #[must_use]
    pub(crate) fn as_millis(self) -> i64 {
        self.0
    }

    /// Time that has passed since.
    #[must_use]
    pub(crate) fn elapsed(self) -> Duration {
        let span = Self::now().0.saturating_sub(self.0);
        Duration::from_millis(u64::try_from(span).unwrap_or_default())
    }
}

/// The last second of the year 9999, where RFC 3339 ends, since 1970.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The latest time that can be written.
#[must_use]
pub(crate) fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + LATEST
}

/// `2026-03-23T10:15:00Z`: RFC 3339, UTC, whole seconds. What cannot be written so becomes the
/// nearest time that can.
#[must_use]
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let at = at.clamp(SystemTime::UNIX_EPOCH, latest());
    humantime::format_rfc3339_seconds(at).to_string()
}

/// `3h12m`, `45s`, `2d4h`: the two largest units, for people.
#[must_use]
pub(crate) fn human(span: Duration) -> String {
    let s = span.as_secs();
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Waits until `deadline`; at once when it has passed.
pub(crate) async fn until(deadline: Instant) {
    smol::Timer::at(deadline).await;
}

/// Waits for `span`.
pub async fn sleep(span: Duration) {
    smol::Timer::after(span).await;
}

/// The deadline came before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Runs `work` until `deadline`.
///
/// # Errors
/// [`Elapsed`] when the deadline comes first; `work` is dropped then.
pub(crate) async fn by<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    smol::future::or(async { Ok(work.await) }, async {
        until(deadline).await;
        Err(Elapsed)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_reads_as_the_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3 * 3_600 + 12 * 60 + 5, "3h12m"),
            (2 * 86_400 + 4 * 3_600, "2d4h"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_time_that_has_no_rfc_3339_form_becomes_the_nearest_that_has() {
        let epoch = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        for (at, text) in [
            (epoch - second, "1970-01-01T00:00:00Z"),
            (epoch + second, "1970-01-01T00:00:01Z"),
            (latest(), "9999-12-31T23:59:59Z"),
            (latest() + second, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(at), text);
        }
    }

    #[test]
    fn a_mark_is_measured_by_whoever_reads_it() {
        let long = Duration::from_secs(400 * 86_400);
        let mark = Mark::from_millis(Mark::ago(long).as_millis());
        assert!((long..long * 2).contains(&mark.elapsed()));
        let ahead = Mark::from_millis(Mark::now().as_millis() + 60_000);
        assert_eq!(ahead.elapsed(), Duration::ZERO);
    }

    #[test]
    fn work_that_outlives_its_deadline_is_dropped() {
        let late = smol::block_on(by(now(), std::future::pending::<()>()));
        assert_eq!(late, Err(Elapsed));
        let done = smol::block_on(by(now() + Duration::from_secs(60), async { 7 }));
        assert_eq!(done, Ok(7));
    }
}
