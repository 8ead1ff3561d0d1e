//! `Idempotency-Key` across controllers: the same key gets the same answer at any of them.
//!
//! A key's record names the controller that serves the request and the worker that is asked,
//! *before* it is asked. So a retry at another controller waits while the first one lives, and
//! when it has died asks the same worker with the same key; the worker answers with the session it
//! made, or makes it. Every step is conditional on the record's revision: a controller that was
//! wrongly taken for dead finds its record changed, and stops.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::etcd::{EtcdError, Kv, Lease, Revision, Txn};
use crate::http::Failure;
use crate::http::idempotency::{KeyEntry, KeyStore, Lookup, Outcome, RequestKey};
use crate::ids;
use crate::protocol::Created;

use super::etcd_store::{EtcdStore, away};
use super::leases::LeaseKind;
use super::schema::{self, KeyRecord};

/// Advice to a client whose request another controller has taken over.
const TAKEN_OVER_RETRY: Duration = Duration::from_secs(1);

/// A claimed key; whatever is written to its record is conditional on `revision`.
#[derive(Debug)]
struct EtcdKeyEntry {
    store: Arc<EtcdStore>,
    name: String,
    record: KeyRecord,
    revision: Revision,
}

/// Undoes the write of a record, if it was applied: no controller serves the request.
fn released(name: &str, record: &KeyRecord, lease: Lease) -> Txn {
    let txn = Txn::new().when_is(name, &schema::written(record));
    if record.worker.is_none() {
        return txn.delete(name);
    }
    let mut record = record.clone();
    record.by.clear();
    txn.put(name, &schema::written(&record), Some(lease))
}

fn unreachable(error: &EtcdError) -> Failure {
    away(&error.to_string())
}

#[async_trait]
impl KeyStore<Created> for Arc<EtcdStore> {
    async fn look_up(
        &self,
        request: &RequestKey,
    ) -> Result<Lookup<Created, Box<dyn KeyEntry<Created>>>, Failure> {
        self.check_there()?;
        let name = self.names.key(&request.key);
        let mut record = KeyRecord {
            digest: request.digest.clone(),
            by: self.process_id.clone(),
            ticket: ids::label(),
            ..KeyRecord::default()
        };
        let mut revision = 0;
        loop {
            let written = self.write_key(&name, &record, revision).await;
            let found = match written.map_err(|error| unreachable(&error))? {
                Ok(revision) => {
                    return Ok(Lookup::Claimed(Box::new(EtcdKeyEntry {
                        store: Arc::clone(self),
                        name,
                        record,
                        revision,
                    })));
                }
                Err(found) => found,
            };
            let Some(kv) = found else {
                // Released in the meantime.
                (revision, record.worker) = (0, None);
                continue;
            };
            let Some(theirs) = schema::read::<KeyRecord>(&kv) else {
                let what = "this Idempotency-Key was used with another version";
                return Err(Failure::new(422, "idempotency_mismatch", what));
            };
            if theirs.digest != record.digest {
                return Ok(Lookup::Mismatch);
            }
            if let Some(answer) = theirs.answer {
                return Ok(Lookup::Answered(answer));
            }
            if !theirs.by.is_empty() && self.replica().has_controller(&theirs.by) {
                return Ok(Lookup::Busy);
            }
            // No live controller serves it: take it over, with the worker that was asked.
            (revision, record.worker) = (kv.mod_revision, theirs.worker);
        }
    }
}

impl EtcdStore {
    /// Writes a record over the one of that revision; else returns what is there instead.
    async fn write_key(
        self: &Arc<Self>,
        name: &str,
        record: &KeyRecord,
        revision: Revision,
    ) -> Result<Result<Revision, Option<Kv>>, EtcdError> {
        let lease = self.leases.get(&self.etcd, LeaseKind::Keys).await?;
        let value = schema::written(record);
        let txn = Txn::new()
            .when_at(name, revision)
            .put(name, &value, Some(lease))
            .otherwise_read(name);
        let outcome = self.etcd.commit(&txn).await;
        if let Err(error) = &outcome {
            self.forget_lost_leases(error).await;
            if !error.is_final() {
                self.undo(released(name, record, lease));
            }
        }
        let outcome = outcome?;
        if outcome.succeeded {
            return Ok(Ok(outcome.revision));
        }
        let found = outcome.read.into_iter().next().flatten();
        Ok(match found {
            // The answer to an earlier attempt of this transaction was lost: the record is ours.
            Some(kv) if kv.value == value => Ok(kv.mod_revision),
            found => Err(found),
        })
    }
}

#[async_trait]
impl KeyEntry<Created> for EtcdKeyEntry {
    fn attempted(&self) -> Option<&str> {
        self.record.worker.as_deref()
    }

    async fn record_attempt(&mut self, worker_id: &str) -> Result<(), Failure> {
        if self.attempted() == Some(worker_id) {
            return Ok(());
        }
        let mut record = self.record.clone();
        record.worker = Some(worker_id.to_owned());
        let written = self
            .store
            .write_key(&self.name, &record, self.revision)
            .await;
        match written.map_err(|error| unreachable(&error))? {
            Ok(revision) => {
                (self.revision, self.record) = (revision, record);
                Ok(())
            }
            Err(_) => {
                let what = "another controller serves this Idempotency-Key now: repeat the request";
                Err(Failure::new(503, "idempotency_busy", what).retry_after(TAKEN_OVER_RETRY))
            }
        }
    }

    /// Writes the outcome in the background; until then a retry waits, or asks the same worker.
    fn finish(mut self: Box<Self>, outcome: Outcome<Created>) {
        match outcome {
            Outcome::Answered(answer) => self.record.answer = Some(answer),
            Outcome::Unknown => self.record.by.clear(),
            Outcome::NotDone => {
                let delete = Txn::new().when_at(&self.name, self.revision);
                self.store.enqueue(delete.delete(&self.name));
                return;
            }
        }
        crate::exec::spawn(async move {
            let lease = self.store.leases.get(&self.store.etcd, LeaseKind::Keys);
            let lease = lease.await.ok();
            let txn = Txn::new().when_at(&self.name, self.revision);
            let value = schema::written(&self.record);
            self.store.enqueue(txn.put(&self.name, &value, lease));
        })
        .detach();
    }
}
