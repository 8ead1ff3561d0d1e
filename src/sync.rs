//! The mutex of this crate: a lock that never fails.
//!
//! The standard library poisons a mutex when a thread panics while it holds the lock, and every
//! later `lock()` then returns an error. Here a task that panics is logged and dropped while the
//! others go on (see `exec`), so they must still get the lock. Code that holds a lock therefore
//! makes each change in one step that cannot panic half way.

use std::sync::{MutexGuard, PoisonError};

/// [`std::sync::Mutex`] without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex that holds `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Waits for the lock. It is released when the guard is dropped.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_available_after_a_panic_under_it() {
        let mutex = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _guard = mutex.lock();
                panic!("on purpose");
            });
            holder.join().is_err()
        });
        assert!(panicked);
        assert_eq!(*mutex.lock(), 1);
    }
}
