//! One create at a time for each body.
//!
//! Sunshine gives a PIN to any pending pairing, so two workers that pair with one body at once make
//! one of the two creates fail, with nothing left behind. That is why the lock across controllers
//! may be best effort: while the store is away, creates go on without it.
//!
//! A lock in the store has a lease of its own, which its holder renews. So it ends with its create,
//! even when the write was applied after its author had given up, and when its deletion is lost.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use smol::Task;
use smol::lock::MutexGuardArc;

use crate::etcd::{EtcdError, Lease, Txn};
use crate::sync::Mutex;
use crate::{clock, exec, ids};

use super::{EtcdStore, Gauge};

/// How often a waiting create looks whether the body is free.
const POLL: Duration = Duration::from_millis(100);
/// How long a lock in the store lasts when its holder no longer renews it.
const LOCK_TTL: Duration = Duration::from_secs(8);
/// How often its holder renews it.
const LOCK_RENEWAL: Duration = Duration::from_secs(2);
/// Age from which a lock is a problem: longer than a create may wait, start and pair.
const LOCK_AGE_MAX: Duration = Duration::from_secs(240);

/// The locks of one process: one for each body that is being paired.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalBodyLocks(Arc<Mutex<HashMap<IpAddr, LocalLock>>>);

#[derive(Debug, Default)]
struct LocalLock {
    lock: Weak<smol::lock::Mutex<()>>,
    /// Since when it is held; none while creates only wait for it.
    since: Option<Instant>,
}

/// A locked body; released on drop.
#[derive(Debug)]
pub(in crate::controller) struct BodyLock {
    body: IpAddr,
    locks: LocalBodyLocks,
    _shared: Option<SharedLock>,
    _local: MutexGuardArc<()>,
}

impl LocalBodyLocks {
    /// Locks a body within this process.
    pub(super) async fn lock(
        &self,
        body: IpAddr,
        deadline: Instant,
    ) -> Result<BodyLock, clock::Elapsed> {
        let lock = self.of(body);
        let local = clock::by(deadline, lock.lock_arc()).await?;
        self.set_since(body, Some(clock::now()));
        Ok(BodyLock {
            body,
            locks: self.clone(),
            _shared: None,
            _local: local,
        })
    }

    fn of(&self, body: IpAddr) -> Arc<smol::lock::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, held| held.lock.strong_count() > 0);
        let held = locks.entry(body).or_default();
        held.lock.upgrade().unwrap_or_else(|| {
            let lock = Arc::default();
            held.lock = Arc::downgrade(&lock);
            lock
        })
    }

    fn set_since(&self, body: IpAddr, since: Option<Instant>) {
        if let Some(held) = self.0.lock().get_mut(&body) {
            held.since = since;
        }
    }

    /// The body that is locked longest, and for how long.
    fn oldest(&self, now: Instant) -> Option<(IpAddr, Duration)> {
        let locks = self.0.lock();
        let held = locks
            .iter()
            .filter_map(|(body, held)| Some((*body, held.since?)));
        let (body, since) = held.min_by_key(|(_, since)| *since)?;
        Some((body, now.saturating_duration_since(since)))
    }

    /// A metric: the age of the oldest lock.
    pub(super) fn gauge(&self) -> Gauge {
        let age = self
            .oldest(clock::now())
            .map_or(0.0, |(_, age)| age.as_secs_f64());
        let help = "How long the body is locked that a create locked first";
        ("body_lock_age_seconds", help, age)
    }

    /// What is wrong with a lock, for health.
    pub(super) fn problem(&self, now: Instant) -> Option<String> {
        let (body, age) = self.oldest(now).filter(|(_, age)| *age > LOCK_AGE_MAX)?;
        let age = clock::human(age);
        Some(format!(
            "body {body} is locked by a create for {age}: other creates for it are refused; \
             restart this controller if it lasts"
        ))
    }
}

impl Drop for BodyLock {
    fn drop(&mut self) {
        self.locks.set_since(self.body, None);
    }
}

/// A lock in the store.
#[derive(Debug)]
struct SharedLock {
    store: Arc<EtcdStore>,
    key: String,
    owner: String,
    /// Renews its lease until it is dropped.
    _renewal: Task<()>,
}

impl EtcdStore {
    /// Locks a body within this process, then in the store if it is there.
    pub(super) async fn lock_body(
        self: &Arc<Self>,
        body: IpAddr,
        deadline: Instant,
    ) -> Result<BodyLock, clock::Elapsed> {
        let mut lock = self.bodies.lock(body, deadline).await?;
        match clock::by(deadline, self.lock_shared(body)).await? {
            Ok(shared) => lock._shared = shared,
            Err(error) => {
                log::warn!(target: "controller", "cannot lock body={body} for the other controllers, creating without the lock: {error}");
            }
        }
        Ok(lock)
    }

    /// Waits for the lock in the store; none while the store is away.
    async fn lock_shared(self: &Arc<Self>, body: IpAddr) -> Result<Option<SharedLock>, EtcdError> {
        let key = self.names.body_lock(body);
        while self.health.is_there() {
            let lease = self.etcd.grant(LOCK_TTL).await?;
            // Made before the try: one that failed in transit may have been applied, or may still be.
            let shared = SharedLock {
                store: Arc::clone(self),
                key: key.clone(),
                owner: ids::label(),
                _renewal: exec::spawn(Arc::clone(self).renew(lease)),
            };
            let txn = Txn::new()
                .when_at(&key, 0)
                .put(&key, shared.owner.as_bytes(), Some(lease))
                .otherwise_read(&key);
            let outcome = self.etcd.commit(&txn).await?;
            let found = outcome.read.into_iter().next().flatten();
            if outcome.succeeded || found.is_some_and(|kv| kv.value == shared.owner.as_bytes()) {
                return Ok(Some(shared));
            }
            drop(shared);
            while self.health.is_there() && self.etcd.read(&key).await?.is_some() {
                clock::sleep(POLL).await;
            }
        }
        Ok(None)
    }

    /// Renews the lease of a lock for ever. While etcd does not answer the lock may expire: then
    /// another create may begin on the body, as without the store.
    async fn renew(self: Arc<Self>, lease: Lease) {
        loop {
            clock::sleep(LOCK_RENEWAL).await;
            match self.etcd.keep(lease).await {
                Ok(true) => {}
                Ok(false) => {
                    log::warn!(target: "controller", "the lock of a body expired before its create was done: the store was away for longer than {LOCK_TTL:?}");
                    return;
                }
                Err(error) => {
                    log::debug!(target: "controller", "store: a lock is not renewed: {error}");
                }
            }
        }
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        let txn = Txn::new()
            .when_is(&self.key, self.owner.as_bytes())
            .delete(&self.key);
        self.store.enqueue(txn);
    }
}
