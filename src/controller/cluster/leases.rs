//! The leases of the keys that this controller writes.

use std::time::{Duration, Instant};

use smol::lock::Mutex;

use crate::clock;
use crate::etcd::{EtcdClient, EtcdError, Lease};

/// How long a controller without a pulse counts as alive: several pulses.
const PRESENCE: Duration = Duration::from_secs(5);
/// Life of a lease for events, and its age at which the next one is granted: a listener that
/// reconnects can read events of the last 10 minutes at least.
const EVENTS: (Duration, Duration) = (Duration::from_secs(15 * 60), Duration::from_secs(5 * 60));
/// The same for Idempotency-Keys: 24 hours at least (api.md).
const KEYS: (Duration, Duration) = (Duration::from_secs(25 * 3_600), Duration::from_secs(3_600));

/// What a lease is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeaseKind {
    /// Events: not kept alive, replaced when it is some minutes old.
    Events,
    /// Workers that this controller hears: `workers.heartbeat_timeout`.
    Hearing,
    /// Idempotency-Keys: not kept alive, replaced every hour.
    Keys,
    /// This controller's presence.
    Presence,
}

#[derive(Debug)]
struct LeaseSlot {
    ttl: Duration,
    renew: Option<Duration>,
    lease: Mutex<Option<(Lease, Instant)>>,
}

/// One lease of each kind, in the order of [`LeaseKind`].
#[derive(Debug)]
pub(super) struct Leases([LeaseSlot; 4]);

impl Leases {
    pub(super) fn new(heartbeat_timeout: Duration) -> Self {
        let kinds = [
            (EVENTS.0, Some(EVENTS.1)),
            (heartbeat_timeout.max(PRESENCE), None),
            (KEYS.0, Some(KEYS.1)),
            (PRESENCE, None),
        ];
        Self(kinds.map(|(ttl, renew)| LeaseSlot {
            ttl,
            renew,
            lease: Mutex::new(None),
        }))
    }

    fn of(&self, kind: LeaseKind) -> &LeaseSlot {
        &self.0[kind as usize]
    }

    /// The lease; a new one if there is none or it is too old.
    pub(super) async fn get(&self, etcd: &EtcdClient, kind: LeaseKind) -> Result<Lease, EtcdError> {
        let slot = self.of(kind);
        let mut lease = slot.lease.lock().await;
        let age = |since: Instant| clock::now().saturating_duration_since(since);
        match *lease {
            Some((lease, since)) if slot.renew.is_none_or(|renew| age(since) < renew) => Ok(lease),
            _ => {
                let new = etcd.grant(slot.ttl).await?;
                *lease = Some((new, clock::now()));
                Ok(new)
            }
        }
    }

    /// Keeps a lease alive, if there is one; one that has expired is forgotten.
    pub(super) async fn keep(&self, etcd: &EtcdClient, kind: LeaseKind) -> Result<(), EtcdError> {
        let mut lease = self.of(kind).lease.lock().await;
        if let Some((known, _)) = *lease
            && !etcd.keep(known).await?
        {
            *lease = None;
        }
        Ok(())
    }

    /// Forgets all leases, so that new ones are granted.
    pub(super) async fn forget(&self) {
        for slot in &self.0 {
            *slot.lease.lock().await = None;
        }
    }

    /// Ends a lease with its keys.
    pub(super) async fn end(&self, etcd: &EtcdClient, kind: LeaseKind) -> Result<(), EtcdError> {
        match self.of(kind).lease.lock().await.take() {
            Some((lease, _)) => etcd.revoke(lease).await,
            None => Ok(()),
        }
    }
}
