//! `Idempotency-Key`: the same key gets the same answer, and the work is done once.
//!
//! Pure and bounded. A key is *busy* while its first request runs; a request whose outcome nobody
//! knows is remembered with the worker that was asked, so that a retry asks the same one again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a key keeps its answer (api.md).
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Most keys kept: one a second for a day, and some; about 30 MB with usual answers.
const KEYS_MAX: usize = 100_000;
/// Longest key: what a UUID or a hash needs, several times.
pub(crate) const KEY_LENGTH_MAX: usize = 255;

/// What to do with a request that carries a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin<A> {
    /// Give this answer again.
    Answered(A),
    /// The first request still runs: wait for it, or answer 409.
    Busy,
    /// Do the work, then say [`Idempotency::answered`], [`Idempotency::unsure`] or
    /// [`Idempotency::forgotten`].
    Fresh,
    /// Too many keys: answer 503 `idempotency_full`.
    Full,
    /// The key was used for another body: answer 422 `idempotency_mismatch`.
    Mismatch,
    /// As `Fresh`, but ask this worker first: it may have done the work already.
    Retry(String),
}

#[derive(Debug)]
enum State<A> {
    Answered(A),
    Busy,
    Unsure(String),
}

#[derive(Debug)]
struct Entry<A> {
    since: Instant,
    digest: u64,
    state: State<A>,
}

/// The table of keys.
#[derive(Debug)]
pub(crate) struct Idempotency<A> {
    entries: HashMap<String, Entry<A>>,
    order: VecDeque<(Instant, String)>,
    max: usize,
}

impl<A: Clone> Default for Idempotency<A> {
    fn default() -> Self {
        Self::bounded(KEYS_MAX)
    }
}

impl<A: Clone> Idempotency<A> {
    fn bounded(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            max,
        }
    }

    /// A request with `key` and a body of this digest has come.
    pub(crate) fn begin(&mut self, now: Instant, key: &str, digest: u64) -> Begin<A> {
        self.expire(now);
        if let Some(entry) = self.entries.get_mut(key) {
            if entry.digest != digest {
                return Begin::Mismatch;
            }
            return match &entry.state {
                State::Answered(answer) => Begin::Answered(answer.clone()),
                State::Busy => Begin::Busy,
                State::Unsure(worker) => {
                    let worker = worker.clone();
                    entry.state = State::Busy;
                    Begin::Retry(worker)
                }
            };
        }
        if self.entries.len() >= self.max {
            return Begin::Full;
        }
        if self.order.len() >= 2 * self.max {
            let entries = &self.entries;
            self.order
                .retain(|(since, key)| entries.get(key).is_some_and(|e| e.since == *since));
        }
        let entry = Entry {
            since: now,
            digest,
            state: State::Busy,
        };
        self.entries.insert(key.to_owned(), entry);
        self.order.push_back((now, key.to_owned()));
        Begin::Fresh
    }

    /// The work is done; the key keeps this answer.
    pub(crate) fn answered(&mut self, key: &str, answer: A) {
        self.set(key, State::Answered(answer));
    }

    /// Nobody knows whether `worker_id` did the work.
    pub(crate) fn unsure(&mut self, key: &str, worker_id: &str) {
        self.set(key, State::Unsure(worker_id.to_owned()));
    }

    /// Nothing was done: the key is free for another try.
    pub(crate) fn forgotten(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn set(&mut self, key: &str, state: State<A>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = state;
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front() {
            let entry = self.entries.get(key);
            let is_current = entry.is_some_and(|entry| entry.since == *since);
            if is_current && now.saturating_duration_since(*since) < KEPT {
                return;
            }
            if is_current {
                self.entries.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_same_key_gets_the_same_answer_and_the_work_is_done_once() {
        let (now, mut keys) = (clock::now(), Idempotency::default());
        assert_eq!(keys.begin(now, "k", 1), Begin::Fresh);
        for _ in 0..9 {
            assert_eq!(keys.begin(now, "k", 1), Begin::Busy);
        }
        keys.answered("k", "session-a");
        assert_eq!(keys.begin(now, "k", 1), Begin::Answered("session-a"));
        assert_eq!(keys.begin(now, "k", 2), Begin::Mismatch);
        assert_eq!(keys.begin(now + KEPT, "k", 2), Begin::Fresh);
    }

    #[test]
    fn a_retry_after_a_timeout_asks_the_same_worker_once() {
        let (now, mut keys) = (clock::now(), Idempotency::<u8>::default());
        assert_eq!(keys.begin(now, "k", 1), Begin::Fresh);
        keys.unsure("k", "w1");
        assert_eq!(keys.begin(now, "k", 1), Begin::Retry("w1".to_owned()));
        assert_eq!(keys.begin(now, "k", 1), Begin::Busy);
    }

    #[test]
    fn a_refused_request_frees_its_key() {
        let (now, mut keys) = (clock::now(), Idempotency::<u8>::default());
        assert_eq!(keys.begin(now, "k", 1), Begin::Fresh);
        keys.forgotten("k");
        assert_eq!(keys.begin(now, "k", 2), Begin::Fresh);
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_by_age() {
        let (now, mut keys) = (clock::now(), Idempotency::<u8>::bounded(2));
        assert_eq!(keys.begin(now, "a", 1), Begin::Fresh);
        assert_eq!(keys.begin(now, "b", 1), Begin::Fresh);
        assert_eq!(keys.begin(now, "c", 1), Begin::Full);
        keys.forgotten("a");
        assert_eq!(keys.begin(now, "c", 1), Begin::Fresh);
        assert_eq!(keys.begin(now + KEPT, "d", 1), Begin::Fresh);
    }
}
