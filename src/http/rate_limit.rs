//! Rate limits by token bucket (sans IO), and what counts as one client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// How often something may be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Size of the bucket: this many times in a row.
    pub burst: u32,
    /// Time in which one token is refilled.
    pub interval: Duration,
}

/// A token bucket, full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    /// When it will be full again; none if no token was ever taken.
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// Takes a token.
    ///
    /// # Errors
    /// The time until the next token.
    pub(crate) fn take(&mut self, now: Instant, rate: Rate) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + rate.interval;
        let ahead = full_at.saturating_duration_since(now);
        match ahead.checked_sub(rate.interval * rate.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = Some(full_at);
                Ok(())
            }
        }
    }
}

/// The address that limits count a client under: an IPv6 subscriber has 2^64 addresses (RFC 6177),
/// so those of one /64 are one client.
pub(crate) fn client_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// Addresses that a [`ClientRateLimit`] remembers at once.
const CLIENTS_MAX: usize = 4_096;

/// One token bucket for each client address, bounded in memory.
#[derive(Debug)]
pub(crate) struct ClientRateLimit {
    rate: Rate,
    /// Only buckets that are not full.
    buckets: Mutex<HashMap<IpAddr, TokenBucket>>,
}

impl ClientRateLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::default(),
        }
    }

    /// Takes one of the address's tokens.
    ///
    /// # Errors
    /// The time until its next token.
    pub(crate) fn take(&self, now: Instant, ip: IpAddr) -> Result<(), Duration> {
        let ip = client_network(ip);
        let mut buckets = self.buckets.lock();
        buckets.retain(|_, bucket| bucket.full_at > Some(now));
        if !buckets.contains_key(&ip) && buckets.len() >= CLIENTS_MAX {
            // The one with the most tokens left has the least to be remembered for.
            let fullest = buckets.iter().min_by_key(|(_, bucket)| bucket.full_at);
            if let Some(fullest) = fullest.map(|(ip, _)| *ip) {
                buckets.remove(&fullest);
            }
        }
        buckets.entry(ip).or_default().take(now, self.rate)
    }

    /// Fills the address's bucket again.
    pub(crate) fn reset(&self, ip: IpAddr) {
        self.buckets.lock().remove(&client_network(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const RATE: Rate = Rate {
        burst: 4,
        interval: Duration::from_secs(1),
    };

    fn v6(network: u64, host: u64) -> IpAddr {
        Ipv6Addr::from(u128::from(network) << 64 | u128::from(host)).into()
    }

    #[test]
    fn of_ten_in_a_second_the_burst_is_let_through_and_the_next_after_the_named_wait() {
        let mut bucket = TokenBucket::default();
        let start = clock::now();
        let heard: Vec<bool> = (0..10)
            .map(|n| {
                let now = start + Duration::from_millis(n * 90);
                bucket.take(now, RATE).is_ok()
            })
            .collect();
        assert_eq!(heard.iter().filter(|ok| **ok).count(), 4, "{heard:?}");
        let now = start + Duration::from_millis(900);
        let wait = bucket.take(now, RATE).unwrap_err();
        assert!(wait <= RATE.interval, "{wait:?}");
        assert_eq!(bucket.take(now + wait, RATE), Ok(()));
        assert!(bucket.take(now + wait, RATE).is_err());
    }

    #[test]
    fn an_address_has_a_few_tries_and_earns_more_with_time() {
        let limit = ClientRateLimit::new(RATE);
        let now = clock::now();
        let [mallory, alice] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        for _ in 0..RATE.burst {
            assert_eq!(limit.take(now, mallory), Ok(()));
        }
        let wait = limit.take(now, mallory).unwrap_err();
        assert_eq!(wait, RATE.interval);
        assert_eq!(limit.take(now, alice), Ok(()));
        assert_eq!(limit.take(now + wait, mallory), Ok(()));
        assert!(limit.take(now + wait, mallory).is_err());
        limit.reset(mallory);
        assert_eq!(limit.take(now + wait, mallory), Ok(()));
    }

    #[test]
    fn a_network_counts_as_one_address_and_many_of_them_lock_nobody_out() {
        let limit = ClientRateLimit::new(RATE);
        let now = clock::now();
        for host in 0..u64::from(RATE.burst) {
            assert_eq!(limit.take(now, v6(1, host)), Ok(()));
        }
        assert!(limit.take(now, v6(1, 99)).is_err());
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(client_network(mapped), IpAddr::from([10, 0, 0, 1]));
        for n in 0..CLIENTS_MAX as u64 + 9 {
            assert_eq!(limit.take(now, v6(100 + n, 0)), Ok(()));
        }
        assert!(limit.buckets.lock().len() <= CLIENTS_MAX);
        assert!(
            limit.take(now, v6(1, 99)).is_err(),
            "the worst is remembered"
        );
    }
}
