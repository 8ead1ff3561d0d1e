//! The wish to stop, from one to many.

use std::convert::Infallible;
use std::future::Future;

use smol::channel::{Receiver, Sender, bounded};

/// Fires its [`Stop`]s when it is dropped.
#[derive(Debug)]
pub struct Stopper(#[allow(dead_code)] Sender<Infallible>);

/// A wish to stop that any number of tasks can wait for.
#[derive(Clone, Debug)]
pub struct Stop(Receiver<Infallible>);

/// A stopper and what it fires.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = bounded(1);
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
