//! One create at a time for each body.
//!
//! Sunshine gives a PIN to any pending pairing, so two workers that pair with one body at once make
//! one of the two creates fail, with nothing left behind. That is why the lock across controllers
//! may be best effort: while the store is away, creates go on without it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use smol::lock::MutexGuardArc;

use crate::clock;
use crate::etcd::{EtcdError, Txn};
use crate::ids;
use crate::sync::Mutex;

use super::EtcdStore;
use super::leases::LeaseKind;

/// How often a waiting create looks whether the body is free.
const POLL: Duration = Duration::from_millis(100);

/// The locks of one process: one for each body that is being paired.
#[derive(Debug, Default)]
pub(super) struct LocalBodyLocks(Mutex<HashMap<IpAddr, Weak<smol::lock::Mutex<()>>>>);

/// A locked body; released on drop.
#[derive(Debug)]
pub(in crate::controller) struct BodyLock {
    _local: MutexGuardArc<()>,
    _shared: Option<SharedLock>,
}

impl LocalBodyLocks {
    /// Locks a body within this process.
    pub(super) async fn lock(
        &self,
        body: IpAddr,
        deadline: Instant,
    ) -> Result<BodyLock, clock::Elapsed> {
        let lock = self.of(body);
        Ok(BodyLock {
            _local: clock::by(deadline, lock.lock_arc()).await?,
            _shared: None,
        })
    }

    fn of(&self, body: IpAddr) -> Arc<smol::lock::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&body).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(body, Arc::downgrade(&lock));
        lock
    }
}

/// A lock in the store; it also ends with this controller's lease.
#[derive(Debug)]
struct SharedLock {
    store: Arc<EtcdStore>,
    key: String,
    owner: String,
}

impl EtcdStore {
    /// Locks a body within this process, then in the store if it is there.
    pub(super) async fn lock_body(
        self: &Arc<Self>,
        body: IpAddr,
        deadline: Instant,
    ) -> Result<BodyLock, clock::Elapsed> {
        let mut lock = self.bodies.lock(body, deadline).await?;
        if !self.health.is_there() {
            return Ok(lock);
        }
        // Made before the first try: one that failed in transit may have been applied.
        let shared = SharedLock {
            store: Arc::clone(self),
            key: self.names.body_lock(body),
            owner: ids::label(),
        };
        while self.health.is_there() {
            match self.try_lock(&shared.key, &shared.owner).await {
                Ok(true) => {
                    lock._shared = Some(shared);
                    break;
                }
                Ok(false) if clock::now() > deadline => return Err(clock::Elapsed),
                Ok(false) => clock::sleep(POLL).await,
                Err(error) => {
                    self.forget_lost_leases(&error).await;
                    log::warn!(target: "controller", "cannot lock body={body} for the other controllers, creating without the lock: {error}");
                    break;
                }
            }
        }
        Ok(lock)
    }

    async fn try_lock(&self, key: &str, owner: &str) -> Result<bool, EtcdError> {
        let lease = self.leases.get(&self.etcd, LeaseKind::Presence).await?;
        let txn = Txn::new()
            .when_at(key, 0)
            .put(key, owner.as_bytes(), Some(lease))
            .otherwise_read(key);
        let outcome = self.etcd.commit(&txn).await?;
        let found = outcome.read.into_iter().next().flatten();
        Ok(outcome.succeeded || found.is_some_and(|kv| kv.value == owner.as_bytes()))
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
