//! Deadlines that cost no system call: one sweep over all connections instead of a timer each.
//!
//! A proxied request would otherwise set and cancel half a dozen timers. An deadline is two atomics;
//! a thread of its own looks at all of them ten times a second. Alarms are therefore late by up
//! to [`TICK`], never early.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;

use crate::clock;

/// How often the sweep looks: a tenth of the shortest deadline in use (1 s).
pub const TICK: Duration = Duration::from_millis(100);

/// Milliseconds that mean "not armed".
const NEVER: u64 = u64::MAX;

/// One deadline that can be set again and again. Clones are the same deadline.
#[derive(Clone, Debug)]
pub struct Deadline(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Milliseconds since [`epoch`].
    at: AtomicU64,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Sweep {
    alarms: Mutex<Vec<Weak<Inner>>>,
    first: Condvar,
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(clock::now)
}

fn millis() -> u64 {
    u64::try_from(clock::now().saturating_duration_since(epoch()).as_millis()).unwrap_or(NEVER - 1)
}

fn sweep() -> &'static Sweep {
    static SWEEP: OnceLock<&'static Sweep> = OnceLock::new();
    SWEEP.get_or_init(|| {
        let sweep: &'static Sweep = Box::leak(Box::default());
        let run = move || loop {
            sweep.once();
            thread::park_timeout(TICK);
        };
        if let Err(error) = thread::Builder::new().name("alarms".into()).spawn(run) {
            log::error!(target: "wire", "cannot start the deadline thread, deadlines will not hold: {error}");
        }
        sweep
    })
}

/// Has everything that waits on an deadline look around, though it did not go off: for a change that
/// all connections must notice and none is told of by itself.
pub fn wake_all() {
    let alarms = sweep()
        .alarms
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for deadline in alarms.iter().filter_map(Weak::upgrade) {
        deadline.waker.wake();
    }
}

impl Sweep {
    fn once(&self) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        while alarms.is_empty() {
            alarms = self
                .first
                .wait(alarms)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let now = millis();
        alarms.retain(|deadline| {
            let Some(deadline) = deadline.upgrade() else {
                return false;
            };
            if deadline.at.load(Ordering::Relaxed) <= now {
                deadline.waker.wake();
            }
            true
        });
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// An deadline that is not armed.
    #[must_use]
    pub fn new() -> Self {
        let inner = Arc::new(Inner {
            at: AtomicU64::new(NEVER),
            waker: AtomicWaker::new(),
        });
        let sweep = sweep();
        sweep
            .alarms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&inner));
        sweep.first.notify_one();
        Self(inner)
    }

    /// Sets the deadline to `span` from now, in place of the one before.
    pub fn arm(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap_or(NEVER);
        self.0.at.store(
            millis().saturating_add(span).min(NEVER - 1),
            Ordering::Relaxed,
        );
    }

    /// Takes the deadline away.
    pub fn disarm(&self) {
        self.0.at.store(NEVER, Ordering::Relaxed);
    }

    /// Runs `work` until the deadline goes off. One task at a time may wait on an deadline.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline goes off first, else what `work` says.
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
    fn work_that_never_ends_is_cut_off_and_work_in_time_is_not() {
        let deadline = Deadline::new();
        deadline.arm(Duration::from_millis(1));
        let cut = smol::block_on(deadline.guard(std::future::pending::<io::Result<()>>()));
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(smol::block_on(deadline.guard(async { Ok(1) })).unwrap(), 1);
    }

    #[test]
    fn a_disarmed_alarm_stays_silent() {
        let (slow, fast) = (Deadline::new(), Deadline::new());
        slow.arm(Duration::from_millis(1));
        slow.disarm();
        fast.arm(Duration::from_millis(250));
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
