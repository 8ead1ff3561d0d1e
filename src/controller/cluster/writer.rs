//! Writing to the store what waits in the queue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::controller::fleet::{FleetChange, FleetEvent};
use crate::controller::{Controller, events};
use crate::etcd::{EtcdError, Txn, TxnOutcome};
use crate::ids::SessionId;
use crate::protocol::SessionView;

use super::etcd_store::EtcdStore;
use super::leases::LeaseKind;
use super::schema::{self, EventRecord, SessionRecord, WorkerRecord};
use super::write_queue::{NamedEvent, WorkerUpdate, WorkerWrites, WriteJob};

/// Tasks that write at once: etcd gathers what comes together into one write of its log.
pub(super) const WRITERS: usize = 16;
/// Pause before another try while the store is away.
const PAUSE: Duration = Duration::from_millis(200);
/// Tries to write a worker's record while other controllers write it, too.
const TRIES_MAX: usize = 8;
/// How long a create waits until its session is written.
const ANNOUNCE: Duration = Duration::from_secs(2);

impl EtcdStore {
    pub(super) async fn write_forever(self: &Arc<Self>, controller: &Controller) -> Infallible {
        loop {
            if !self.health.is_there() {
                clock::sleep(PAUSE).await;
                continue;
            }
            let job = self.queue().next();
            let outcome = match job {
                None => {
                    let _ = self.notified.recv().await;
                    continue;
                }
                Some(WriteJob::Txn(since, txn)) => {
                    let outcome = self.etcd.commit(&txn).await;
                    match &outcome {
                        Err(error) if error.is_final() => {
                            log::warn!(target: "controller", "store: a write is given up: {error}");
                        }
                        Err(_) => self.queue().again(since, txn),
                        Ok(_) => {}
                    }
                    outcome.map(|_| ())
                }
                Some(WriteJob::Worker(id, writes)) => {
                    self.write_worker(controller, &id, writes).await
                }
            };
            if let Err(error) = outcome {
                self.forget_lost_leases(&error).await;
                log::debug!(target: "controller", "store: not written yet: {error}");
                clock::sleep(PAUSE).await;
            }
        }
    }

    async fn write_worker(
        self: &Arc<Self>,
        controller: &Controller,
        id: &str,
        mut writes: WorkerWrites,
    ) -> Result<(), EtcdError> {
        for _ in 0..TRIES_MAX {
            writes.update = writes
                .update
                .filter(|update| self.is_worth_writing(id, update));
            if writes.is_empty() {
                self.queue().done(id);
                return Ok(());
            }
            let outcome = match self.commit_worker(id, &writes).await {
                Ok(outcome) => outcome,
                Err(EtcdError::Refused(why)) if why.contains("too large") => {
                    log::error!(target: "controller", "store: worker={id} cannot be written: {why}; raise etcd's --max-request-bytes");
                    self.queue().done(id);
                    return Ok(());
                }
                Err(error) => {
                    self.queue().failed(id, writes);
                    return Err(error);
                }
            };
            if outcome.succeeded {
                self.queue().done(id);
                return Ok(());
            }
            // Another controller wrote in the meantime, or the answer to our own write was lost.
            let found = outcome.read.into_iter().next().flatten();
            let learned = self.replica().conflict(id, found);
            self.learn(controller, learned);
        }
        self.queue().failed(id, writes);
        Err(EtcdError::Refused(format!(
            "worker {id} is written by other controllers all the time"
        )))
    }

    /// Whether an update is newer than what the store has.
    fn is_worth_writing(&self, id: &str, update: &WorkerUpdate) -> bool {
        let replica = self.replica();
        let (Some(record), _) = replica.worker(id) else {
            return update.heard;
        };
        let is_mine = record.by == self.process_id;
        let (known, beat) = (&record.beat, &update.beat);
        if !update.heard {
            // Only if no controller has heard the worker since.
            return is_mine && record.heard && known.sequence == beat.sequence;
        }
        if is_mine && record.heard && schema::is_same(known, beat) {
            return false;
        }
        if known.process_id == beat.process_id {
            return known.sequence <= beat.sequence;
        }
        is_mine
            || beat.replaces.contains(&known.process_id)
            || !record.heard
            || !replica.has_controller(&record.by)
    }

    async fn commit_worker(
        &self,
        id: &str,
        writes: &WorkerWrites,
    ) -> Result<TxnOutcome, EtcdError> {
        let mut txn = Txn::new();
        let mut written = None;
        if let Some(update) = &writes.update {
            let key = self.names.worker(id);
            let lease = self.leases.get(&self.etcd, LeaseKind::Hearing).await?;
            let record = WorkerRecord {
                by: self.process_id.clone(),
                heard: update.heard,
                beat: update.beat.clone(),
            };
            let (revision, confirmed) = {
                let replica = self.replica();
                let confirmed = replica.confirmed_by(clock::now(), &update.beat);
                (replica.worker(id).1, confirmed)
            };
            txn = txn.when_at(&key, revision).otherwise_read(&key);
            txn = txn.put(&key, &schema::written(&record), Some(lease));
            for session in confirmed {
                txn = txn.delete(&self.names.session(&session));
            }
            written = Some(Arc::new(record));
        }
        for session in &writes.announcements {
            txn = self.with_session(txn, id, session).await?;
        }
        txn = self.with_events(txn, &writes.events).await?;
        let outcome = self.etcd.commit(&txn).await?;
        if let (true, Some(record)) = (outcome.succeeded, written) {
            self.replica().wrote(id, record, outcome.revision);
        }
        Ok(outcome)
    }

    /// Adds the announcement of a session.
    async fn with_session(
        &self,
        txn: Txn,
        worker_id: &str,
        view: &SessionView,
    ) -> Result<Txn, EtcdError> {
        let lease = self.leases.get(&self.etcd, LeaseKind::Hearing).await?;
        let record = SessionRecord {
            worker_id: worker_id.to_owned(),
            view: view.clone(),
        };
        Ok(txn.put(
            &self.names.session(&view.id),
            &schema::written(&record),
            Some(lease),
        ))
    }

    /// Adds events, each only if it is not there yet.
    async fn with_events(
        &self,
        mut txn: Txn,
        events: &VecDeque<NamedEvent>,
    ) -> Result<Txn, EtcdError> {
        if events.is_empty() {
            return Ok(txn);
        }
        let lease = self.leases.get(&self.etcd, LeaseKind::Events).await?;
        for (order, (name, record)) in (0..).zip(events) {
            let mut record = record.clone();
            record.order = order;
            let key = self.names.event(name);
            let put = Txn::new()
                .when_at(&key, 0)
                .put(&key, &schema::written(&record), Some(lease));
            txn = txn.and(put);
        }
        Ok(txn)
    }

    /// An event under its key's name, the same for every controller that sees the change.
    pub(super) fn named(
        &self,
        event: &FleetEvent,
        view: impl Fn(&SessionId) -> Option<SessionView>,
    ) -> NamedEvent {
        let revision = self.replica().worker(&event.worker_id).1;
        let view = match &event.change {
            FleetChange::SessionConnected(id) | FleetChange::SessionLingering(id) => view(id),
            _ => None,
        };
        let (name, data) = events::written(event);
        let record = EventRecord {
            order: 0,
            name: name.to_owned(),
            data,
        };
        (schema::event_name(event, view.as_ref(), revision), record)
    }

    /// Writes a session that was just made, with its events; queues both if the store does not answer
    /// in time.
    pub(super) async fn write_session(
        &self,
        worker_id: &str,
        view: SessionView,
        events: &[FleetEvent],
    ) {
        let named = events.iter().map(|e| self.named(e, |_| Some(view.clone())));
        let named: VecDeque<NamedEvent> = named.collect();
        let is_written = {
            let write = async {
                let txn = self.with_session(Txn::new(), worker_id, &view).await?;
                let txn = self.with_events(txn, &named).await?;
                self.etcd.commit(&txn).await
            };
            self.health.is_there()
                && matches!(clock::by(clock::now() + ANNOUNCE, write).await, Ok(Ok(_)))
        };
        if !is_written {
            {
                let mut queue = self.queue();
                queue.announce(worker_id, view);
                queue.events(worker_id, named);
            }
            self.notify();
        }
    }
}
