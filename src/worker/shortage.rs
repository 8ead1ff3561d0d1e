//! What this machine lacks: health names it, and admission asks for it.
//!
//! Two kinds: a state disk that takes no writes, which is watched until it does again, and calls of
//! this worker that failed for want of descriptors, memory or ports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Worker;
use crate::clock;
use crate::exec;

/// Pause between two attempts to write to a state disk that took no write.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(5);
/// How long a failed call is named in health: some heartbeats, so that an operator sees it.
const CALL_SHOWN: Duration = Duration::from_secs(60);

/// What is lacking now.
#[derive(Debug, Default)]
pub(super) struct Shortages(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    disk: Option<String>,
    /// Set when the ledger could not be read at the start; only a restart reads it again.
    unread_ledger: Option<String>,
    call: Option<(Instant, String)>,
}

impl Shortages {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state disk took a write.
    pub(super) fn disk_works(&self) {
        if self.seen().disk.take().is_some() {
            log::info!(target: "worker", "worker.state_dir takes writes again");
        }
    }

    /// Why the state disk takes no writes, if it does not.
    pub(super) fn disk(&self) -> Option<String> {
        self.seen().disk.clone()
    }

    /// The ledger could not be read: what an earlier process left is neither adopted nor ended.
    pub(super) fn ledger_unread(&self, why: &str) {
        self.seen().unread_ledger = Some(why.to_owned());
    }

    /// A call of this worker failed for want of its own resources.
    pub(super) fn call_failed(&self, why: &str) {
        let before = self.seen().call.replace((clock::now(), why.to_owned()));
        let is_news = before.is_none_or(|(at, _)| is_over(at));
        if is_news {
            log::error!(target: "worker", "{why}; check LimitNOFILE of the unit and the machine's memory");
        }
    }

    /// One sentence for each shortage.
    pub(super) fn problems(&self) -> Vec<String> {
        let seen = self.seen();
        let disk = seen.disk.as_ref().map(|why| {
            format!("worker.state_dir takes no writes, new sessions are refused: {why}")
        });
        let unread = seen.unread_ledger.as_ref().map(|why| {
            format!("sessions of an earlier process may run unadopted, restart the worker when the ledger can be read: {why}")
        });
        let call = seen.call.as_ref().filter(|(at, _)| !is_over(*at));
        let call = call.map(|(_, why)| format!("this worker lacks resources: {why}"));
        disk.into_iter().chain(unread).chain(call).collect()
    }
}

fn is_over(at: Instant) -> bool {
    clock::now().saturating_duration_since(at) > CALL_SHOWN
}

impl Worker {
    /// The state disk took no write. Tries until it does, so that health and readiness recover also
    /// when nobody asks for sessions.
    pub(super) fn disk_failed(self: &Arc<Self>, why: &str) {
        if self.shortages.seen().disk.replace(why.to_owned()).is_some() {
            return;
        }
        let worker: Weak<Self> = Arc::downgrade(self);
        exec::spawn(async move {
            loop {
                clock::sleep(DISK_RETRY).await;
                let Some(worker) = worker.upgrade() else {
                    return;
                };
                if worker.shortages.disk().is_none() {
                    return;
                }
                let ledger = worker.ledger.clone();
                if smol::unblock(move || ledger.check_writable()).await.is_ok() {
                    return worker.shortages.disk_works();
                }
            }
        })
        .detach();
    }
}
