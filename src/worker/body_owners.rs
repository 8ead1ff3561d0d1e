//! Which sessions have which bodies. A body belongs to `bodies.sessions_max` sessions at a time, each
//! from its admission until everything that it left on the body is undone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use smol::channel::{Receiver, Sender};

use super::Worker;
use super::session_handle::SessionHandle;
use crate::clock;
use crate::http::{Call, Failure};
use crate::ids::SessionId;
use crate::protocol::{EndReason, Owner, Status};
use crate::session::lifecycle::Input;
use crate::sync::Mutex;

/// The claims of all sessions, by body.
#[derive(Debug, Default)]
pub(super) struct BodyOwners(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// At most the slots of the worker, and the sessions that leave a body.
    claims: HashMap<IpAddr, Vec<SessionId>>,
    /// Woken by every claim that ends.
    waiting: Vec<Sender<()>>,
}

/// One session's share of a body, given back on drop.
#[derive(Debug)]
pub(super) struct Claim {
    owners: Arc<BodyOwners>,
    body: IpAddr,
    id: SessionId,
}

/// Others have the body.
struct Taken {
    by: Vec<SessionId>,
    /// Closed when a claim ends.
    freed: Receiver<()>,
}

impl BodyOwners {
    /// A claim in addition to those there are: of an adopted session.
    pub(super) fn add(self: &Arc<Self>, body: IpAddr, id: &SessionId) -> Claim {
        let claim = Claim {
            owners: Arc::clone(self),
            body,
            id: id.clone(),
        };
        let mut inner = self.0.lock();
        inner.claims.entry(body).or_default().push(id.clone());
        claim
    }

    fn claim(self: &Arc<Self>, body: IpAddr, id: &SessionId, max: usize) -> Result<Claim, Taken> {
        let mut inner = self.0.lock();
        if let Some(by) = inner.claims.get(&body).filter(|by| by.len() >= max) {
            let (by, (waker, freed)) = (by.clone(), smol::channel::bounded(1));
            inner.waiting.push(waker);
            return Err(Taken { by, freed });
        }
        drop(inner);
        Ok(self.add(body, id))
    }

    /// Waits until that session has given the body back.
    pub(super) async fn given_back(&self, id: &SessionId) {
        loop {
            let freed = {
                let mut inner = self.0.lock();
                if !inner.claims.values().flatten().any(|owner| owner == id) {
                    return;
                }
                let (waker, freed) = smol::channel::bounded(1);
                inner.waiting.push(waker);
                freed
            };
            // Closed by the next claim that ends.
            let _ = freed.recv().await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut inner = self.owners.0.lock();
        if let Some(claims) = inner.claims.get_mut(&self.body) {
            if let Some(own) = claims.iter().position(|id| *id == self.id) {
                claims.swap_remove(own);
            }
            if claims.is_empty() {
                inner.claims.remove(&self.body);
            }
        }
        inner.waiting.clear();
    }
}

/// Has the body for a new session. An owner that is ending is waited for, until
/// `sessions.start_timeout` has passed; one that gives way ([`gives_way`]), or that a `takeover` may
/// end, is ended first.
///
/// # Errors
/// 409 `body_busy` with the owner; 503 `timeout`.
pub(super) async fn claim(
    worker: &Arc<Worker>,
    call: &Call,
    body: IpAddr,
    id: &SessionId,
    takeover: bool,
) -> Result<Claim, Failure> {
    let came = clock::now();
    let deadline = came + worker.settings.life.start_timeout;
    loop {
        let taken = match worker.owners.claim(body, id, worker.settings.body_sessions) {
            Ok(claim) => return Ok(claim),
            Err(taken) => taken,
        };
        let known: Vec<_> = taken.by.iter().map(|id| worker.roster.known(id)).collect();
        let is_ending = |owner: &Option<Arc<SessionHandle>>| {
            owner
                .as_ref()
                .is_some_and(|o| o.shown().end_reason.is_some())
        };
        if !known.iter().any(is_ending) {
            // Of two takeovers at once one wins: nobody takes a body from who came after him.
            let may_end =
                |o: &&Arc<SessionHandle>| (takeover && o.begun < came) || gives_way(worker, o);
            let Some(owner) = known.iter().flatten().find(may_end) else {
                return Err(busy(worker, &taken.by[0]));
            };
            take_over(worker, call, owner).await;
        }
        if clock::by(deadline, taken.freed.recv()).await.is_err() {
            let what = format!("the session that had body {body} has not left it in time");
            return Err(Failure::new(503, "timeout", what).retry_after(super::admit::FULL_RETRY));
        }
    }
}

/// Ends a session so that another one gets its body.
pub(super) async fn take_over(worker: &Worker, call: &Call, owner: &Arc<SessionHandle>) {
    log::info!(target: "worker", session = owner.id.as_str(), request_id = call.request_id.as_str();
        "ends, its body {} is taken over", owner.wish.request.body_ip);
    worker.publish("session_taken_over", &owner.id, serde_json::Map::new());
    owner
        .report(Input::EndRequested(EndReason::TakenOver))
        .await;
}

/// Whether a session leaves its body to the next one without being asked: its visitor went, or none
/// came for longer than `sessions.disconnect_grace`.
pub(super) fn gives_way(worker: &Worker, owner: &SessionHandle) -> bool {
    let shown = owner.shown();
    let waited = shown
        .ready_at
        .and_then(|at| clock::wall().duration_since(at).ok());
    match shown.status {
        Status::Lingering => true,
        Status::Ready => waited.is_some_and(|w| w > worker.settings.life.disconnect_grace),
        _ => false,
    }
}

/// The refusal of a create for a body that this session has.
pub(super) fn busy(worker: &Worker, id: &SessionId) -> Failure {
    let view = worker.roster.known(id).map(|owner| owner.view());
    let owner = Owner {
        session_id: id.clone(),
        worker_id: worker.settings.worker_id.clone(),
        // One that is still being admitted has no view yet.
        status: view.as_ref().map_or(Status::Starting, |v| v.status),
        connected: view.as_ref().is_some_and(|v| v.connected),
        since: view.map_or_else(|| clock::rfc3339(clock::wall()), |v| v.created_at),
    };
    Failure::busy(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_free_again_when_its_last_owner_has_left_it() {
        let owners = Arc::new(BodyOwners::default());
        let body: IpAddr = [10, 0, 0, 1].into();
        let ids: Vec<SessionId> = (0..3).map(|_| SessionId::random().unwrap()).collect();
        let first = owners.claim(body, &ids[0], 1).ok().unwrap();
        let taken = owners.claim(body, &ids[1], 1).err().unwrap();
        assert_eq!(taken.by, ids[..1]);
        assert!(owners.claim([10, 0, 0, 2].into(), &ids[1], 1).is_ok());
        let adopted = owners.add(body, &ids[1]);
        drop(first);
        assert!(taken.freed.is_closed(), "who waits looks again");
        assert_eq!(owners.claim(body, &ids[2], 1).err().unwrap().by, ids[1..2]);
        assert!(owners.claim(body, &ids[2], 2).is_ok());
        drop(adopted);
        crate::exec::block_on(owners.given_back(&ids[1]));
        assert!(owners.claim(body, &ids[2], 1).is_ok());
    }
}
