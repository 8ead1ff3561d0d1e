//! Takes the clients that sessions of this worker paired off the bodies again: when the last session
//! leaves a body, and once at the worker's start for what the process before it left there (a state
//! directory that was lost, a body that was away, `bodies.pair_once` turned off).
//!
//! Clients are unpaired only while no session of this worker is on the body: see [`SessionBody::tidy`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::Worker;
use crate::body::sunshine::SunshineCredentials;
use crate::body::{CleanupRecord, SessionBody};
use crate::sync::Mutex;
use crate::{clock, exec};

/// Time for one body: another round that is under way, the list of clients and a call for each.
const WITHIN: Duration = Duration::from_secs(10);
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
        // Then each body is tidied when a session that has credentials for it leaves it.
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

/// A session has left a body: what it paired there goes, and what others left, unless another
/// session is there; then the last one sees to it. When the body is away, a later round or the next
/// session that leaves it does.
pub(super) async fn left(worker: &Arc<Worker>, body: &SessionBody, traces: &CleanupRecord) {
    if traces.asked {
        worker.tidy.owe(body.ip());
    }
    if !once(worker, body).await {
        let (worker, body) = (Arc::clone(worker), body.clone());
        exec::spawn(async move { owed(&worker, &body).await }).detach();
    }
}

/// A kept client is no longer kept: it goes with the last session that leaves the body.
pub(super) fn owe(worker: &Worker, body: &SessionBody) {
    worker.tidy.owe(body.ip());
}

async fn owed(worker: &Arc<Worker>, body: &SessionBody) {
    for pause in &ROUNDS[1..] {
        clock::sleep(*pause).await;
        if once(worker, body).await {
            return;
        }
    }
}

fn configured(worker: &Worker) -> Option<SunshineCredentials> {
    let user = worker.settings.sunshine_user.clone()?;
    SunshineCredentials::new(user, worker.settings.sunshine_password.clone()?).ok()
}

/// Tidies a body unless that has been done. False when it must be tried again.
async fn once(worker: &Arc<Worker>, body: &SessionBody) -> bool {
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
async fn look(worker: &Arc<Worker>, body: &SessionBody) -> (bool, bool) {
    let ip = body.ip();
    match body.tidy(|| is_vacant(worker, ip), WITHIN).await {
        Ok(Some(unpaired)) => {
            for client in &unpaired {
                log::info!(target: "cleanup", body:% = ip; "unpaired {client}");
            }
            (true, true)
        }
        // The last session there tidies again.
        Ok(None) => (true, false),
        Err(error) => {
            log::warn!(target: "cleanup", body:% = ip; "old pairings stay for now: {error}");
            (false, false)
        }
    }
}

/// Whether no session is on the body, nor a stream process of one that ends.
fn is_vacant(worker: &Worker, ip: IpAddr) -> bool {
    let mut there = worker.roster.all().into_iter();
    !there.any(|live| {
        let is_there = live.shown().end_reason.is_none() || live.running().is_some();
        live.wish.request.body_ip == ip && is_there
    })
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
