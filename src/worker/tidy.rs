//! Takes off bodies what earlier sessions of this worker left there: each body is looked at once by
//! a process: at its start, or in its first session there, whichever can.
//!
//! What dead sessions left is undone through the ledger; this finds what no ledger knows of (a
//! state directory that was lost, a body that was away), and a kept client after
//! `bodies.pair_once` was turned off.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Worker;
use crate::body::Body;
use crate::body::sunshine::Credentials;
use crate::ids::SessionId;
use crate::{clock, exec};

/// Time for one body: a pairing under way may hold it, then two calls.
const WITHIN: Duration = Duration::from_secs(30);
/// Pauses before the rounds of a start: bodies boot later than the worker, or stay away.
const ROUNDS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
];

/// Bodies that this process has tidied or is tidying; as many as it has met.
#[derive(Debug, Default)]
pub(super) struct Tidy(Mutex<HashSet<IpAddr>>);

impl Tidy {
    /// Whether the caller is the one to do it.
    fn begin(&self, ip: IpAddr) -> bool {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert(ip)
    }

    fn again(&self, ip: IpAddr) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.remove(&ip);
    }
}

/// Tidies the bodies of earlier sessions, with the configured credentials.
pub(super) fn at_start(worker: &Arc<Worker>) {
    let Some(credentials) = configured(worker) else {
        // Then each body is tidied when a session brings credentials for it.
        return;
    };
    let worker = Arc::clone(worker);
    exec::spawn(async move {
        let mut bodies = worker.bodies.met().await;
        for pause in ROUNDS {
            clock::sleep(pause).await;
            let mut away = Vec::new();
            for ip in bodies {
                let Ok(body) = worker.bodies.body(ip, credentials.clone()) else {
                    continue;
                };
                if !once(&worker, &body, None).await {
                    away.push(ip);
                }
            }
            if away.is_empty() {
                return;
            }
            bodies = away;
        }
    })
    .detach();
}

/// A session streams from a body: the first one lets it be tidied, with the session's credentials.
pub(super) fn visited(worker: &Arc<Worker>, body: &Body) {
    spawn(worker, body, None);
}

/// A session has left a body; it may have been the last to use a client that is no longer wanted.
pub(super) fn left(worker: &Arc<Worker>, body: &Body, session: &SessionId) {
    if !worker.settings.rules.pair_once {
        spawn(worker, body, Some(session.clone()));
    }
}

fn spawn(worker: &Arc<Worker>, body: &Body, leaving: Option<SessionId>) {
    let (worker, body) = (Arc::clone(worker), body.clone());
    exec::spawn(async move {
        once(&worker, &body, leaving.as_ref()).await;
    })
    .detach();
}

fn configured(worker: &Worker) -> Option<Credentials> {
    let user = worker.settings.sunshine_user.clone()?;
    Credentials::new(user, worker.settings.sunshine_password.clone()?).ok()
}

/// Tidies a body unless that has been done. False when it must be tried again.
async fn once(worker: &Arc<Worker>, body: &Body, leaving: Option<&SessionId>) -> bool {
    let (ip, tidy) = (body.ip(), &worker.tidy);
    if !tidy.begin(ip) {
        return true;
    }
    let live = || {
        let there = worker.roster.all().into_iter();
        there
            .filter(|live| live.wish.request.body_ip == ip && Some(&live.id) != leaving)
            .map(|live| live.traces().client.unwrap_or_default())
            .collect()
    };
    let tidied = match body.tidy(live, WITHIN).await {
        Ok(tidied) => tidied,
        Err(error) => {
            log::info!(target: "cleanup", body:% = ip; "cannot look for old pairings now: {error}");
            tidy.again(ip);
            return false;
        }
    };
    for client in &tidied.unpaired {
        log::info!(target: "cleanup", body:% = ip; "unpaired {client}");
    }
    if tidied.is_in_use {
        // The last session that uses it tidies again.
        tidy.again(ip);
    }
    true
}
