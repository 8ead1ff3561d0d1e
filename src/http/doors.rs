//! How many connections are let in, overall and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The part of all places, one in so many, that idle connections leave free for others.
const SPARE_PART: usize = 8;

/// How many connections are served at once.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Over all clients.
    pub total: usize,
    /// From one address, or one /64 of IPv6: many visitors may share one behind NAT, and a controller is one too.
    pub per_address: usize,
}

impl Admission {
    /// At most `total`, half of them from one address: nobody alone keeps the others out.
    #[must_use]
    pub fn of(total: usize) -> Self {
        Self {
            total,
            per_address: total / 2,
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::of(20_000)
    }
}

/// Who is inside.
#[derive(Debug)]
pub(super) struct Doors {
    admission: Admission,
    open: AtomicUsize,
    /// Whether the last one that came had to be closed for want of descriptors.
    is_short: AtomicBool,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place at the doors, given back on drop.
#[derive(Debug)]
pub(super) struct Place(Arc<Doors>, IpAddr);

impl Place {
    /// Whether hardly a place is left for others.
    pub(super) fn is_crowded(&self) -> bool {
        self.0.is_crowded()
    }
}

/// Whom an address stands for: a subscriber has 2^64 addresses of IPv6 (RFC 6177).
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from(ip.to_bits() >> 64 << 64).into(),
    }
}

impl Doors {
    pub(super) fn new(admission: Admission) -> Arc<Self> {
        Arc::new(Self {
            admission,
            open: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
            by_address: Mutex::default(),
        })
    }

    /// Whether everybody has left.
    pub(super) fn is_empty(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Whether hardly a place is left: idle connections give way then.
    pub(super) fn is_crowded(&self) -> bool {
        let total = self.admission.total;
        self.is_short.load(Ordering::Relaxed)
            || self.open.load(Ordering::Relaxed) >= total - total / SPARE_PART
    }

    /// Whether descriptors are short: idle connections give way then, too.
    pub(super) fn set_short(&self, is_short: bool) {
        self.is_short.store(is_short, Ordering::Relaxed);
    }

    /// Lets one in, or not.
    pub(super) fn enter(doors: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let ip = neighbourhood(ip);
        if doors.open.load(Ordering::Relaxed) >= doors.admission.total {
            return None;
        }
        let mut by_address = doors
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(ip).or_default();
        if *count >= doors.admission.per_address {
            return None;
        }
        *count += 1;
        doors.open.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(doors), ip))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self
            .0
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let admission = Admission {
            total: 3,
            per_address: 2,
        };
        let doors = Doors::new(admission);
        let [a, b]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = Doors::enter(&doors, a);
        let second = Doors::enter(&doors, a);
        assert!(first.is_some() && second.is_some() && Doors::enter(&doors, a).is_none());
        let third = Doors::enter(&doors, b);
        assert!(third.is_some() && Doors::enter(&doors, b).is_none());
        drop(first);
        assert!(Doors::enter(&doors, a).is_some());
    }

    #[test]
    fn a_subscriber_with_many_addresses_is_one_client() {
        let doors = Doors::new(Admission {
            total: 9,
            per_address: 2,
        });
        let enter = |ip: &str| Doors::enter(&doors, ip.parse().unwrap());
        let held = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("2001:db8::ffff:0:0:3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        assert!(enter("192.0.2.1").is_some() && enter("192.0.2.2").is_some());
    }
}
