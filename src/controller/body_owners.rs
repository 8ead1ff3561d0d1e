//! Which sessions have a body, in the whole fleet, and how a create gets it.
//!
//! The controller judges by what the workers told; before a session is ended for another one its
//! worker judges again, which alone knows whether the visitor has just come back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http_types::Method;

use super::Controller;
use super::api::worker_failure;
use super::cluster::BodyLock;
use super::placement::Placement;
use crate::clock;
use crate::http::client::Outgoing;
use crate::http::{Call, Failure};
use crate::ids::SessionId;
use crate::protocol::{CreateSession, Owner, SessionView, Status, Yield};

/// How often a waiting create looks at the owners of its body.
const POLL: Duration = Duration::from_millis(100);
/// Time a worker has to end a session and to leave its body.
const YIELD_WITHIN: Duration = Duration::from_secs(45);
/// Time until a heartbeat tells that a session is gone which its worker denies.
const DENIED_WITHIN: Duration = Duration::from_secs(2);
/// How long a body stays locked at most for a session whose client did not wait.
const PAIRING_WITHIN: Duration = Duration::from_secs(60);
/// Advice to a client when the fleet is not ready for its request.
const RETRY: Duration = Duration::from_secs(5);

/// What is to be done about the owners of a body.
enum Verdict {
    /// The body is free.
    Free,
    /// An owner is ending.
    Wait,
    /// This owner may give way.
    Ask(Owner),
    /// The body is this owner's.
    Busy(Owner),
}

/// One create's claim to a body.
pub(super) struct Claimant<'a> {
    pub(super) controller: &'a Controller,
    pub(super) call: &'a Call,
    pub(super) request: &'a CreateSession,
    /// Who had the body when the create came: a takeover ends nobody who came later.
    before: Vec<SessionId>,
    deadline: Instant,
}

impl<'a> Claimant<'a> {
    /// Begins a create that waits for `within` at most.
    pub(super) fn new(
        controller: &'a Controller,
        call: &'a Call,
        request: &'a CreateSession,
        within: Duration,
    ) -> Self {
        let owners = controller.owners(request.body_ip).into_iter();
        Self {
            before: owners.map(|(owner, _)| owner.session_id).collect(),
            deadline: clock::now() + within,
            controller,
            call,
            request,
        }
    }

    /// Locks the body and frees it for this create: ends its owner when that is allowed, waits for
    /// one that is ending.
    ///
    /// # Errors
    /// At once 409 `body_busy` with the owner, and what placement refuses with; 503 `timeout`,
    /// `starting`, `worker_unreachable`.
    pub(super) async fn acquire(&self) -> Result<BodyLock, Failure> {
        self.fleet_is_known().await?;
        let lock = {
            let (store, body) = (&self.controller.store, self.request.body_ip);
            let mut locking = std::pin::pin!(store.lock_body(body, self.deadline));
            loop {
                let look = async {
                    clock::sleep(POLL).await;
                    None
                };
                let locked = smol::future::or(async { Some((&mut locking).await) }, look).await;
                if let Some(locked) = locked {
                    break locked;
                }
                self.can_be_placed()?;
                if let Verdict::Busy(owner) = self.judge() {
                    return Err(Failure::busy(owner));
                }
            }
        };
        let lock = lock.map_err(|_| self.late("other sessions are being made on it"))?;
        loop {
            match self.judge() {
                Verdict::Free => return Ok(lock),
                Verdict::Busy(owner) => return Err(Failure::busy(owner)),
                Verdict::Ask(owner) => self.ask(owner).await?,
                Verdict::Wait if clock::now() >= self.deadline => {
                    return Err(self.late("its last session has not left it"));
                }
                Verdict::Wait => clock::sleep(POLL).await,
            }
        }
    }

    /// Waits until every worker has had time to tell its sessions.
    async fn fleet_is_known(&self) -> Result<(), Failure> {
        while !self.controller.store.has_fleet() && !self.controller.fleet().is_warm(clock::now()) {
            if clock::now() >= self.deadline {
                return Err(super::api::starting(self.controller));
            }
            clock::sleep(POLL).await;
        }
        Ok(())
    }

    fn judge(&self) -> Verdict {
        let owners = self.controller.owners(self.request.body_ip);
        if owners.len() < self.controller.settings.body_sessions {
            return Verdict::Free;
        }
        let mut busy = None;
        for (owner, ready_for) in owners {
            let was_there = self.before.contains(&owner.session_id);
            let grace = self.controller.settings.disconnect_grace;
            match owner.status {
                Status::Ending => return Verdict::Wait,
                Status::Lingering => return Verdict::Ask(owner),
                Status::Ready if ready_for > grace => return Verdict::Ask(owner),
                _ if self.request.takeover && was_there => return Verdict::Ask(owner),
                _ => busy = busy.or(Some(owner)),
            }
        }
        busy.map_or(Verdict::Free, Verdict::Busy)
    }

    /// Asks the owner's worker to end it, for good or if it gives way.
    async fn ask(&self, owner: Owner) -> Result<(), Failure> {
        let Some(route) = self.controller.fleet().session_owner(&owner.session_id) else {
            return Ok(());
        };
        let id = &owner.session_id;
        let takeover = self.request.takeover && self.before.contains(id);
        log::info!(target: "controller", request_id = self.call.request_id.as_str();
            "asking session={id} worker={} for body={} takeover={takeover}", owner.worker_id, self.request.body_ip);
        let order = Outgoing::new(
            Method::Post,
            format!("{}/api/v1/sessions/{id}/yield", route.url),
        )
        .bearer(&self.controller.settings.token)
        .header("x-request-id", self.call.request_id.as_str())
        .json(&Yield { takeover })
        .within(YIELD_WITHIN);
        let answer = self.controller.client.send(order).await.map_err(|error| {
            let what = format!(
                "session {id} has the body, and its worker {} does not answer",
                owner.worker_id
            );
            Failure::new(503, "worker_unreachable", what)
                .detail(error.to_string())
                .retry_after(RETRY)
        })?;
        match answer.status {
            204 => {
                self.controller.fleet().session_ending(id, None);
                self.is_told_gone(id).await;
                Ok(())
            }
            // It has just ended, or its worker is older than this call.
            404 if self.is_told_gone(id).await => Ok(()),
            404 => Err(Failure::busy(owner)),
            _ => Err(worker_failure(&answer)),
        }
    }

    /// Waits until a heartbeat tells that the session is gone.
    async fn is_told_gone(&self, id: &SessionId) -> bool {
        let until = clock::now() + DENIED_WITHIN;
        while self.controller.fleet().session(id).is_some() {
            if clock::now() >= until {
                return false;
            }
            clock::sleep(POLL).await;
        }
        true
    }

    /// Refuses at once what no worker can take; a slot that an owner gives back counts.
    fn can_be_placed(&self) -> Result<(), Failure> {
        if !self.before.is_empty() {
            return Ok(());
        }
        let mut fleet = self.controller.fleet();
        let reservation = Placement::new(self.request, 0)
            .place(&mut fleet, clock::now())
            .map_err(|none| super::create::no_place(&none))?;
        fleet.refused(reservation);
        Ok(())
    }

    fn late(&self, why: &str) -> Failure {
        let what = format!("body {} is not free in time: {why}", self.request.body_ip);
        Failure::new(503, "timeout", what).retry_after(RETRY)
    }
}

impl Controller {
    /// The sessions that have a body, and since when each can be opened.
    fn owners(&self, body: IpAddr) -> Vec<(Owner, Duration)> {
        let fleet = self.fleet();
        let there = fleet
            .each_session()
            .filter(|(_, view)| view.body_ip == Some(body) && view.status != Status::Ended);
        there
            .map(|(worker_id, view)| (owner(worker_id, view), ready_for(view)))
            .collect()
    }

    /// Keeps a body locked until the session that was made on it no longer pairs.
    pub(super) async fn hold_while_pairing(&self, id: &SessionId, lock: BodyLock) {
        let until = clock::now() + PAIRING_WITHIN;
        let pairs = || {
            let fleet = self.fleet();
            fleet
                .session(id)
                .is_some_and(|(_, v)| v.status == Status::Starting)
        };
        while pairs() && clock::now() < until {
            clock::sleep(POLL).await;
        }
        drop(lock);
    }
}

fn owner(worker_id: &str, view: &SessionView) -> Owner {
    Owner {
        session_id: view.id.clone(),
        worker_id: worker_id.to_owned(),
        status: view.status,
        since: view.created_at.clone(),
        connected: view.connected,
    }
}

/// For how long the stream could be opened, by the wall clocks of both machines.
fn ready_for(view: &SessionView) -> Duration {
    let at = view.ready_at.as_deref();
    let at = at.and_then(|at| humantime::parse_rfc3339(at).ok());
    at.and_then(|at| clock::wall().duration_since(at).ok())
        .unwrap_or_default()
}
