//! The store of a fleet with several controllers, in etcd.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use smol::channel::{Receiver, Sender, bounded};

use crate::clock;
use crate::config;
use crate::etcd::{EtcdClient, EtcdError, Txn};
use crate::exec::{self, Stop};
use crate::http::Failure;
use crate::http::event_bus::EventBus;
use crate::http::idempotency::KeyStore;
use crate::ids::SessionId;
use crate::protocol::{Created, DrainOrder, Heartbeat};
use crate::sync::Mutex;

use super::body_lock::{BodyLock, LocalBodyLocks};
use super::leases::Leases;
use super::replica::{Replica, StoreEvent};
use super::schema::{self, KeyNames, SessionRecord};
use super::store_health::StoreHealth;
use super::write_queue::{WorkerUpdate, WriteQueue};
use super::writer::WRITERS;
use super::{FleetStore, Gauge};
use crate::controller::Controller;
use crate::controller::fleet::{Fleet, FleetEvent};

/// Age from which a queued write is a problem: etcd has had time for an election.
const WRITE_AGE_MAX: Duration = Duration::from_secs(30);
/// How long after its caller gave up a write may still be applied: etcd gives a request up after
/// 5 s and two elections.
const LATE_WRITE_MAX: Duration = Duration::from_secs(15);
/// Look-ups of unknown sessions at once: clients that guess ids must not load the store.
const LOOKUPS_MAX: usize = 16;
/// How long a look-up may take; the client waits for it.
const LOOKUP: Duration = Duration::from_secs(1);

/// This controller's side of the store.
#[derive(Debug)]
pub(super) struct EtcdStore {
    pub(super) etcd: EtcdClient,
    pub(super) names: KeyNames,
    /// This controller's process.
    pub(super) process_id: String,
    pub(super) bodies: LocalBodyLocks,
    replica: Mutex<Replica>,
    queue: Mutex<WriteQueue>,
    pub(super) leases: Leases,
    pub(super) health: StoreHealth,
    /// Whether the fleet has been read from the store.
    pub(super) has_joined: AtomicBool,
    /// Whether the replica must be read anew.
    pub(super) needs_resync: AtomicBool,
    lookups: smol::lock::Semaphore,
    /// Wakes a writer.
    notify: Sender<()>,
    pub(super) notified: Receiver<()>,
}

/// The answer to a client whose request needs the store while it is away.
pub(super) fn away(why: &str) -> Failure {
    Failure::new(503, "store_away", "the controllers' shared store is away")
        .detail(why.to_owned())
        .retry_after(Duration::from_secs(2))
}

impl EtcdStore {
    pub(super) fn new(
        config: &config::Etcd,
        process_id: &str,
        heartbeat_timeout: Duration,
    ) -> Result<Self, EtcdError> {
        let names = KeyNames::under(&config.prefix);
        let (notify, notified) = bounded(WRITERS);
        Ok(Self {
            etcd: EtcdClient::new(config)?,
            replica: Mutex::new(Replica::new(names.clone(), process_id)),
            names,
            process_id: process_id.to_owned(),
            bodies: LocalBodyLocks::default(),
            queue: Mutex::default(),
            leases: Leases::new(heartbeat_timeout),
            health: StoreHealth::default(),
            has_joined: AtomicBool::new(false),
            needs_resync: AtomicBool::new(false),
            lookups: smol::lock::Semaphore::new(LOOKUPS_MAX),
            notify,
            notified,
        })
    }

    pub(super) fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock()
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, WriteQueue> {
        self.queue.lock()
    }

    /// Tells the others about workers that this controller has not heard for some intervals.
    pub(super) fn forward_silence(&self, workers: &HashSet<String>) {
        if workers.is_empty() {
            return;
        }
        let silent: Vec<Heartbeat> = {
            let replica = self.replica();
            let beats = replica.mine().map(|record| &record.beat);
            let silent = beats.filter(|beat| workers.contains(&beat.worker_id));
            silent.cloned().collect()
        };
        for beat in silent {
            self.queue().update(WorkerUpdate { beat, heard: false });
        }
        self.notify();
    }

    /// Enqueues the conditional undo of a write whose outcome is unknown: now, and once more when
    /// the write can no longer be applied.
    pub(super) fn undo(self: &Arc<Self>, txn: Txn) {
        self.enqueue(txn.clone());
        let store = Arc::clone(self);
        let again = async move {
            clock::sleep(LATE_WRITE_MAX).await;
            store.enqueue(txn);
        };
        exec::spawn(again).detach();
    }

    /// Enqueues a transaction whose author does not wait for it.
    pub(super) fn enqueue(&self, txn: Txn) {
        self.queue().txn(clock::now(), txn);
        self.notify();
    }

    pub(super) fn notify(&self) {
        // When the channel is full, every writer is awake.
        let _ = self.notify.try_send(());
    }

    /// Whether the store can be asked now.
    ///
    /// # Errors
    /// 503 with the reason why not.
    pub(super) fn check_there(&self) -> Result<(), Failure> {
        match self.health.away() {
            None => Ok(()),
            Some((_, why)) => Err(away(&why)),
        }
    }

    async fn read_session(&self, id: &SessionId) -> Result<Option<StoreEvent>, Failure> {
        self.check_there()?;
        let permit = self.lookups.try_acquire();
        let _permit =
            permit.ok_or_else(|| away("too many unknown sessions are asked for at once"))?;
        let key = self.names.session(id);
        let read = clock::by(clock::now() + LOOKUP, self.etcd.read(&key)).await;
        let read = read.map_err(|_| away("it does not answer in time"))?;
        let kv = read.map_err(|error| away(&error.to_string()))?;
        let record: Option<SessionRecord> = kv.as_ref().and_then(schema::read);
        Ok(record.map(|record| StoreEvent::Announced(record.worker_id, Box::new(record.view))))
    }
}

#[async_trait]
impl FleetStore for Arc<EtcdStore> {
    async fn start(&self, controller: &Arc<Controller>, stop: &Stop) -> Result<(), EtcdError> {
        self.join_or_wait(controller, stop).await
    }

    async fn leave(&self) {
        self.write_rest_and_end_presence().await;
    }

    fn event_bus(&self) -> EventBus {
        EventBus::shared()
    }

    fn keys(&self) -> &dyn KeyStore<Created> {
        self
    }

    fn has_fleet(&self) -> bool {
        self.has_joined.load(Ordering::Relaxed)
    }

    fn check_ready(&self) -> Result<(), Failure> {
        if self.has_fleet() {
            return Ok(());
        }
        self.check_there()?;
        Err(away("it has not been read yet"))
    }

    async fn lock_body(&self, body: IpAddr, deadline: Instant) -> Result<BodyLock, clock::Elapsed> {
        EtcdStore::lock_body(self, body, deadline).await
    }

    /// The listeners get the events when they come back through the watch, numbered.
    fn publish(&self, controller: &Controller, events: &[FleetEvent]) {
        for event in events {
            let named = self.named(event, |id| controller.view_of(id));
            self.queue().events(&event.worker_id, [named]);
        }
        if !events.is_empty() {
            self.notify();
        }
    }

    async fn announce(
        &self,
        controller: &Controller,
        worker_id: &str,
        id: &SessionId,
        events: &[FleetEvent],
    ) {
        match controller.view_of(id) {
            Some(view) => self.write_session(worker_id, view, events).await,
            None => self.publish(controller, events),
        }
    }

    fn unpublished(&self, beat: &Heartbeat) -> Option<Heartbeat> {
        let replica = self.replica();
        let is_known = replica.worker(&beat.worker_id).0.is_some_and(|record| {
            record.by == self.process_id && record.heard && schema::is_same(&record.beat, beat)
        });
        (!is_known).then(|| beat.clone())
    }

    fn forward(&self, beat: Heartbeat) {
        self.queue().update(WorkerUpdate { beat, heard: true });
        self.notify();
    }

    fn apply_drain(&self, fleet: &mut Fleet, worker_id: &str) -> Vec<FleetEvent> {
        let drain = self.replica().drain(worker_id).cloned();
        fleet.order_drain(worker_id, drain).unwrap_or_default()
    }

    async fn order_drain(&self, worker_id: &str, drain: Option<DrainOrder>) -> Result<(), Failure> {
        self.check_there()?;
        let key = self.names.drain(worker_id);
        let txn = match drain {
            Some(order) => Txn::new().put(&key, &schema::written(&order), None),
            None => Txn::new().delete(&key),
        };
        let outcome = self.etcd.commit(&txn).await;
        outcome
            .map(|_| ())
            .map_err(|error| away(&error.to_string()))
    }

    fn session_ended(&self, id: &SessionId) {
        self.queue().forget_announcement(id);
        self.enqueue(Txn::new().delete(&self.names.session(id)));
    }

    async fn look_up(&self, controller: &Controller, id: &SessionId) -> Result<(), Failure> {
        let event = self.read_session(id).await?;
        if event.is_none() && self.health.is_doubtful(clock::now()) {
            return Err(away(
                "a session may have been made that it does not know yet",
            ));
        }
        self.learn(controller, event);
        Ok(())
    }

    fn is_away(&self) -> bool {
        !self.health.is_there()
    }

    fn problems(&self, now: Instant) -> Vec<String> {
        let mut problems: Vec<String> = self.bodies.problem(now).into_iter().collect();
        if let Some((since, why)) = self.health.away() {
            let span = clock::human(now.saturating_duration_since(since));
            problems.push(format!(
                "the shared store is away for {span}: {why}; creates with an Idempotency-Key and \
                 drains are refused, everything else goes on from this controller's copy"
            ));
        }
        let unreadable = self.replica().unreadable().map(str::to_owned).min();
        if let Some(worker) = unreadable {
            problems.push(format!(
                "what the shared store has of worker {worker} cannot be read: the controller that hears \
                 the worker writes it anew; delete {} if it does not",
                self.names.worker(&worker)
            ));
        }
        if let Some(age) = self
            .queue()
            .oldest_txn(now)
            .filter(|age| *age > WRITE_AGE_MAX)
        {
            let span = clock::human(age);
            problems.push(format!(
                "a write waits for the shared store for {span}, which answers other calls: what it \
                 undoes stays until then; see etcd's log"
            ));
        }
        problems
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (waiting, lost, age) = {
            let queue = self.queue();
            let age = queue.oldest_txn(clock::now()).unwrap_or_default();
            (queue.len() as f64, queue.lost as f64, age.as_secs_f64())
        };
        let is_there = f64::from(u8::from(self.health.is_there()));
        let lag = self.health.lag().as_secs_f64();
        let (controllers, unreadable) = {
            let replica = self.replica();
            (
                replica.controllers() as f64,
                replica.unreadable().count() as f64,
            )
        };
        let lag_help = "Time from a write until the watch shows it, last measured";
        let age_help = "How long the oldest request waits to be written";
        let lost_help = "Events given up while the store was away";
        vec![
            self.bodies.gauge(),
            ("store_up", "Whether the shared store is there", is_there),
            ("store_lag_seconds", lag_help, lag),
            (
                "store_waiting",
                "Workers and requests to be written",
                waiting,
            ),
            ("store_write_age_seconds", age_help, age),
            ("store_events_lost", lost_help, lost),
            (
                "store_unreadable_workers",
                "Workers whose record in the store cannot be read",
                unreadable,
            ),
            (
                "store_controllers",
                "Controllers that share the store",
                controllers,
            ),
        ]
    }
}
