//! Joining the store: at the start, when it comes later, and again when it is another one.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::controller::Controller;
use crate::etcd::{EtcdError, Kv, Revision, Txn};
use crate::exec::{self, Stop};

use super::etcd_store::EtcdStore;
use super::schema;

/// Pause between tries to join a store that is not there yet.
const RETRY: Duration = Duration::from_secs(1);
/// How often the replica is compared with the store.
const COMPARISON: Duration = Duration::from_secs(60);
/// Time that the watch has to show what the comparison has read.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// Keys of one page; fewer when they are large.
const PAGE: usize = 256;
/// Keys of one page without their values.
const KEYS_A_PAGE: usize = 4_096;

/// Keys of the store as they are at one revision.
pub(super) struct Snapshot {
    pub(super) kvs: Vec<Kv>,
    pub(super) revision: Revision,
    /// Identifies the cluster.
    pub(super) cluster: u64,
}

impl EtcdStore {
    /// Joins the store, or leaves that to a task when the store is not there yet. Its tasks run
    /// from then on.
    ///
    /// # Errors
    /// When the configuration must change.
    pub(super) async fn join_or_wait(
        self: &Arc<Self>,
        controller: &Arc<Controller>,
        stop: &Stop,
    ) -> Result<(), EtcdError> {
        match self.join(controller).await {
            Ok(()) => self.spawn_tasks(controller, stop),
            Err(error) if error.is_configuration() => return Err(error),
            Err(error) => {
                log::warn!(target: "controller", "store: not there yet, this controller is not ready until it is: {error}");
                self.health.watching(Err(error.to_string()));
                let (store, controller) = (Arc::clone(self), Arc::clone(controller));
                let (waits, tasks) = (stop.clone(), stop.clone());
                let later = async move {
                    loop {
                        clock::sleep(RETRY).await;
                        match store.join(&controller).await {
                            Ok(()) => break store.spawn_tasks(&controller, &tasks),
                            Err(error) => store.health.watching(Err(error.to_string())),
                        }
                    }
                };
                exec::spawn(async move { waits.or(later).await }).detach();
            }
        }
        Ok(())
    }

    async fn join(self: &Arc<Self>, controller: &Controller) -> Result<(), EtcdError> {
        self.etcd.check().await?;
        self.pulse().await?;
        self.resync(controller).await?;
        self.has_joined.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the whole picture from the store. When it is another store than before, or an earlier
    /// state of it, listeners are told that they may have missed events.
    pub(super) async fn resync(self: &Arc<Self>, controller: &Controller) -> Result<(), EtcdError> {
        let mut snapshot = self.snapshot(&self.names.live(), true).await?;
        let is_another = self
            .replica()
            .is_another(snapshot.cluster, snapshot.revision);
        if is_another {
            log::warn!(target: "controller", "store: it is another one, or was restored: revision {} after {}, cluster {:x}",
                snapshot.revision, self.replica().revision(), snapshot.cluster);
            self.leases.forget().await;
        }
        let base = self.names.event_base();
        if is_another || !snapshot.kvs.iter().any(|kv| kv.key == base) {
            self.raise_event_base().await?;
            snapshot = self.snapshot(&self.names.live(), true).await?;
        }
        if is_another {
            controller.event_bus.interrupted();
        }
        let events = self.replica().replace(clock::now(), snapshot);
        self.learn(controller, events);
        Ok(())
    }

    /// Raises the base of the events' ids above every event that was published here.
    async fn raise_event_base(&self) -> Result<(), EtcdError> {
        let key = self.names.event_base();
        loop {
            let known = self.etcd.read(&key).await?;
            let base: Option<schema::EventBase> = known.as_ref().and_then(schema::read);
            let last = self.replica().last_event();
            let revision = known.as_ref().map_or(0, |kv| kv.mod_revision);
            let is_above = |base: schema::EventBase| {
                schema::event_id(base.base, revision, &schema::EventRecord::default()) > last
            };
            if base.is_some_and(is_above) {
                return Ok(());
            }
            let value = schema::written(&schema::event_base(clock::wall(), last));
            let txn = Txn::new().when_at(&key, revision).put(&key, &value, None);
            if self.etcd.commit(&txn).await?.succeeded {
                return Ok(());
            }
        }
    }

    /// The keys below a prefix, as they are at one revision.
    pub(super) async fn snapshot(
        &self,
        prefix: &str,
        with_values: bool,
    ) -> Result<Snapshot, EtcdError> {
        let (mut kvs, mut revision) = (Vec::<Kv>::new(), 0);
        let mut limit = if with_values { PAGE } else { KEYS_A_PAGE };
        loop {
            let after = kvs.last().map(|kv| kv.key.as_str());
            let page = self.etcd.page(prefix, after, revision, limit, with_values);
            match page.await {
                Ok(page) => {
                    if revision == 0 {
                        revision = page.revision;
                    }
                    kvs.extend(page.kvs);
                    if !page.has_more {
                        let cluster = page.cluster;
                        return Ok(Snapshot {
                            kvs,
                            revision,
                            cluster,
                        });
                    }
                }
                Err(EtcdError::TooLarge) if limit > 1 => limit /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Compares the replica with the store now and then: a fault that nobody thought of must not
    /// last.
    pub(super) async fn compare_forever(self: &Arc<Self>) -> Infallible {
        loop {
            clock::sleep(COMPARISON).await;
            let Ok(stored) = self.snapshot(&self.names.workers(), false).await else {
                continue;
            };
            let shown = async {
                loop {
                    if let Some(differs) = self.replica().differs(&stored.kvs, stored.revision) {
                        return differs;
                    }
                    clock::sleep(RETRY / 4).await;
                }
            };
            if let Ok(true) = clock::by(clock::now() + SHOWN_WITHIN, shown).await {
                log::error!(target: "controller", "store: this controller's copy differs from it: reading the whole again");
                self.needs_resync.store(true, Ordering::Relaxed);
            }
        }
    }
}
