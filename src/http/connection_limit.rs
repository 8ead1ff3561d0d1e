//! How many connections are let in, overall and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::rate_limit::client_network;
use crate::descriptors;
use crate::sync::Mutex;

/// The part of the places, of all and of one address, that idle connections leave free for others:
/// one in so many.
const SPARE_PART: usize = 8;

/// How many connections are served at once.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Over all clients.
    pub total: usize,
    /// From one address, or one /64 of IPv6: many visitors may share one behind NAT, and a controller is one too.
    pub per_address: usize,
}

impl ConnectionLimits {
    /// At most `total`, half of them from one address: nobody alone keeps the others out.
    #[must_use]
    pub fn of(total: usize) -> Self {
        Self {
            total,
            per_address: total / 2,
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::of(20_000)
    }
}

/// Who is inside.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    admission: ConnectionLimits,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, Arc<AtomicUsize>>>,
}

/// A place at the doors, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    doors: Arc<ConnectionLimiter>,
    ip: IpAddr,
    /// Places of this address that are taken.
    taken: Arc<AtomicUsize>,
}

impl Permit {
    /// Whether hardly a place is left for others, or for others of this address.
    pub(super) fn near_limit(&self) -> bool {
        let per_address = self.doors.admission.per_address;
        self.doors.near_limit() || is_most(self.taken.load(Ordering::Relaxed), per_address)
    }
}

/// Whether so many of `all` are taken that idle connections give way.
fn is_most(taken: usize, all: usize) -> bool {
    taken >= all - all / SPARE_PART
}

impl ConnectionLimiter {
    pub(super) fn new(admission: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            admission,
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// Whether everybody has left.
    pub(super) fn is_empty(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Whether hardly a place or a descriptor is left: idle connections give way then.
    pub(super) fn near_limit(&self) -> bool {
        is_most(self.open.load(Ordering::Relaxed), self.admission.total) || descriptors::is_short()
    }

    /// Lets one in, or not.
    pub(super) fn enter(doors: &Arc<Self>, ip: IpAddr) -> Option<Permit> {
        let ip = client_network(ip);
        if doors.open.load(Ordering::Relaxed) >= doors.admission.total {
            return None;
        }
        let mut by_address = doors.by_address.lock();
        let taken = by_address.entry(ip).or_default();
        if taken.load(Ordering::Relaxed) >= doors.admission.per_address {
            return None;
        }
        taken.fetch_add(1, Ordering::Relaxed);
        let taken = Arc::clone(taken);
        doors.open.fetch_add(1, Ordering::Relaxed);
        let doors = Arc::clone(doors);
        Some(Permit { doors, ip, taken })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let doors = &self.doors;
        doors.open.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = doors.by_address.lock();
        if self.taken.fetch_sub(1, Ordering::Relaxed) == 1 {
            by_address.remove(&self.ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let admission = ConnectionLimits {
            total: 3,
            per_address: 2,
        };
        let doors = ConnectionLimiter::new(admission);
        let [a, b]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = ConnectionLimiter::enter(&doors, a);
        let second = ConnectionLimiter::enter(&doors, a);
        assert!(
            first.is_some() && second.is_some() && ConnectionLimiter::enter(&doors, a).is_none()
        );
        let third = ConnectionLimiter::enter(&doors, b);
        assert!(third.is_some() && ConnectionLimiter::enter(&doors, b).is_none());
        drop(first);
        assert!(ConnectionLimiter::enter(&doors, a).is_some());
    }

    #[test]
    fn a_subscriber_with_many_addresses_is_one_client() {
        let doors = ConnectionLimiter::new(ConnectionLimits {
            total: 9,
            per_address: 2,
        });
        let enter = |ip: &str| ConnectionLimiter::enter(&doors, ip.parse().unwrap());
        let held = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("2001:db8::ffff:0:0:3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        assert!(enter("192.0.2.1").is_some() && enter("192.0.2.2").is_some());
    }
}
