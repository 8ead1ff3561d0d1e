//! The executor: as many threads as cores, shared by everything.
//!
//! `smol::spawn` would run on one thread unless an environment variable says otherwise; this
//! does not depend on the environment. A task that panics is logged and takes nothing with it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::thread;

use smol::{Executor, Task};

static EXECUTOR: OnceLock<&'static Executor<'static>> = OnceLock::new();

/// Threads started when the kernel does not say how many cores there are.
const FALLBACK_THREADS: usize = 2;

fn executor() -> &'static Executor<'static> {
    EXECUTOR.get_or_init(|| {
        let executor: &'static Executor<'static> = Box::leak(Box::default());
        let threads = thread::available_parallelism().map_or(FALLBACK_THREADS, usize::from);
        for n in 0..threads {
            let run = move || {
                // A panic unwinds out of `run`; the thread goes on with the other tasks.
                while catch_unwind(AssertUnwindSafe(|| {
                    smol::block_on(executor.run(std::future::pending::<()>()));
                }))
                .is_err()
                {
                    ::log::error!(target: "exec", "a task panicked and was dropped");
                }
            };
            if let Err(error) = thread::Builder::new().name(format!("exec-{n}")).spawn(run) {
                ::log::error!(target: "exec", "cannot start executor thread {n}: {error}");
            }
        }
        executor
    })
}

/// Starts `future` on the executor. Dropping the [`Task`] cancels it; `detach` lets it run.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    executor().spawn(future)
}

/// Runs `future` on the calling thread until it is done, with the executor's threads beside it.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let _ = executor();
    smol::block_on(future)
}

/// Fires its [`Stop`]s when it is dropped.
#[derive(Debug)]
pub struct Stopper(#[allow(dead_code)] smol::channel::Sender<std::convert::Infallible>);

/// A wish to stop that any number of tasks can wait for.
#[derive(Clone, Debug)]
pub struct Stop(smol::channel::Receiver<std::convert::Infallible>);

/// A stopper and what it fires.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = smol::channel::bounded(1);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Waits for the wish to stop.
    pub async fn wished(&self) {
        let _ = self.0.recv().await;
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        self.0.is_closed()
    }

    /// Runs `work` until it is done or the wish comes; `None` in the second case.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        smol::future::or(async { Some(work.await) }, async {
            self.wished().await;
            None
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_task_leaves_the_others_running() {
        for _ in 0..8 {
            spawn(async { panic!("on purpose") }).detach();
        }
        let sum = block_on(async { spawn(async { 1 }).await + spawn(async { 2 }).await });
        assert_eq!(sum, 3);
    }
}
