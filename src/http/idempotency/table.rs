//! The keys of one process: pure and bounded.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Lookup, Outcome};

/// How long a key keeps its answer (api.md).
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Most keys kept: one a second for a day, and some; about 30 MB with usual answers.
const KEYS_MAX: usize = 100_000;

#[derive(Debug)]
enum State<A> {
    Answered(A),
    Busy,
    /// The worker that may have done the work.
    Unknown(String),
}

#[derive(Debug)]
struct Entry<A> {
    since: Instant,
    digest: u64,
    state: State<A>,
}

/// The table of keys.
#[derive(Debug)]
pub(super) struct KeyTable<A> {
    entries: HashMap<String, Entry<A>>,
    /// Keys by age, with those that were removed since.
    order: VecDeque<(Instant, String)>,
    max: usize,
}

impl<A: Clone> Default for KeyTable<A> {
    fn default() -> Self {
        Self::bounded(KEYS_MAX)
    }
}

impl<A: Clone> KeyTable<A> {
    fn bounded(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            max,
        }
    }

    /// A request with `key` and a body of this digest has come. A claim holds the worker that may
    /// have done the work for an earlier request.
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        key: &str,
        digest: u64,
    ) -> Lookup<A, Option<String>> {
        self.expire(now);
        if let Some(entry) = self.entries.get_mut(key) {
            if entry.digest != digest {
                return Lookup::Mismatch;
            }
            return match &entry.state {
                State::Answered(answer) => Lookup::Answered(answer.clone()),
                State::Busy => Lookup::Busy,
                State::Unknown(worker) => {
                    let worker = worker.clone();
                    entry.state = State::Busy;
                    Lookup::Claimed(Some(worker))
                }
            };
        }
        if self.entries.len() >= self.max {
            return Lookup::Full;
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
        Lookup::Claimed(None)
    }

    /// Ends a claim. `attempted` is the worker that was asked last.
    pub(super) fn finish(&mut self, key: &str, outcome: Outcome<A>, attempted: Option<String>) {
        let state = match (outcome, attempted) {
            (Outcome::Answered(answer), _) => State::Answered(answer),
            (Outcome::Unknown, Some(worker)) => State::Unknown(worker),
            (Outcome::Unknown, None) | (Outcome::NotDone, _) => {
                self.entries.remove(key);
                return;
            }
        };
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
        let (now, mut keys) = (clock::now(), KeyTable::default());
        assert_eq!(keys.look_up(now, "k", 1), Lookup::Claimed(None));
        for _ in 0..9 {
            assert_eq!(keys.look_up(now, "k", 1), Lookup::Busy);
        }
        keys.finish("k", Outcome::Answered("session-a"), None);
        assert_eq!(keys.look_up(now, "k", 1), Lookup::Answered("session-a"));
        assert_eq!(keys.look_up(now, "k", 2), Lookup::Mismatch);
        assert_eq!(keys.look_up(now + KEPT, "k", 2), Lookup::Claimed(None));
    }

    #[test]
    fn a_retry_after_a_timeout_asks_the_same_worker_once() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::default());
        assert_eq!(keys.look_up(now, "k", 1), Lookup::Claimed(None));
        keys.finish("k", Outcome::Unknown, Some("w1".to_owned()));
        assert_eq!(
            keys.look_up(now, "k", 1),
            Lookup::Claimed(Some("w1".to_owned()))
        );
        assert_eq!(keys.look_up(now, "k", 1), Lookup::Busy);
    }

    #[test]
    fn a_refused_request_frees_its_key() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::default());
        assert_eq!(keys.look_up(now, "k", 1), Lookup::Claimed(None));
        keys.finish("k", Outcome::NotDone, None);
        assert_eq!(keys.look_up(now, "k", 2), Lookup::Claimed(None));
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_by_age() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::bounded(2));
        assert_eq!(keys.look_up(now, "a", 1), Lookup::Claimed(None));
        assert_eq!(keys.look_up(now, "b", 1), Lookup::Claimed(None));
        assert_eq!(keys.look_up(now, "c", 1), Lookup::Full);
        keys.finish("a", Outcome::NotDone, None);
        assert_eq!(keys.look_up(now, "c", 1), Lookup::Claimed(None));
        assert_eq!(keys.look_up(now + KEPT, "d", 1), Lookup::Claimed(None));
    }
}
