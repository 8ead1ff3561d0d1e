//! How often a session may offer, sans IO.

use std::time::{Duration, Instant};

/// Offers in a row: a page that retries after a failed network, twice.
const BURST: u32 = 4;
/// Time that earns one more offer. An offer costs milliseconds of CPU, mostly its certificate.
const EARNS: Duration = Duration::from_secs(1);

/// A token bucket, full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// When it will be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one offer, or says how long to wait for it.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + EARNS;
        let ahead = full_at.saturating_duration_since(now);
        match ahead.checked_sub(EARNS * BURST) {
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
    fn of_ten_offers_in_a_second_four_are_heard_and_the_next_after_the_named_wait() {
        let mut bucket = Bucket::default();
        let start = clock::now();
        let heard: Vec<bool> = (0..10)
            .map(|n| bucket.take(start + Duration::from_millis(n * 90)).is_ok())
            .collect();
        assert_eq!(heard.iter().filter(|ok| **ok).count(), 4, "{heard:?}");
        let now = start + Duration::from_millis(900);
        let wait = bucket.take(now).unwrap_err();
        assert!(wait <= EARNS, "{wait:?}");
        assert_eq!(bucket.take(now + wait), Ok(()));
        assert!(bucket.take(now + wait).is_err());
    }
}
