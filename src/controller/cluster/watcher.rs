//! Following the store: the watch, this controller's pulse, and what follows for the fleet.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::controller::Controller;
use crate::etcd::{EtcdError, Txn};
use crate::exec::{self, Stop};

use super::FleetStore as _;
use super::etcd_store::EtcdStore;
use super::leases::LeaseKind;
use super::replica::StoreEvent;
use super::schema::{self, ControllerRecord};
use super::writer::WRITERS;

/// How often a controller shows that it lives. Each costs the store one write and two renewals.
const PULSE: Duration = Duration::from_secs(1);
/// A watch that shows nothing for so long is lost: it should have shown several of our own pulses.
const SILENCE: Duration = Duration::from_secs(4);
/// Pauses between tries to watch again.
const RETRY: Duration = Duration::from_millis(300);
/// Watches in a row that show no change, after which the whole picture is read again.
const MUTE_MAX: u32 = 1;
/// Time for each step of leaving.
const LEAVE: Duration = Duration::from_secs(2);

impl EtcdStore {
    /// Starts the tasks that read and write the store.
    pub(super) fn spawn_tasks(self: &Arc<Self>, controller: &Arc<Controller>, stop: &Stop) {
        let both = || (Arc::clone(self), Arc::clone(controller), stop.clone());
        let (store, controller, stop) = both();
        exec::spawn(async move { stop.or(store.watch_forever(&controller)).await }).detach();
        let (store, controller, stop) = both();
        exec::spawn(async move { stop.or(store.pulse_forever(&controller)).await }).detach();
        let (store, _, stop) = both();
        exec::spawn(async move { stop.or(store.compare_forever()).await }).detach();
        for _ in 0..WRITERS {
            let (store, controller, stop) = both();
            exec::spawn(async move { stop.or(store.write_forever(&controller)).await }).detach();
        }
    }

    async fn watch_forever(self: &Arc<Self>, controller: &Controller) -> Infallible {
        let mut mute = 0;
        loop {
            let Err(error) = self.watch(controller, &mut mute).await;
            self.health.watching(Err(error.to_string()));
            if mute > 1 {
                // Not before the first retry: another member may take the watch over at once.
                clock::sleep(RETRY).await;
            }
            let is_behind = matches!(error, EtcdError::Compacted(_) | EtcdError::TooLarge);
            if is_behind || mute > MUTE_MAX {
                match self.resync(controller).await {
                    Ok(()) => mute = 0,
                    Err(error) => self.health.watching(Err(error.to_string())),
                }
            }
        }
    }

    /// Watches until the watch is lost.
    async fn watch(
        self: &Arc<Self>,
        controller: &Controller,
        mute: &mut u32,
    ) -> Result<Infallible, EtcdError> {
        let from = self.replica().revision() + 1;
        *mute += 1;
        let mut watch = self.etcd.watch(&self.names.live(), from, SILENCE).await?;
        loop {
            let response = watch.next().await?;
            let is_another = {
                let replica = self.replica();
                replica.is_another(response.cluster, response.revision)
            };
            if is_another || self.needs_resync.swap(false, Ordering::Relaxed) {
                *mute = MUTE_MAX + 1;
                let why = "it is another store, or the copy of it is wrong".to_owned();
                return Err(EtcdError::WatchLost(why));
            }
            if !response.changes.is_empty() {
                *mute = 0;
            }
            let (changes, progress) = (response.changes, response.progress);
            let events = self.replica().apply(clock::now(), changes, progress);
            self.learn(controller, events);
            self.health.watching(Ok(()));
        }
    }

    async fn pulse_forever(&self, controller: &Controller) -> Infallible {
        loop {
            clock::sleep(PULSE).await;
            let outcome = self.pulse().await;
            self.health.pulsing(outcome.map_err(|e| e.to_string()));
            if self.health.is_there() {
                let silent = {
                    let mut fleet = controller.fleet();
                    fleet.refresh_heard_by_peers(clock::wall());
                    fleet.silent_workers(clock::now())
                };
                self.forward_silence(&silent);
            }
        }
    }

    /// Shows that this controller lives, and keeps its leases alive.
    pub(super) async fn pulse(&self) -> Result<(), EtcdError> {
        self.leases.keep(&self.etcd, LeaseKind::Presence).await?;
        self.leases.keep(&self.etcd, LeaseKind::Hearing).await?;
        let lease = self.leases.get(&self.etcd, LeaseKind::Presence).await?;
        let record = ControllerRecord {
            pulse: self.health.pulse(clock::now()),
        };
        let key = self.names.controller(&self.process_id);
        let put = Txn::new().put(&key, &schema::written(&record), Some(lease));
        let outcome = self.etcd.commit(&put).await;
        if let Err(error) = &outcome {
            self.forget_lost_leases(error).await;
        }
        outcome.map(|_| self.health.pulsing(Ok(())))
    }

    /// Forgets this controller's leases if the error says that etcd does not know one: it was
    /// restored, or away for longer than they last.
    pub(super) async fn forget_lost_leases(&self, error: &EtcdError) {
        if matches!(error, EtcdError::Refused(why) if why.contains("lease not found")) {
            self.leases.forget().await;
        }
    }

    /// Waits until what is queued is written, then ends this controller's presence, so that the
    /// others need not wait until its lease expires.
    pub(super) async fn write_rest_and_end_presence(&self) {
        let written = async {
            while self.health.is_there() && self.queue().len() > 0 {
                clock::sleep(RETRY / 10).await;
            }
        };
        let _ = clock::by(clock::now() + LEAVE, written).await;
        let ended = self.leases.end(&self.etcd, LeaseKind::Presence);
        if let Ok(Err(error)) = clock::by(clock::now() + LEAVE, ended).await {
            log::debug!(target: "controller", "store: cannot end this controller's lease: {error}");
        }
    }

    /// Applies to the fleet what the store tells of the other controllers.
    pub(super) fn learn(
        self: &Arc<Self>,
        controller: &Controller,
        events: impl IntoIterator<Item = StoreEvent>,
    ) {
        let (now, wall) = (clock::now(), clock::wall());
        for event in events {
            let changes = match event {
                StoreEvent::Published { id, name, data } => {
                    controller.event_bus.publish_as(id, &name, data);
                    self.replica().published(id);
                    continue;
                }
                StoreEvent::Pulse(pulse) => {
                    self.health.returned(now, pulse);
                    continue;
                }
                StoreEvent::Announced(worker, view) => {
                    controller.fleet().announced(now, &worker, *view)
                }
                StoreEvent::Drain(worker, order) => {
                    let changed = controller.fleet().order_drain(&worker, order);
                    changed.unwrap_or_default()
                }
                StoreEvent::Unheard(worker) => {
                    controller.fleet().unheard(now, &worker);
                    continue;
                }
                StoreEvent::Relayed(record) => {
                    let mut fleet = controller.fleet();
                    let changes = fleet.relayed(now, wall, record.beat.clone(), record.heard);
                    self.apply_drain(&mut fleet, &record.beat.worker_id);
                    changes
                }
            };
            // The controller that saw the change publishes it; here it is only remembered.
            controller.remember_ended(&changes);
        }
    }
}
