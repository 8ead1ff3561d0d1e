//! Writing to the store what waits in the outbox.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::controller::Controller;
use crate::controller::fleet::FleetEvent;
use crate::etcd::{EtcdError, Outcome, Txn};
use crate::http::Failure;
use crate::ids::SessionId;
use crate::protocol::SessionView;

use super::Shared;
use super::leases::Kind;
use super::schema::{self, DrainFact, SessionFact, WorkerFact};
use super::write_queue::{Draft, Job, Named};

/// Tasks that write at once: etcd gathers what comes together into one write of its log.
pub(super) const WRITERS: usize = 16;
/// Pause before another try while the store is away.
const PAUSE: Duration = Duration::from_millis(200);
/// Tries to write a worker's word against other controllers that write it, too.
const TRIES_MAX: usize = 8;
/// How long a create waits for its session to be known everywhere; it is told of it anyway.
const ANNOUNCE: Duration = Duration::from_secs(2);

impl Shared {
    pub(super) async fn write_for_ever(&self, controller: &Controller) {
        loop {
            if !self.contact.is_there() {
                clock::sleep(PAUSE).await;
                continue;
            }
            let job = self.outbox().next();
            let outcome = match job {
                None => {
                    let _ = self.kicked.recv().await;
                    continue;
                }
                Some(Job::Chore(txn)) => {
                    let outcome = self.etcd.commit(&txn).await;
                    if let Err(EtcdError::Unreachable(_)) = &outcome {
                        self.outbox().chore(txn);
                    }
                    outcome.map(|_| ())
                }
                Some(Job::Worker { id, draft, events }) => {
                    self.write_worker(controller, &id, draft, events).await
                }
            };
            if let Err(error) = outcome {
                self.lease_may_be_gone(&error).await;
                log::debug!(target: "controller", "store: not written yet: {error}");
                clock::sleep(PAUSE).await;
            }
        }
    }

    async fn write_worker(
        &self,
        controller: &Controller,
        id: &str,
        mut draft: Option<Box<Draft>>,
        events: Vec<Named>,
    ) -> Result<(), EtcdError> {
        for _ in 0..TRIES_MAX {
            draft = draft.filter(|draft| self.is_worth_writing(id, draft));
            if draft.is_none() && events.is_empty() {
                self.outbox().done(id);
                return Ok(());
            }
            let outcome = self.commit_worker(id, draft.as_deref(), &events).await;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(EtcdError::Refused(why)) if why.contains("too large") => {
                    log::error!(target: "controller", "store: worker={id} cannot be written: {why}; raise etcd's --max-request-bytes");
                    self.outbox().done(id);
                    return Ok(());
                }
                Err(error) => {
                    self.outbox().failed(id, draft, events);
                    return Err(error);
                }
            };
            if outcome.succeeded {
                self.outbox().done(id);
                return Ok(());
            }
            // Another controller wrote in the meantime, or our own answer was lost.
            let found = outcome.read.into_iter().next().flatten();
            let tales = self.copy().learn(id, found);
            controller.learn(tales);
        }
        self.outbox().failed(id, draft, events);
        Err(EtcdError::Refused(format!(
            "worker {id} is written by other controllers all the time"
        )))
    }

    /// Whether a worker's word is newer than what the store has.
    fn is_worth_writing(&self, id: &str, draft: &Draft) -> bool {
        let copy = self.copy();
        let (Some(fact), _) = copy.worker(id) else {
            return draft.heard;
        };
        let is_mine = fact.by == self.me;
        let (known, beat) = (&fact.beat, &draft.beat);
        if !draft.heard {
            // Still the last word, and not spoken elsewhere.
            return is_mine && fact.heard && known.sequence == beat.sequence;
        }
        if is_mine && fact.heard && schema::is_old_news(known, beat) {
            return false;
        }
        if known.process_id == beat.process_id {
            return known.sequence <= beat.sequence;
        }
        is_mine
            || beat.replaces.contains(&known.process_id)
            || !fact.heard
            || !copy.has_controller(&fact.by)
    }

    async fn commit_worker(
        &self,
        id: &str,
        draft: Option<&Draft>,
        events: &[Named],
    ) -> Result<Outcome, EtcdError> {
        let mut txn = Txn::new();
        let mut written = None;
        if let Some(draft) = draft {
            let key = self.names.worker(id);
            let lease = self.leases.get(&self.etcd, Kind::Hearing).await?;
            let fact = WorkerFact {
                by: self.me.clone(),
                heard: draft.heard,
                beat: draft.beat.clone(),
            };
            let (at, told) = {
                let copy = self.copy();
                (copy.worker(id).1, copy.told_of(clock::now(), &draft.beat))
            };
            txn = txn.when_at(&key, at).otherwise_read(&key);
            txn = txn.put(&key, &schema::written(&fact), Some(lease));
            for session in told {
                txn = txn.delete(&self.names.session(&session));
            }
            written = Some(Arc::new(fact));
        }
        txn = self.with_events(txn, events).await?;
        let outcome = self.etcd.commit(&txn).await?;
        if let (true, Some(fact)) = (outcome.succeeded, written) {
            self.copy().wrote(id, fact, outcome.revision);
        }
        Ok(outcome)
    }

    /// Adds events, each only if it is not there yet.
    async fn with_events(&self, mut txn: Txn, events: &[Named]) -> Result<Txn, EtcdError> {
        if events.is_empty() {
            return Ok(txn);
        }
        let lease = self.leases.get(&self.etcd, Kind::Events).await?;
        for (order, (name, fact)) in (0..).zip(events) {
            let mut fact = fact.clone();
            fact.order = order;
            let key = self.names.event(name);
            let put = Txn::new()
                .when_at(&key, 0)
                .put(&key, &schema::written(&fact), Some(lease));
            txn = txn.and(put);
        }
        Ok(txn)
    }

    /// Tells every controller of a session that was just made, before its caller is told. When the
    /// store does not answer, the worker's next heartbeat tells.
    pub(in crate::controller) async fn announce(
        &self,
        worker_id: &str,
        view: SessionView,
        events: &[FleetEvent],
    ) {
        let named: Vec<Named> = events
            .iter()
            .map(|event| self.named(event, |_| Some(view.clone())))
            .collect();
        let named_here = &named;
        let write = async move {
            let lease = self.leases.get(&self.etcd, Kind::Hearing).await?;
            let key = self.names.session(&view.id);
            let fact = SessionFact {
                worker_id: worker_id.to_owned(),
                view,
            };
            let txn = Txn::new().put(&key, &schema::written(&fact), Some(lease));
            let txn = self.with_events(txn, named_here).await?;
            self.etcd.commit(&txn).await
        };
        let mut is_told = false;
        if self.contact.is_there() {
            let told = clock::by(clock::now() + ANNOUNCE, write).await;
            is_told = matches!(told, Ok(Ok(_)));
        } else {
            drop(write);
        }
        if !is_told {
            self.outbox().events(worker_id, named);
            self.kick();
        }
    }

    /// A session has ended: whoever joins now is not told of it.
    pub(in crate::controller) fn ended(&self, id: &SessionId) {
        let delete = Txn::new().delete(&self.names.session(id));
        self.outbox().chore(delete);
        self.kick();
    }

    /// Orders or lifts a drain, everywhere.
    ///
    /// # Errors
    /// 503 while the store is away.
    pub(in crate::controller) async fn order(
        &self,
        worker_id: &str,
        drain: Option<Option<String>>,
    ) -> Result<(), Failure> {
        self.there()?;
        let key = self.names.drain(worker_id);
        let txn = match drain {
            Some(deadline) => Txn::new().put(&key, &schema::written(&DrainFact { deadline }), None),
            None => Txn::new().delete(&key),
        };
        let outcome = self.etcd.commit(&txn).await;
        outcome
            .map(|_| ())
            .map_err(|error| super::away(&error.to_string()))
    }
}
