//! Takes off bodies what earlier sessions of this worker left there: each body is looked at once by
//! a process: at its start, or in its first session there, whichever can.
//!
//! What dead sessions left is undone through the ledger; this finds what no ledger knows of (a
//! state directory that was lost, a body that was away), and a kept client after
//! `bodies.pair_once` was turned off.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::Worker;
use crate::body::sunshine::Credentials;
use crate::body::{Body, Departure};
use crate::sync::Mutex;
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
pub(super) struct Tidy(Mutex<HashMap<IpAddr, Progress>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Doing,
    /// Somebody asked for it meanwhile, who may have seen what was looked at too early.
    DoingAgain,
    Done,
}

impl Tidy {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Progress>> {
        self.0.lock()
    }

    /// Whether the caller is the one to do it.
    fn begin(&self, ip: IpAddr) -> bool {
        match self.lock().entry(ip) {
            Entry::Vacant(entry) => {
                entry.insert(Progress::Doing);
                true
            }
            Entry::Occupied(mut entry) => {
                if *entry.get() == Progress::Doing {
                    entry.insert(Progress::DoingAgain);
                }
                false
            }
        }
    }

    /// Whether the caller, who has looked once, has to look again.
    fn finish(&self, ip: IpAddr, is_done: bool) -> bool {
        let mut all = self.lock();
        let again = all.get(&ip) == Some(&Progress::DoingAgain);
        match (again, is_done) {
            (true, _) => all.insert(ip, Progress::Doing),
            (false, true) => all.insert(ip, Progress::Done),
            (false, false) => all.remove(&ip),
        };
        again
    }

    /// Something is left there after all.
    fn owe(&self, ip: IpAddr) {
        let mut all = self.lock();
        if all.get(&ip) == Some(&Progress::Done) {
            all.remove(&ip);
        }
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
                if !once(&worker, &body).await {
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
    spawn(worker, body);
}

/// A session has left a body; it may have been the last to use a client that is no longer wanted.
/// What it could not undo, because the body was away, is owed: to the next session there, or to a
/// later round.
pub(super) fn left(worker: &Arc<Worker>, body: &Body, departure: &Departure) {
    if !departure.left.is_empty() {
        worker.tidy.owe(body.ip());
        let (worker, body) = (Arc::clone(worker), body.clone());
        exec::spawn(async move { owed(&worker, &body).await }).detach();
    } else if !worker.settings.rules.pair_once {
        spawn(worker, body);
    }
}

/// A kept client is no longer kept: it goes, once no session uses it.
pub(super) fn dropped(worker: &Arc<Worker>, body: &Body) {
    worker.tidy.owe(body.ip());
    spawn(worker, body);
}

fn spawn(worker: &Arc<Worker>, body: &Body) {
    let (worker, body) = (Arc::clone(worker), body.clone());
    exec::spawn(async move {
        once(&worker, &body).await;
    })
    .detach();
}

async fn owed(worker: &Arc<Worker>, body: &Body) {
    for pause in &ROUNDS[1..] {
        clock::sleep(*pause).await;
        if once(worker, body).await {
            return;
        }
    }
}

fn configured(worker: &Worker) -> Option<Credentials> {
    let user = worker.settings.sunshine_user.clone()?;
    Credentials::new(user, worker.settings.sunshine_password.clone()?).ok()
}

/// Tidies a body unless that has been done. False when it must be tried again.
async fn once(worker: &Arc<Worker>, body: &Body) -> bool {
    if worker.shortages.is_ledger_unread() {
        // A client that no known session uses may be that of one which runs unknown.
        return true;
    }
    let (ip, tidy) = (body.ip(), &worker.tidy);
    if !tidy.begin(ip) {
        return true;
    }
    loop {
        let (is_told, is_done) = look(worker, body).await;
        if !tidy.finish(ip, is_done) {
            return is_told;
        }
    }
}

/// Whether the body could be looked at, and whether nothing is left to do there.
async fn look(worker: &Arc<Worker>, body: &Body) -> (bool, bool) {
    let ip = body.ip();
    // A session that is ending undoes its own, and needs nothing of others any more.
    let live = || {
        let there = worker.roster.all().into_iter();
        there
            .filter(|live| live.wish.request.body_ip == ip && live.shown().end_reason.is_none())
            // One that has no name yet counts, too.
            .flat_map(|live| std::iter::once(String::new()).chain(live.traces().clients()))
            .collect()
    };
    match body.tidy(live, WITHIN).await {
        Ok(tidied) => {
            for client in &tidied.unpaired {
                log::info!(target: "cleanup", body:% = ip; "unpaired {client}");
            }
            // The last session that uses a client which is no longer wanted tidies again.
            (true, !tidied.is_in_use)
        }
        Err(error) => {
            log::info!(target: "cleanup", body:% = ip; "cannot look for old pairings now: {error}");
            (false, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_while_a_body_is_tidied_is_not_forgotten() {
        let (tidy, ip) = (Tidy::default(), [10, 0, 0, 1].into());
        assert!(tidy.begin(ip));
        assert!(!tidy.begin(ip) && !tidy.begin(ip));
        assert!(tidy.finish(ip, true), "once more");
        assert!(!tidy.finish(ip, true));
        assert!(!tidy.begin(ip), "that was all");
        tidy.owe(ip);
        assert!(tidy.begin(ip));
        tidy.owe(ip);
        assert!(!tidy.begin(ip) && tidy.finish(ip, false));
        assert!(!tidy.finish(ip, false));
        assert!(tidy.begin(ip), "it could not be done");
    }
}
