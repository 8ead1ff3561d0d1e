//! Wrong tokens: how many of them one address may try.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Wrong tokens in a row: a person who pastes the wrong one, and again.
const BURST: u32 = 8;
/// Time that earns one more.
const EARNS: Duration = Duration::from_secs(15);
/// Addresses that are remembered at once.
const ADDRESSES_MAX: usize = 4_096;

/// Wrong tries by address; a whole IPv6 network of 64 bits counts as one.
#[derive(Debug, Default)]
pub(super) struct LoginRateLimit(Mutex<HashMap<IpAddr, Instant>>);

/// Who counts as one.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

impl LoginRateLimit {
    /// Takes a try, or says how long to wait for the next.
    pub(super) fn take(&self, now: Instant, ip: IpAddr) -> Result<(), Duration> {
        let mut clear_at = self.0.lock();
        clear_at.retain(|_, at| *at > now);
        let ip = network(ip);
        let known = clear_at.get(&ip).copied();
        let next = known.unwrap_or(now) + EARNS;
        let wait = next
            .saturating_duration_since(now)
            .saturating_sub(EARNS * BURST);
        if !wait.is_zero() {
            return Err(wait);
        }
        if known.is_none()
            && clear_at.len() >= ADDRESSES_MAX
            && let Some(soonest) = clear_at.iter().min_by_key(|(_, at)| **at)
        {
            let soonest = *soonest.0;
            clear_at.remove(&soonest);
        }
        clear_at.insert(ip, next);
        Ok(())
    }

    /// The token was right: the address has a clean slate.
    pub(super) fn forgive(&self, ip: IpAddr) {
        self.0.lock().remove(&network(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn v6(network: u64, host: u64) -> IpAddr {
        Ipv6Addr::from(u128::from(network) << 64 | u128::from(host)).into()
    }

    #[test]
    fn an_address_has_a_few_tries_and_earns_more_with_time() {
        let tries = LoginRateLimit::default();
        let now = clock::now();
        let [mallory, alice] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        for _ in 0..BURST {
            assert_eq!(tries.take(now, mallory), Ok(()));
        }
        let wait = tries.take(now, mallory).unwrap_err();
        assert_eq!(wait, EARNS);
        assert_eq!(tries.take(now, alice), Ok(()));
        assert_eq!(tries.take(now + wait, mallory), Ok(()));
        assert!(tries.take(now + wait, mallory).is_err());
        tries.forgive(mallory);
        assert_eq!(tries.take(now + wait, mallory), Ok(()));
    }

    #[test]
    fn a_network_counts_as_one_address_and_many_of_them_lock_nobody_out() {
        let tries = LoginRateLimit::default();
        let now = clock::now();
        for host in 0..u64::from(BURST) {
            assert_eq!(tries.take(now, v6(1, host)), Ok(()));
        }
        assert!(tries.take(now, v6(1, 99)).is_err());
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), IpAddr::from([10, 0, 0, 1]));
        for n in 0..ADDRESSES_MAX as u64 + 9 {
            assert_eq!(tries.take(now, v6(100 + n, 0)), Ok(()));
        }
        assert!(tries.0.lock().len() <= ADDRESSES_MAX);
        assert!(
            tries.take(now, v6(1, 99)).is_err(),
            "the worst is remembered"
        );
    }
}
