//! How often something may be done, sans IO.

use std::time::{Duration, Instant};

/// How often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// This many times in a row.
    pub burst: u32,
    /// Time that earns once more.
    pub earns: Duration,
}

/// A token bucket, full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When it will be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one.
    ///
    /// # Errors
    /// How long to wait for it.
    pub(crate) fn take(&mut self, now: Instant, pace: Pace) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + pace.earns;
        let ahead = full_at.saturating_duration_since(now);
        match ahead.checked_sub(pace.earns * pace.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = Some(full_at);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn of_ten_in_a_second_the_burst_is_let_through_and_the_next_after_the_named_wait() {
        let earns = Duration::from_secs(1);
        let pace = Pace { burst: 4, earns };
        let mut bucket = Bucket::default();
        let start = clock::now();
        let heard: Vec<bool> = (0..10)
            .map(|n| {
                let now = start + Duration::from_millis(n * 90);
                bucket.take(now, pace).is_ok()
            })
            .collect();
        assert_eq!(heard.iter().filter(|ok| **ok).count(), 4, "{heard:?}");
        let now = start + Duration::from_millis(900);
        let wait = bucket.take(now, pace).unwrap_err();
        assert!(wait <= earns, "{wait:?}");
        assert_eq!(bucket.take(now + wait, pace), Ok(()));
        assert!(bucket.take(now + wait, pace).is_err());
    }
}
