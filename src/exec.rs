//! The executor: one thread a core, each with its own tasks and its own sockets.
//!
//! A task stays on the thread it was started on, and so do the sockets that are registered there:
//! what the kernel reports is handled where it is reported, without waking another thread. In
//! return a task must not block; what blocks goes to `smol::unblock`. Timers, processes and other
//! sockets of smol work beside it: async-io drives them on a thread of its own. A task that panics
//! is logged and takes nothing with it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use smol::{Executor, Task};

mod reactor;
mod source;
mod stop;

use reactor::{Batch, Reactor};
pub(crate) use source::{Direction, Left, Source};
pub use stop::stop;
pub(crate) use stop::{Stop, Stopper};

/// Threads started when the kernel does not say how many cores there are.
const FALLBACK_THREADS: usize = 2;
/// Tasks run before the sockets are looked at again. Each may move 256 KiB (`wire/conn`): with
/// 64 tasks of a MiB, a visitor's download kept every other connection of the thread waiting for a
/// second (docs/performance.md).
const YIELD_AFTER: usize = 4;

/// One thread of the executor.
#[derive(Debug)]
struct ExecThread {
    executor: Executor<'static>,
    reactor: Reactor,
    /// Tasks started by [`spread`] and not done.
    load: AtomicUsize,
}

thread_local! {
    /// The lane whose thread this is.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

fn lanes() -> &'static [ExecThread] {
    static LANES: OnceLock<&'static [ExecThread]> = OnceLock::new();
    LANES.get_or_init(|| {
        let threads = thread::available_parallelism().map_or(FALLBACK_THREADS, usize::from);
        let lanes: Vec<ExecThread> = (0..threads).filter_map(|_| lane()).collect();
        if lanes.is_empty() {
            ::log::error!(target: "exec", "nothing can run: no thread has what it needs");
            ::log::logger().flush();
            std::process::abort();
        }
        let lanes: &'static [ExecThread] = lanes.leak();
        // async-io opens its descriptors at its first use and cannot without them: not when they
        // have run out and a timer is needed to wait for better times.
        // Only a timer that is not over yet needs them.
        let timer = smol::Timer::after(Duration::from_secs(3_600));
        smol::block_on(smol::future::poll_once(timer));
        for (n, lane) in lanes.iter().enumerate() {
            let run = move || {
                HERE.set(Some(n));
                // A panic unwinds out of `drive`; the thread goes on with the other tasks.
                while catch_unwind(AssertUnwindSafe(|| lane.drive(n))).is_err() {
                    ::log::error!(target: "exec", "a task panicked and was dropped");
                }
            };
            if let Err(error) = thread::Builder::new().name(format!("exec-{n}")).spawn(run) {
                ::log::error!(target: "exec", "cannot start executor thread {n}: {error}");
                ::log::logger().flush();
                std::process::abort();
            }
        }
        lanes
    })
}

fn lane() -> Option<ExecThread> {
    match Reactor::new() {
        Ok(reactor) => Some(ExecThread {
            executor: Executor::new(),
            reactor,
            load: AtomicUsize::new(0),
        }),
        Err(error) => {
            ::log::error!(target: "exec", "cannot set up a thread of the executor: {error}");
            None
        }
    }
}

/// Interrupts the wait of a lane's thread when another thread makes one of its tasks ready.
struct EventFd {
    lane: usize,
    /// Whether it was rung since the thread last looked.
    rung: AtomicBool,
}

impl Wake for EventFd {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && HERE.get() != Some(self.lane)
            && let Some(lane) = lanes().get(self.lane)
        {
            lane.reactor.ring();
        }
    }
}

impl ExecThread {
    /// Runs tasks and waits for sockets, for ever.
    fn drive(&self, n: usize) {
        let bell = Arc::new(EventFd {
            lane: n,
            rung: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut batch = Batch::new();
        loop {
            let mut left = YIELD_AFTER;
            while left > 0 && self.executor.try_tick() {
                left -= 1;
            }
            if left == 0 {
                self.reactor.wait(false, &mut batch);
                continue;
            }
            // Nothing is ready: have the bell rung when that changes, look once more, and wait.
            bell.rung.store(false, Ordering::Release);
            let mut tick = pin!(self.executor.tick());
            if tick.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
                self.reactor.wait(true, &mut batch);
            }
        }
    }
}

/// Lane for what is started or registered from here: this thread's own, else the next in turn.
fn lane_here() -> &'static ExecThread {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let lanes = lanes();
    let n = HERE
        .get()
        .unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
    &lanes[n % lanes.len()]
}

/// Number of the executor's thread that runs this, for what is kept per thread; below
/// [`threads`]. Other threads share number 0.
#[must_use]
pub(crate) fn here() -> usize {
    HERE.get().unwrap_or(0)
}

/// Number of the executor's threads.
#[must_use]
pub(crate) fn threads() -> usize {
    lanes().len()
}

/// Starts `future` on this thread of the executor, or on any from outside. Dropping the [`Task`]
/// cancels it; `detach` lets it run.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    lane_here().executor.spawn(future)
}

/// Starts a task on the thread that has the fewest that came this way: for connections, which
/// stay where they begin. The task keeps its seat as long as it counts.
pub(crate) fn spread<T, F>(task: impl FnOnce(LoadGuard) -> F) -> Task<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let lane = lanes()
        .iter()
        .min_by_key(|lane| lane.load.load(Ordering::Relaxed))
        .unwrap_or_else(lane_here);
    lane.load.fetch_add(1, Ordering::Relaxed);
    // Wrapping the future here would make the task twice as large.
    lane.executor.spawn(task(LoadGuard(lane)))
}

/// The weight of a task on its thread.
#[derive(Debug)]
pub(crate) struct LoadGuard(&'static ExecThread);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Registers a non-blocking descriptor with this thread of the executor, or with any from outside.
/// `ready` says that reading and writing are worth a try before the kernel has told.
///
/// # Errors
/// As the kernel says.
pub(crate) fn register(fd: impl AsFd, ready: bool) -> io::Result<Source> {
    Source::register(&lane_here().reactor, fd, ready)
}

/// Moves `source` of `fd` to this thread, where the executor runs here; readiness is reported here
/// from now on.
///
/// # Errors
/// As the kernel says.
pub(crate) fn adopt(source: &mut Source, fd: impl AsFd) -> io::Result<()> {
    match HERE.get() {
        Some(n) => source.move_to(&lanes()[n].reactor, fd),
        None => Ok(()),
    }
}

/// Runs `future` on the calling thread until it is done, with the executor's threads beside it.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let _ = lanes();
    smol::block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted in turns of a task that always has more, not in time.
    #[test]
    fn a_socket_is_looked_at_soon_however_busy_the_tasks_are() {
        const BUSY: usize = 8;
        /// Turns until the next look at the sockets, and a round of all tasks until this one has its.
        const SOON: usize = 4 * BUSY;
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let heard = block_on(spawn(async move {
            let source = register(&near, false).unwrap();
            let busy: Vec<Task<()>> = (0..BUSY)
                .map(|_| {
                    let turns = Arc::clone(&turns);
                    spawn(async move {
                        loop {
                            turns.fetch_add(1, Ordering::Relaxed);
                            smol::future::yield_now().await;
                        }
                    })
                })
                .collect();
            while turns.load(Ordering::Relaxed) < 4 * BUSY {
                smol::future::yield_now().await;
            }
            let before = turns.load(Ordering::Relaxed);
            std::io::Write::write_all(&mut &far, b"x").unwrap();
            std::future::poll_fn(|cx| source.poll_ready(Direction::Read, cx)).await;
            drop(busy);
            turns.load(Ordering::Relaxed) - before
        }));
        assert!(heard <= SOON, "{heard} turns");
    }

    #[test]
    fn a_panicking_task_leaves_the_others_running() {
        for _ in 0..8 {
            spawn(async { panic!("on purpose") }).detach();
        }
        let sum = block_on(async { spawn(async { 1 }).await + spawn(async { 2 }).await });
        assert_eq!(sum, 3);
    }

    #[test]
    fn tasks_of_one_thread_start_their_own_there_and_spread_ones_are_shared_out() {
        let seen =
            block_on(async { spawn(async { (here(), spawn(async { here() }).await) }).await });
        assert_eq!(seen.0, seen.1);
        let (sender, receiver) = smol::channel::bounded::<()>(1);
        let lanes_used: std::collections::HashSet<usize> = block_on(async {
            let (where_to, used) = smol::channel::unbounded();
            let tasks: Vec<_> = (0..4 * threads())
                .map(|_| {
                    let (where_to, receiver) = (where_to.clone(), receiver.clone());
                    spread(|seat| async move {
                        let _ = where_to.send(here()).await;
                        let _ = receiver.recv().await;
                        drop(seat);
                    })
                })
                .collect();
            drop(where_to);
            let mut lanes_used = std::collections::HashSet::new();
            for _ in &tasks {
                lanes_used.insert(used.recv().await.unwrap());
            }
            drop(sender);
            for task in tasks {
                task.await;
            }
            lanes_used
        });
        assert_eq!(lanes_used.len(), threads());
    }

    #[test]
    fn wakes_from_other_threads_are_never_lost() {
        let (to, from) = smol::channel::bounded::<u32>(1);
        let (back, answers) = smol::channel::bounded::<u32>(1);
        spawn(async move {
            while let Ok(n) = from.recv().await {
                if back.send(n + 1).await.is_err() {
                    return;
                }
            }
        })
        .detach();
        let mut n = 0;
        while n < 20_000 {
            to.send_blocking(n).unwrap();
            n = answers.recv_blocking().unwrap();
        }
        assert_eq!(n, 20_000);
    }

    #[test]
    fn timers_of_smol_work_beside_it() {
        let fired = block_on(spawn(async {
            crate::clock::sleep(std::time::Duration::from_millis(1)).await;
            true
        }));
        assert!(fired);
    }
}
