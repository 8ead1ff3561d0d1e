//! Writes one session's ledger entry, in order, without letting a disk that hangs hold the session
//! up: a stream that has to end ends all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};

use crate::ids::SessionId;
use crate::session::ledger::{Ledger, LedgerEntry, LedgerError};
use crate::{clock, exec};

/// Longest time that a session waits for the disk. A sync takes milliseconds, seconds on a busy
/// disk; an end has 5 s in all.
const WITHIN: Duration = Duration::from_secs(2);
/// The same for a session that starts: it may wait for a disk that is busy, and must not begin
/// without its entry. Within `sessions.start_timeout`.
const START_WITHIN: Duration = Duration::from_secs(10);

/// What is to be done with the entry.
enum Job {
    Write(Box<LedgerEntry>),
    Forget,
}

/// One job, and whom to tell how it went.
type Order = (Job, Sender<Result<(), LedgerError>>);

/// Keeps one session's entry. Jobs are done one after the other; a job that still waits when the
/// next comes is left out, as the next says more.
#[derive(Debug)]
pub(super) struct LedgerWriter {
    orders: Sender<Order>,
    /// The disk has not completed the current job: other callers do not wait for it.
    is_slow: Arc<AtomicBool>,
}

/// Why the entry may not be as it should.
#[derive(Debug)]
pub(super) enum LedgerWriteError {
    /// The ledger said so.
    Ledger(LedgerError),
    /// The disk has not answered for this long; it is still being tried.
    Slow(Duration),
}

impl std::fmt::Display for LedgerWriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger(error) => error.fmt(f),
            Self::Slow(span) => write!(
                f,
                "the disk of worker.state_dir has not answered for {}s, look for its faults",
                span.as_secs()
            ),
        }
    }
}

impl LedgerWriter {
    /// Starts keeping the entry of `id`; stops when it is dropped and its jobs are done.
    pub(super) fn of(ledger: Ledger, id: SessionId) -> Self {
        let (orders, inbox) = bounded(1);
        let is_slow = Arc::new(AtomicBool::new(false));
        exec::spawn(work(ledger, id, inbox, Arc::clone(&is_slow))).detach();
        Self { orders, is_slow }
    }

    /// Has the entry on the disk, or says why not within [`WITHIN`].
    pub(super) async fn write(&self, entry: LedgerEntry) -> Result<(), LedgerWriteError> {
        self.order(Job::Write(Box::new(entry)), WITHIN).await
    }

    /// Has the entry of a session that starts on the disk, or says why not within
    /// [`START_WITHIN`].
    pub(super) async fn write_at_start(&self, entry: LedgerEntry) -> Result<(), LedgerWriteError> {
        self.order(Job::Write(Box::new(entry)), START_WITHIN).await
    }

    /// Has the entry off the disk, or says why not within [`WITHIN`].
    pub(super) async fn forget(&self) -> Result<(), LedgerWriteError> {
        self.order(Job::Forget, WITHIN).await
    }

    async fn order(&self, job: Job, within: Duration) -> Result<(), LedgerWriteError> {
        let (done, answer) = bounded(1);
        // The inbox closes with this sender only.
        let _ = self.orders.force_send((job, done));
        if self.is_slow.load(Ordering::Acquire) {
            return Err(LedgerWriteError::Slow(within));
        }
        if let Ok(Ok(outcome)) = clock::by(clock::now() + within, answer.recv()).await {
            return outcome.map_err(LedgerWriteError::Ledger);
        }
        self.is_slow.store(true, Ordering::Release);
        // The answer may have come in between; then nothing would take the mark back.
        let Ok(outcome) = answer.try_recv() else {
            return Err(LedgerWriteError::Slow(within));
        };
        self.is_slow.store(false, Ordering::Release);
        outcome.map_err(LedgerWriteError::Ledger)
    }
}

async fn work(ledger: Ledger, id: SessionId, inbox: Receiver<Order>, is_slow: Arc<AtomicBool>) {
    while let Ok((job, done)) = inbox.recv().await {
        let (ledger, id) = (ledger.clone(), id.clone());
        let outcome = smol::unblock(move || match job {
            Job::Write(entry) => ledger.write(&entry),
            Job::Forget => ledger.forget(&id),
        });
        // Whoever asked may have stopped waiting.
        let _ = done.try_send(outcome.await);
        is_slow.store(false, Ordering::Release);
    }
}
