//! What the controllers of one fleet share: the seam between a controller and its store.
//!
//! Without a configured store the fleet is one controller's, and [`MemoryStore`] keeps the little
//! that is to be kept. With etcd, [`EtcdStore`] shares it: every controller keeps a replica of the
//! store and serves from it, so a placement costs no round trip. A session's state stays with its
//! worker, which also refuses what it cannot hold. So a running session needs no store, and
//! without it each controller goes on from its replica and from the heartbeats it receives.
//!
//! `schema` says what is stored under which key, `replica` what follows from a change,
//! `write_queue` what is still to be written: they are pure. `watcher` and `writer` are the tasks
//! that read and write; `etcd_keys` and `body_lock` are asked by a create before it asks a worker.

mod body_lock;
mod etcd_keys;
mod etcd_store;
mod join;
mod leases;
mod replica;
mod schema;
mod store_health;
mod watcher;
mod write_queue;
mod writer;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::clock;
use crate::config;
use crate::etcd::EtcdError;
use crate::exec::Stop;
use crate::http::Failure;
use crate::http::event_bus::EventBus;
use crate::http::idempotency::{self, KeyStore, MemoryKeys};
use crate::ids::SessionId;
use crate::protocol::{Created, DrainOrder, Heartbeat};

use super::fleet::{Fleet, FleetEvent};
use super::{Controller, events};
pub(super) use body_lock::BodyLock;
use body_lock::LocalBodyLocks;
use etcd_store::EtcdStore;

/// A metric of the store: name, help, value.
pub(super) type Gauge = (&'static str, &'static str, f64);

/// Where a controller keeps what it shares with the others of its fleet. The defaults are those of
/// a controller that shares with nobody.
#[async_trait]
pub(super) trait FleetStore: Debug + Send + Sync {
    /// Joins the controllers that share the store: when it returns, the fleet is as the store has
    /// it, unless the store is not there yet. Tasks keep it so until `stop`.
    ///
    /// # Errors
    /// When the configuration must change.
    async fn start(&self, _: &Arc<Controller>, _: &Stop) -> Result<(), EtcdError> {
        Ok(())
    }

    /// Writes what waits and tells the others that this controller leaves.
    async fn leave(&self) {}

    /// The bus that [`FleetStore::publish`] fills.
    fn event_bus(&self) -> EventBus {
        EventBus::default()
    }

    /// Keeper of the `Idempotency-Key`s.
    fn keys(&self) -> &dyn KeyStore<Created>;

    /// Whether the fleet was read from the store at the start, its sessions included.
    fn has_fleet(&self) -> bool {
        false
    }

    /// Whether creates can be judged.
    ///
    /// # Errors
    /// 503 with the reason why not.
    fn check_ready(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Waits until no other create runs on this body, in the whole fleet.
    async fn lock_body(&self, body: IpAddr, deadline: Instant) -> Result<BodyLock, clock::Elapsed>;

    /// Publishes events to the listeners of every controller.
    fn publish(&self, controller: &Controller, events: &[FleetEvent]) {
        for event in events {
            events::publish(&controller.event_bus, event);
        }
    }

    /// Makes a session that this controller just created known to the others, and publishes its
    /// events.
    async fn announce(
        &self,
        controller: &Controller,
        _worker_id: &str,
        _: &SessionId,
        events: &[FleetEvent],
    ) {
        self.publish(controller, events);
    }

    /// A copy of the heartbeat if the others must learn what it says; to be passed to
    /// [`FleetStore::forward`] when the fleet has accepted it.
    fn unpublished(&self, _: &Heartbeat) -> Option<Heartbeat> {
        None
    }

    /// Forwards a heartbeat to the others.
    fn forward(&self, _: Heartbeat) {}

    /// Sets the worker's drain as the store has it, which overrules what the worker remembers.
    fn apply_drain(&self, _: &mut Fleet, _worker_id: &str) -> Vec<FleetEvent> {
        Vec::new()
    }

    /// Orders or lifts a drain for every controller.
    ///
    /// # Errors
    /// 503 while the store is away.
    async fn order_drain(&self, _worker_id: &str, _: Option<DrainOrder>) -> Result<(), Failure> {
        Ok(())
    }

    /// Removes the announcement of a session that has ended.
    fn session_ended(&self, _: &SessionId) {}

    /// Looks up a session that the fleet does not know: another controller may have just made it.
    ///
    /// # Errors
    /// 503 when the store cannot tell.
    async fn look_up(&self, _: &Controller, _: &SessionId) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether nothing comes from the store.
    fn is_away(&self) -> bool {
        false
    }

    /// What is wrong with the store and its locks, for health.
    fn problems(&self, _now: Instant) -> Vec<String>;

    /// Metrics of the store.
    fn gauges(&self) -> Vec<Gauge>;
}

/// The store that the configuration names. Nothing is called yet.
///
/// # Errors
/// When a certificate or key cannot be used.
pub(super) fn open(
    config: Option<&config::Etcd>,
    process_id: &str,
    heartbeat_timeout: Duration,
) -> Result<Box<dyn FleetStore>, EtcdError> {
    Ok(match config {
        None => Box::new(MemoryStore::default()),
        Some(etcd) => Box::new(Arc::new(EtcdStore::new(
            etcd,
            process_id,
            heartbeat_timeout,
        )?)),
    })
}

/// The store of a fleet with one controller.
#[derive(Debug, Default)]
struct MemoryStore {
    keys: MemoryKeys<Created>,
    bodies: LocalBodyLocks,
}

#[async_trait]
impl FleetStore for MemoryStore {
    fn keys(&self) -> &dyn KeyStore<Created> {
        &self.keys
    }

    async fn lock_body(&self, body: IpAddr, deadline: Instant) -> Result<BodyLock, clock::Elapsed> {
        self.bodies.lock(body, deadline).await
    }

    fn problems(&self, now: Instant) -> Vec<String> {
        let problems = [self.bodies.problem(now), self.keys.problem()];
        problems.into_iter().flatten().collect()
    }

    fn gauges(&self) -> Vec<Gauge> {
        let keys = self.keys.len() as f64;
        vec![
            self.bodies.gauge(),
            ("idempotency_keys", idempotency::GAUGE_HELP, keys),
        ]
    }
}
