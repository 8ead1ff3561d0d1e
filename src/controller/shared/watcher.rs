//! Following the store: the watch, the pulse, and what follows for the fleet.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::controller::Controller;
use crate::etcd::{EtcdError, Txn};
use crate::exec::{self, Stop};

use super::Shared;
use super::leases::Kind;
use super::replica::StoreEvent;
use super::schema::{self, ControllerFact};
use super::writer::WRITERS;

/// How often a controller shows that it lives. Each costs the store one write and two renewals.
const PULSE: Duration = Duration::from_secs(1);
/// A watch that does not show our own pulses for so long is lost: some of them.
const SILENCE: Duration = Duration::from_secs(4);
/// Pauses between tries to watch again.
const RETRY: Duration = Duration::from_millis(300);
/// Watches in a row that say nothing at all, after which the whole picture is read again.
const MUTE_MAX: u32 = 2;
/// Time for saying good-bye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Starts the tasks that follow and fill the store.
pub(in crate::controller) fn start(
    controller: &Arc<Controller>,
    shared: &Arc<Shared>,
    stop: &Stop,
) {
    let run = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = stop.clone();
        exec::spawn(async move {
            stop.or(work).await;
        })
        .detach();
    };
    let both = || (Arc::clone(controller), Arc::clone(shared));
    let (c, s) = both();
    run(Box::pin(async move { s.watch_for_ever(&c).await }));
    let (c, s) = both();
    run(Box::pin(async move { s.pulse_for_ever(&c).await }));
    for _ in 0..WRITERS {
        let (c, s) = both();
        run(Box::pin(async move { s.write_for_ever(&c).await }));
    }
}

impl Shared {
    async fn watch_for_ever(&self, controller: &Controller) {
        let mut mute = 0;
        loop {
            let Err(error) = self.watch(controller, &mut mute).await;
            self.contact.watching(Err(error.to_string()));
            if mute > 1 {
                // The first try is for another member that is there.
                clock::sleep(RETRY).await;
            }
            if matches!(error, EtcdError::Compacted(_)) || mute > MUTE_MAX {
                match self.picture().await {
                    Ok((kvs, revision)) => {
                        mute = 0;
                        let tales = self.copy().replace(clock::now(), kvs, revision);
                        controller.learn(tales);
                    }
                    Err(error) => self.contact.watching(Err(error.to_string())),
                }
            }
        }
    }

    /// Watches until the watch is lost.
    async fn watch(
        &self,
        controller: &Controller,
        mute: &mut u32,
    ) -> Result<std::convert::Infallible, EtcdError> {
        let from = self.copy().revision() + 1;
        *mute += 1;
        let mut watch = self.etcd.watch(&self.names.live(), from, SILENCE).await?;
        loop {
            let news = watch.next().await?;
            if news.revision + 1 < from {
                // Another store, or one that was put back to an earlier day.
                *mute = MUTE_MAX + 1;
                let why = format!("it is at revision {}, before {from}", news.revision);
                return Err(EtcdError::WatchLost(why));
            }
            if !news.changes.is_empty() {
                *mute = 0;
            }
            let tales = self.copy().apply(clock::now(), news.changes, news.revision);
            controller.learn(tales);
            self.contact.watching(Ok(()));
        }
    }

    async fn pulse_for_ever(&self, controller: &Controller) {
        loop {
            clock::sleep(PULSE).await;
            let outcome = self.pulse().await;
            self.contact.pulsing(outcome.map_err(|e| e.to_string()));
            if self.contact.is_there() {
                let silent = {
                    let mut fleet = controller.fleet();
                    fleet.vouch(clock::wall());
                    fleet.fallen_silent(clock::now())
                };
                self.fallen_silent(&silent);
            }
        }
    }

    /// Shows that this controller lives, and keeps its leases.
    pub(super) async fn pulse(&self) -> Result<(), EtcdError> {
        self.leases.keep(&self.etcd, Kind::Presence).await?;
        self.leases.keep(&self.etcd, Kind::Hearing).await?;
        let lease = self.leases.get(&self.etcd, Kind::Presence).await?;
        let fact = ControllerFact {
            pulse: self.contact.pulse(clock::now()),
        };
        let key = self.names.controller(&self.me);
        let put = Txn::new().put(&key, &schema::written(&fact), Some(lease));
        let outcome = self.etcd.commit(&put).await;
        if let Err(error) = &outcome {
            self.lease_may_be_gone(error).await;
        }
        outcome.map(|_| self.contact.pulsing(Ok(())))
    }

    /// A store that was put back, or was away for long, no longer knows our leases.
    pub(super) async fn lease_may_be_gone(&self, error: &EtcdError) {
        if matches!(error, EtcdError::Refused(why) if why.contains("lease not found")) {
            self.leases.forget().await;
        }
    }

    /// What waits is written, and the others need not wait for this controller's lease to end.
    pub(in crate::controller) async fn farewell(&self) {
        let written = async {
            while self.contact.is_there() && self.outbox().len() > 0 {
                clock::sleep(RETRY / 10).await;
            }
        };
        let _ = clock::by(clock::now() + FAREWELL, written).await;
        let ended = self.leases.end(&self.etcd, Kind::Presence);
        if let Ok(Err(error)) = clock::by(clock::now() + FAREWELL, ended).await {
            log::debug!(target: "controller", "store: no good-bye: {error}");
        }
    }

    /// A pulse has come back through the watch.
    pub(in crate::controller) fn returned(&self, pulse: u64) {
        self.contact.returned(clock::now(), pulse);
    }

    /// An event was published here.
    pub(in crate::controller) fn published(&self, id: u64) {
        self.copy().told(id);
    }
}

impl Controller {
    /// Takes in what the store tells of the rest of the fleet's controllers.
    pub(in crate::controller) fn learn(&self, tales: Vec<StoreEvent>) {
        let Some(shared) = &self.shared else {
            return;
        };
        let (now, wall) = (clock::now(), clock::wall());
        for tale in tales {
            let changes = match tale {
                StoreEvent::Event { id, name, data } => {
                    self.hub.publish_as(id, &name, data);
                    shared.published(id);
                    continue;
                }
                StoreEvent::Pulse(pulse) => {
                    shared.returned(pulse);
                    continue;
                }
                StoreEvent::Announced(worker, view) => self.fleet().announced(now, &worker, *view),
                StoreEvent::Drained(worker, deadline) => {
                    self.fleet().ordered(&worker, Some(deadline))
                }
                StoreEvent::Undrained(worker) => self.fleet().ordered(&worker, None),
                StoreEvent::Unheard(worker) => {
                    self.fleet().unheard(now, &worker);
                    continue;
                }
                StoreEvent::Relayed(fact) => {
                    let mut fleet = self.fleet();
                    let changes = fleet.relayed(now, wall, fact.beat.clone(), fact.heard);
                    fleet.ordered(&fact.beat.worker_id, shared.drain_of(&fact.beat.worker_id));
                    changes
                }
            };
            // The controller where it happened tells of it; here it is only remembered.
            self.remember(&changes);
        }
    }
}
