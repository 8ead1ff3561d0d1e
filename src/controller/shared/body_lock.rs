//! One create at a time for each body, whichever controllers they came to.
//!
//! A courtesy, no safety: Sunshine gives a PIN to any pending pairing, so two workers that pair
//! with one body at once make one of the two creates fail, with nothing left behind. Without the
//! store creates go on without it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::etcd::{EtcdError, Txn};
use crate::ids;

use super::Shared;
use super::leases::Kind;

/// How often a waiting create looks whether the body is free.
const LOOK: Duration = Duration::from_millis(100);

/// A body's turn; over when dropped, or when this controller dies.
#[derive(Debug)]
pub(in crate::controller) struct BodyLockGuard {
    shared: Arc<Shared>,
    name: String,
    ticket: String,
}

impl Shared {
    /// Waits for the body's turn until `deadline`; `Ok(None)` when the store is away.
    ///
    /// # Errors
    /// Nothing more than that the deadline has passed.
    pub(in crate::controller) async fn turn_at(
        self: &Arc<Self>,
        body: IpAddr,
        deadline: Instant,
    ) -> Result<Option<BodyLockGuard>, clock::Elapsed> {
        let (name, ticket) = (self.names.turn(body), ids::label());
        loop {
            if !self.contact.is_there() {
                return Ok(None);
            }
            match self.take(&name, &ticket).await {
                Ok(true) => {
                    return Ok(Some(BodyLockGuard {
                        shared: Arc::clone(self),
                        name,
                        ticket,
                    }));
                }
                Ok(false) if clock::now() > deadline => return Err(clock::Elapsed),
                Ok(false) => clock::sleep(LOOK).await,
                Err(error) => {
                    self.lease_may_be_gone(&error).await;
                    log::warn!(target: "controller", "no turn at body={body}, going on without: {error}");
                    return Ok(None);
                }
            }
        }
    }

    async fn take(&self, name: &str, ticket: &str) -> Result<bool, EtcdError> {
        let lease = self.leases.get(&self.etcd, Kind::Presence).await?;
        let txn = Txn::new()
            .when_at(name, 0)
            .put(name, ticket.as_bytes(), Some(lease))
            .otherwise_read(name);
        let outcome = self.etcd.commit(&txn).await?;
        let found = outcome.read.into_iter().next().flatten();
        Ok(outcome.succeeded || found.is_some_and(|kv| kv.value == ticket.as_bytes()))
    }
}

impl Drop for BodyLockGuard {
    fn drop(&mut self) {
        let txn = Txn::new()
            .when_is(&self.name, self.ticket.as_bytes())
            .delete(&self.name);
        self.shared.outbox().chore(txn);
        self.shared.kick();
    }
}
