//! A bounded queue before a writer that may block, with a thread of its own that writes.
//!
//! Who pushes never waits. When the queue is full, what comes next is dropped and counted, until
//! half of the queue is free again; the writer then learns the count, at the place in the order
//! where the dropped items would be.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;

/// Bytes that wait in one queue: some thousand lines, so that a reader may pause for seconds, and
/// little of the memory of a process.
pub(super) const QUEUE_MAX: usize = 1 << 20;
/// Longest wait of [`flush`] for all queues together: a healthy writer needs milliseconds, and a
/// stuck one must not hold up the end of the process.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// What a writer is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// The next item.
    Item(T),
    /// This many items were dropped here.
    Dropped(u64),
}

/// The end of the queue that items are pushed into.
#[derive(Debug)]
pub(crate) struct Queue<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was pushed, or everything is written.
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Items with their sizes.
    waiting: VecDeque<(Next<T>, usize)>,
    /// Size of what waits and of what is being written.
    bytes: usize,
    /// Items dropped since the writer was last told.
    dropped: u64,
    is_writing: bool,
}

impl<T: Send + 'static> Queue<T> {
    /// Starts the thread `name`, which gives each item to `write` for the life of the process.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        name: &str,
        mut write: impl FnMut(Next<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                dropped: 0,
                is_writing: false,
            }),
            changed: Condvar::new(),
        });
        let held = Arc::clone(&shared);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut written = 0;
                loop {
                    let (next, size) = held.next(written);
                    write(next);
                    written = size;
                }
            })?;
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&shared) as _);
        Ok(Self(shared))
    }

    /// Hands `item` of `size` bytes to the writer, or drops it. Never blocks on the writer.
    pub(crate) fn push(&self, item: T, size: usize) {
        let mut state = self.0.state();
        let room = match state.dropped {
            0 => QUEUE_MAX,
            // Else a slow reader would get a count after every other line.
            _ => QUEUE_MAX / 2,
        };
        if state.bytes + size > room {
            state.dropped += 1;
            return;
        }
        if state.dropped > 0 {
            let dropped = std::mem::take(&mut state.dropped);
            state.waiting.push_back((Next::Dropped(dropped), 0));
        }
        state.bytes += size;
        state.waiting.push_back((Next::Item(item), size));
        drop(state);
        self.0.changed.notify_all();
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next, with its size, after `written` bytes were; waits for it.
    fn next(&self, written: usize) -> (Next<T>, usize) {
        let mut state = self.state();
        state.bytes -= written;
        state.is_writing = false;
        loop {
            if let Some(next) = state.waiting.pop_front() {
                state.is_writing = true;
                return next;
            }
            if state.dropped > 0 {
                state.is_writing = true;
                return (Next::Dropped(std::mem::take(&mut state.dropped)), 0);
            }
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Every queue of the process.
static ALL: Mutex<Vec<Arc<dyn Flush>>> = Mutex::new(Vec::new());

trait Flush: Send + Sync {
    /// Waits until everything is written, at most until `deadline`.
    fn flush(&self, deadline: Instant);
}

impl<T: Send> Flush for Shared<T> {
    fn flush(&self, deadline: Instant) {
        let mut state = self.state();
        while state.is_writing || !state.waiting.is_empty() || state.dropped > 0 {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Waits until all queues are written, at most one second: before the process ends.
pub(crate) fn flush() {
    let deadline = clock::now() + FLUSH_WITHIN;
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for queue in all {
        queue.flush(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A queue whose writer writes one item for each permit, and what it wrote.
    fn held() -> (Queue<u64>, mpsc::Sender<()>, mpsc::Receiver<Next<u64>>) {
        let (permit, permits) = mpsc::channel();
        let (out, written) = mpsc::channel();
        let queue = Queue::start("test", move |next| {
            if permits.recv().is_ok() {
                let _ = out.send(next);
            }
        });
        (queue.unwrap(), permit, written)
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_where_it_would_be() {
        let (queue, permit, written) = held();
        let size = QUEUE_MAX / 4;
        for n in 0..10 {
            queue.push(n, size);
        }
        let told = |n: usize| -> Vec<_> {
            (0..n)
                .map(|_| {
                    permit.send(()).unwrap();
                    written.recv().unwrap()
                })
                .collect()
        };
        assert_eq!(told(1), [Next::Item(0)]);
        // Three quarters are taken: what comes is still dropped.
        queue.push(10, size);
        assert_eq!(told(3), [1, 2, 3].map(Next::Item));
        queue.push(11, size);
        assert_eq!(told(2), [Next::Dropped(7), Next::Item(11)]);
        // What is larger than the queue is dropped, and told when nothing else waits.
        queue.push(12, QUEUE_MAX + 1);
        queue.push(13, size);
        assert_eq!(told(2), [Next::Dropped(1), Next::Item(13)]);
    }

    #[test]
    fn a_flush_waits_for_the_writer_and_not_for_ever() {
        let (queue, permit, written) = held();
        queue.push(1, 1);
        let start = clock::now();
        queue.0.flush(start + Duration::from_millis(50));
        assert!(clock::now() - start >= Duration::from_millis(50));
        assert!(written.try_recv().is_err());
        permit.send(()).unwrap();
        queue.0.flush(start + Duration::from_secs(60));
        assert_eq!(written.try_recv(), Ok(Next::Item(1)));
    }
}
