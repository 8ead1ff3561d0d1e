//! `Idempotency-Key` across controllers: the same key gets the same answer at any of them.
//!
//! A key's record names the controller that serves the request and the worker that is asked,
//! *before* it is asked. So a retry at another controller waits while the first one lives, and
//! when it has died asks the same worker with the same key; the worker answers with the session it
//! made, or makes it. Every step is conditional on the record's revision: a controller that was
//! taken for dead and is not finds its record changed, and stops.

use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::clock;
use crate::etcd::{EtcdError, Kv, Revision, Txn};
use crate::http::{Call, Failure};
use crate::ids;
use crate::protocol::Created;

use super::leases::Kind;
use super::schema::{self, KeyFact};
use super::{Shared, away};

/// How often a waiting request looks whether the first one is done.
const LOOK: Duration = Duration::from_millis(150);
/// How long it waits: longer than a session takes to start.
const WAIT: Duration = Duration::from_secs(90);

/// What a request with a key is to do.
#[derive(Debug)]
pub(in crate::controller) enum Keyed {
    /// Give this answer again.
    Again(Created),
    /// Do the work, then say so.
    Do(Held),
}

/// The duty to say how the work went. Dropped without a word, the key is free again.
#[derive(Debug)]
pub(in crate::controller) struct Held {
    shared: Arc<Shared>,
    key: String,
    name: String,
    fact: KeyFact,
    at: Revision,
    is_settled: bool,
}

fn hex(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn taken_over() -> Failure {
    let what = "another controller serves this Idempotency-Key now: repeat the request";
    Failure::new(503, "idempotency_busy", what).retry_after(LOOK * 7)
}

fn unreachable(error: &EtcdError) -> Failure {
    away(&error.to_string())
}

impl Shared {
    /// Takes the turn of a request with that key.
    ///
    /// # Errors
    /// 422 when the key came with another body, 409 when the first request does not finish, 503
    /// while the store is away.
    pub(in crate::controller) async fn turn(
        self: &Arc<Self>,
        key: &str,
        call: &Call,
    ) -> Result<Keyed, Failure> {
        self.there()?;
        let name = self.names.key(&hex(key.as_bytes()));
        let mut fact = KeyFact {
            digest: hex(&call.body),
            by: self.me.clone(),
            ticket: ids::label(),
            ..KeyFact::default()
        };
        let deadline = clock::now() + WAIT;
        let mut known: Option<Kv> = None;
        loop {
            let at = known.as_ref().map_or(0, |kv| kv.mod_revision);
            let found = self
                .claim(&name, &fact, at)
                .await
                .map_err(|e| unreachable(&e))?;
            let found = match found {
                Ok(at) => {
                    return Ok(Keyed::Do(Held {
                        shared: Arc::clone(self),
                        key: key.to_owned(),
                        name,
                        fact,
                        at,
                        is_settled: false,
                    }));
                }
                Err(found) => found,
            };
            known = None;
            fact.worker = None;
            let Some(kv) = found else {
                // Given up in the meantime.
                continue;
            };
            let Some(theirs) = schema::read::<KeyFact>(&kv) else {
                let what = "this Idempotency-Key was used with another version";
                return Err(Failure::new(422, "idempotency_mismatch", what));
            };
            if theirs.digest != fact.digest {
                let what = "this Idempotency-Key was used with another body";
                return Err(Failure::new(422, "idempotency_mismatch", what));
            }
            if let Some(answer) = theirs.answer {
                return Ok(Keyed::Again(answer));
            }
            if theirs.by.is_empty() || !self.copy().has_controller(&theirs.by) {
                // Nobody serves it any more: taken over, with what the worker may have done.
                fact.worker = theirs.worker;
                known = Some(kv);
                continue;
            }
            if clock::now() > deadline {
                let what = "the first request with this Idempotency-Key still runs";
                return Err(Failure::new(409, "idempotency_busy", what).retry_after(LOOK * 7));
            }
            clock::sleep(LOOK).await;
            self.there()?;
        }
    }

    /// Writes a record over the one of that revision; else what is there instead.
    async fn claim(
        &self,
        name: &str,
        fact: &KeyFact,
        at: Revision,
    ) -> Result<Result<Revision, Option<Kv>>, EtcdError> {
        let lease = self.leases.get(&self.etcd, Kind::Keys).await?;
        let txn = Txn::new()
            .when_at(name, at)
            .put(name, &schema::written(fact), Some(lease))
            .otherwise_read(name);
        let outcome = self.etcd.commit(&txn).await;
        if let Err(error) = &outcome {
            self.lease_may_be_gone(error).await;
        }
        let outcome = outcome?;
        if outcome.succeeded {
            return Ok(Ok(outcome.revision));
        }
        let found = outcome.read.into_iter().next().flatten();
        Ok(match found {
            // A lost answer that was asked for again: the record is ours.
            Some(kv) if kv.value == schema::written(fact) => Ok(kv.mod_revision),
            found => Err(found),
        })
    }
}

impl Held {
    /// The client's key.
    pub(in crate::controller) fn key(&self) -> &str {
        &self.key
    }

    /// The worker that may have done the work already.
    pub(in crate::controller) fn retry_at(&self) -> Option<&str> {
        self.fact.worker.as_deref()
    }

    /// That worker is asked next. To be known before it is.
    ///
    /// # Errors
    /// 503 when another controller has taken over, or the store is away.
    pub(in crate::controller) async fn asking(&mut self, worker_id: &str) -> Result<(), Failure> {
        if self.fact.worker.as_deref() == Some(worker_id) {
            return Ok(());
        }
        let mut fact = self.fact.clone();
        fact.worker = Some(worker_id.to_owned());
        let claimed = self.shared.claim(&self.name, &fact, self.at).await;
        match claimed.map_err(|e| unreachable(&e))? {
            Ok(at) => {
                (self.at, self.fact) = (at, fact);
                Ok(())
            }
            Err(_) => {
                // Not ours to settle.
                self.is_settled = true;
                Err(taken_over())
            }
        }
    }

    /// The work is done and this is the answer, now and for requests to come.
    pub(in crate::controller) fn answered(mut self, answer: Created) {
        self.fact.answer = Some(answer);
        self.settle();
    }

    /// Nobody knows whether the worker asked last did it.
    pub(in crate::controller) fn unsure(mut self) {
        self.fact.by.clear();
        self.settle();
    }

    /// Writes the record in the background. Until then a retry waits, or asks the same worker.
    fn settle(&mut self) {
        self.is_settled = true;
        let (shared, name, at) = (Arc::clone(&self.shared), self.name.clone(), self.at);
        let fact = self.fact.clone();
        crate::exec::spawn(async move {
            let lease = shared.leases.get(&shared.etcd, Kind::Keys).await.ok();
            let value = schema::written(&fact);
            let txn = Txn::new().when_at(&name, at).put(&name, &value, lease);
            shared.outbox().chore(txn);
            shared.kick();
        })
        .detach();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_settled {
            let txn = Txn::new().when_at(&self.name, self.at).delete(&self.name);
            self.shared.outbox().chore(txn);
            self.shared.kick();
        }
    }
}
