//! The leases that this controller's keys live under.

use std::time::{Duration, Instant};

use smol::lock::Mutex;

use crate::clock;
use crate::etcd::{Etcd, EtcdError, Lease};

/// How long a controller that says nothing counts as alive: several pulses.
const PRESENCE: Duration = Duration::from_secs(5);
/// Life of a lease for events, and its age at which the next one is taken: what a listener that
/// comes back can have missed is kept for 10 minutes at least.
const EVENTS: (Duration, Duration) = (Duration::from_secs(15 * 60), Duration::from_secs(5 * 60));
/// The same for Idempotency-Keys: 24 hours at least (api.md).
const KEYS: (Duration, Duration) = (Duration::from_secs(25 * 3_600), Duration::from_secs(3_600));

/// What a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Events: not kept alive, replaced when it is some minutes old.
    Events,
    /// What this controller hears of workers; as long as they may be silent.
    Hearing,
    /// Idempotency-Keys: not kept alive, replaced every hour.
    Keys,
    /// That this controller lives.
    Presence,
}

#[derive(Debug)]
struct Kept {
    ttl: Duration,
    renew: Option<Duration>,
    lease: Mutex<Option<(Lease, Instant)>>,
}

/// One lease of each kind.
#[derive(Debug)]
pub(super) struct Leases {
    events: Kept,
    hearing: Kept,
    keys: Kept,
    presence: Kept,
}

impl Leases {
    pub(super) fn new(heartbeat_timeout: Duration) -> Self {
        let kept = |ttl, renew| Kept {
            ttl,
            renew,
            lease: Mutex::new(None),
        };
        Self {
            events: kept(EVENTS.0, Some(EVENTS.1)),
            hearing: kept(heartbeat_timeout.max(PRESENCE), None),
            keys: kept(KEYS.0, Some(KEYS.1)),
            presence: kept(PRESENCE, None),
        }
    }

    fn of(&self, kind: Kind) -> &Kept {
        match kind {
            Kind::Events => &self.events,
            Kind::Hearing => &self.hearing,
            Kind::Keys => &self.keys,
            Kind::Presence => &self.presence,
        }
    }

    /// The lease, a new one where there is none or it is too old.
    pub(super) async fn get(&self, etcd: &Etcd, kind: Kind) -> Result<Lease, EtcdError> {
        let kept = self.of(kind);
        let mut lease = kept.lease.lock().await;
        let age = |since: Instant| clock::now().saturating_duration_since(since);
        match *lease {
            Some((lease, since)) if kept.renew.is_none_or(|renew| age(since) < renew) => Ok(lease),
            _ => {
                let new = etcd.grant(kept.ttl).await?;
                *lease = Some((new, clock::now()));
                Ok(new)
            }
        }
    }

    /// Keeps a lease, if there is one; it is forgotten when it has ended.
    pub(super) async fn keep(&self, etcd: &Etcd, kind: Kind) -> Result<(), EtcdError> {
        let mut lease = self.of(kind).lease.lock().await;
        if let Some((known, _)) = *lease
            && !etcd.keep(known).await?
        {
            *lease = None;
        }
        Ok(())
    }

    /// The store does not know a lease of ours: new ones are taken.
    pub(super) async fn forget(&self) {
        for kind in [Kind::Events, Kind::Hearing, Kind::Keys, Kind::Presence] {
            *self.of(kind).lease.lock().await = None;
        }
    }

    /// Ends a lease with its keys.
    pub(super) async fn end(&self, etcd: &Etcd, kind: Kind) -> Result<(), EtcdError> {
        match self.of(kind).lease.lock().await.take() {
            Some((lease, _)) => etcd.revoke(lease).await,
            None => Ok(()),
        }
    }
}
