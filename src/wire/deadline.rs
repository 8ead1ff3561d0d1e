//! Deadlines without a timer each: one thread checks all of them ten times a second.
//!
//! A proxied request sets and cancels about six deadlines; as timers each would cost system calls.
//! A [`Deadline`] is two atomics. The price is accuracy: a deadline is late by up to [`TICK`], and
//! never early.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;

use crate::clock;
use crate::sync::Mutex;

/// How often deadlines are checked: a tenth of the shortest one in use (1 s).
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The value of `Inner::at` while no deadline is set.
const NEVER: u64 = u64::MAX;

/// One deadline, which can be set again and again. Clones share it.
#[derive(Clone, Debug)]
pub struct Deadline(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Milliseconds since [`epoch`].
    at: AtomicU64,
    waker: AtomicWaker,
}

/// Every deadline that exists; dropped ones are removed by the next [`check_all`].
static DEADLINES: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(clock::now)
}

fn millis() -> u64 {
    u64::try_from(clock::now().saturating_duration_since(epoch()).as_millis()).unwrap_or(NEVER - 1)
}

/// The thread that checks deadlines, started at the first call; `None` when it cannot be started.
fn checker() -> Option<&'static Thread> {
    static CHECKER: OnceLock<Option<Thread>> = OnceLock::new();
    let start = || {
        let run = || loop {
            if check_all() {
                thread::park_timeout(TICK);
            } else {
                thread::park();
            }
        };
        match thread::Builder::new().name("deadlines".into()).spawn(run) {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                log::error!(
                    target: "wire",
                    "cannot start the thread of deadlines, connections will not time out: {error}, \
                     raise the limit of processes and restart"
                );
                None
            }
        }
    };
    CHECKER.get_or_init(start).as_ref()
}

/// Wakes the tasks whose deadline has passed; `false` when no deadline exists.
fn check_all() -> bool {
    let mut deadlines = DEADLINES.lock();
    let now = millis();
    deadlines.retain(|deadline| {
        let Some(deadline) = deadline.upgrade() else {
            return false;
        };
        if deadline.at.load(Ordering::Relaxed) <= now {
            deadline.waker.wake();
        }
        true
    });
    !deadlines.is_empty()
}

/// Wakes every task that waits on a deadline, so that it checks global state again (shutdown,
/// overload). Telling each connection by itself would cost a registration for every request.
pub(crate) fn wake_all() {
    for deadline in DEADLINES.lock().iter().filter_map(Weak::upgrade) {
        deadline.waker.wake();
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// A deadline that is not set.
    #[must_use]
    pub fn new() -> Self {
        let inner = Arc::new(Inner {
            at: AtomicU64::new(NEVER),
            waker: AtomicWaker::new(),
        });
        let checker = checker();
        let mut deadlines = DEADLINES.lock();
        // Without deadlines the thread is parked for an unlimited time.
        if let (true, Some(checker)) = (deadlines.is_empty(), checker) {
            checker.unpark();
        }
        deadlines.push(Arc::downgrade(&inner));
        Self(inner)
    }

    /// Sets the deadline to `span` from now. It replaces the one before.
    pub fn set(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap_or(NEVER);
        let at = millis().saturating_add(span).min(NEVER - 1);
        self.0.at.store(at, Ordering::Relaxed);
    }

    /// Removes the deadline.
    pub fn clear(&self) {
        self.0.at.store(NEVER, Ordering::Relaxed);
    }

    /// Runs `work` until the deadline. Only one task at a time may wait on a deadline.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline passes first, else the error of `work`.
    pub async fn guard<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut work = pin!(work);
        poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.0.waker.register(cx.waker());
            if self.0.at.load(Ordering::Relaxed) <= millis() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cancelled_at_the_deadline_and_not_before() {
        let deadline = Deadline::new();
        deadline.set(Duration::from_millis(1));
        let cut = smol::block_on(deadline.guard(std::future::pending::<io::Result<()>>()));
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(smol::block_on(deadline.guard(async { Ok(1) })).unwrap(), 1);
    }

    #[test]
    fn a_cleared_deadline_never_passes() {
        let (slow, fast) = (Deadline::new(), Deadline::new());
        slow.set(Duration::from_millis(1));
        slow.clear();
        fast.set(Duration::from_millis(250));
        let first = smol::block_on(smol::future::or(
            async {
                let _ = slow.guard(std::future::pending::<io::Result<()>>()).await;
                "slow"
            },
            async {
                let _ = fast.guard(std::future::pending::<io::Result<()>>()).await;
                "fast"
            },
        ));
        assert_eq!(first, "fast");
    }
}
