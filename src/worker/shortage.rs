//! What this machine lacks: health names it, readiness and admission ask for it.
//!
//! The disks of the state and of the sessions are looked at all the time: a worker that could keep no
//! session says so before it is asked for one, and takes sessions again by itself.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::Worker;
use crate::clock;
use crate::exec::{self, Stop};
use crate::session::private_dir;
use crate::sync::Mutex;

/// Pause between two attempts to write to a disk.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(5);
/// Longest wait for a disk, as for the ledger entry of a session that starts.
const WITHIN: Duration = Duration::from_secs(10);

/// What is lacking now.
#[derive(Debug, Default)]
pub(super) struct Shortages {
    seen: Mutex<Seen>,
    /// A look at the disks has not come back: no other is begun, each would block a thread.
    is_hung: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    disk: Option<String>,
    /// Set when the ledger could not be read at the start; only a restart reads it again.
    unread_ledger: Option<String>,
}

impl Shortages {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    /// Why no session could be kept, if it could not.
    pub(super) fn disk(&self) -> Option<String> {
        self.seen().disk.clone()
    }

    /// The ledger could not be read: what an earlier process left is neither adopted nor ended.
    pub(super) fn ledger_unread(&self, why: &str) {
        self.seen().unread_ledger = Some(why.to_owned());
    }

    /// Whether sessions may run that this process does not know.
    pub(super) fn is_ledger_unread(&self) -> bool {
        self.seen().unread_ledger.is_some()
    }

    /// One sentence for each shortage.
    pub(super) fn problems(&self) -> Vec<String> {
        let seen = self.seen();
        let disk = seen
            .disk
            .as_ref()
            .map(|why| format!("no session can be kept on the disk, new ones are refused: {why}"));
        let unread = seen.unread_ledger.as_ref().map(|why| {
            format!("sessions of an earlier process may run unadopted, restart the worker when the ledger can be read: {why}")
        });
        disk.into_iter().chain(unread).collect()
    }
}

impl Worker {
    /// Why no session would be admitted for what this machine lacks: slug and sentence.
    pub(super) fn shortage(&self) -> Option<(&'static str, String)> {
        let disk = self.shortages.disk().map(|why| ("disk_full", why));
        disk.or_else(|| Some(("program_unusable", self.program.refusal()?)))
    }

    /// The disk took no write.
    pub(super) fn disk_failed(&self, why: &str) {
        if self.shortages.seen().disk.replace(why.to_owned()).is_none() {
            log::error!(target: "worker", "new sessions are refused: {why}");
            self.kick();
        }
    }

    /// The disk took a write.
    fn disk_works(&self) {
        if self.shortages.seen().disk.take().is_some() {
            log::info!(target: "worker", "the disk takes writes again, and this worker sessions");
            self.kick();
        }
    }

    /// Whether the files of one more session have room, found out by writing some.
    pub(super) async fn check_disk(&self) -> Result<(), String> {
        let shortages = &self.shortages;
        if shortages.is_hung.load(Ordering::Relaxed) {
            return Err(slow());
        }
        let mut look = self.look_at_disks();
        let looked = clock::by(clock::now() + WITHIN, &mut look).await;
        let outcome = looked.unwrap_or_else(|_| Err(slow()));
        match &outcome {
            Ok(()) => self.disk_works(),
            Err(why) => self.disk_failed(why),
        }
        outcome
    }

    fn look_at_disks(&self) -> smol::Task<Result<(), String>> {
        let dirs: Vec<PathBuf> = [self.ledger.dir(), self.sessions_dir.path()]
            .into_iter()
            .chain(self.outbox.dir())
            .map(ToOwned::to_owned)
            .collect();
        smol::unblock(move || {
            dirs.iter().try_for_each(|dir| {
                let written = private_dir::check_room(dir);
                written.map_err(|error| {
                    let dir = dir.display();
                    format!("cannot write in {dir}: {error}, make room there or make it writable")
                })
            })
        })
    }
}

fn slow() -> String {
    let span = WITHIN.as_secs();
    format!("the disk of worker.state_dir or sessions.dir has not answered for {span}s")
}

/// Looks at the disks until `stop`.
pub(super) fn watch(worker: &Arc<Worker>, stop: Stop) {
    let worker = Arc::clone(worker);
    exec::spawn(async move {
        let looks = async {
            loop {
                let mut look = worker.look_at_disks();
                let outcome = match clock::by(clock::now() + WITHIN, &mut look).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        worker.shortages.is_hung.store(true, Ordering::Relaxed);
                        worker.disk_failed(&slow());
                        let outcome = look.await;
                        worker.shortages.is_hung.store(false, Ordering::Relaxed);
                        outcome
                    }
                };
                match outcome {
                    Ok(()) => worker.disk_works(),
                    Err(why) => worker.disk_failed(&why),
                }
                clock::sleep(DISK_RETRY).await;
            }
        };
        stop.or(looks).await;
    })
    .detach();
}
