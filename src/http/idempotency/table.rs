//! The keys of one process: pure and bounded.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Lookup, Outcome, RequestKey};

/// How long a key keeps its answer (api.md).
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Most keys kept: one a second for a day, and some; about 30 MB with usual answers. Beyond it the
/// oldest answers give way.
const KEYS_MAX: usize = 100_000;
/// How long a key of a controller's own keeps its answer: several times what a create may last.
const OWN_KEPT: Duration = Duration::from_secs(600);

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
    digest: String,
    state: State<A>,
}

/// The table of keys.
#[derive(Debug)]
pub(super) struct KeyTable<A> {
    entries: HashMap<String, Entry<A>>,
    /// Keys by age, with those that were removed since.
    order: VecDeque<(Instant, String)>,
    max: usize,
    kept_for: Duration,
}

impl<A: Clone> KeyTable<A> {
    pub(super) fn of_clients() -> Self {
        Self::bounded(KEYS_MAX, KEPT)
    }

    pub(super) fn of_controllers() -> Self {
        Self::bounded(KEYS_MAX, OWN_KEPT)
    }

    fn bounded(max: usize, kept_for: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            max,
            kept_for,
        }
    }

    /// Keys that are kept, and how many can be.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.entries.len(), self.max)
    }

    /// A request has come. A claim holds the worker that may have done the work for an earlier
    /// request.
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        request: &RequestKey,
    ) -> Lookup<A, Option<String>> {
        self.expire(now);
        if let Some(entry) = self.entries.get_mut(&request.key) {
            if entry.digest != request.digest {
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
        if !self.has_room() {
            return Lookup::Full;
        }
        self.insert(now, request, State::Busy);
        Lookup::Claimed(None)
    }

    /// A request was answered in an earlier life of this process.
    pub(super) fn restore(&mut self, now: Instant, request: &RequestKey, answer: A) {
        if !self.entries.contains_key(&request.key) && self.has_room() {
            self.insert(now, request, State::Answered(answer));
        }
    }

    /// Whether another key can be kept; the oldest that is answered gives way. Keys whose work is not
    /// known to be done stay.
    fn has_room(&mut self) -> bool {
        if self.entries.len() < self.max {
            return true;
        }
        let is_answered = |(since, key): &(Instant, String)| {
            let entry = self.entries.get(key);
            entry.is_some_and(|e| e.since == *since && matches!(e.state, State::Answered(_)))
        };
        let oldest = self.order.iter().position(is_answered);
        let oldest = oldest.and_then(|at| self.order.remove(at));
        oldest.is_some_and(|(_, key)| self.entries.remove(&key).is_some())
    }

    fn insert(&mut self, now: Instant, request: &RequestKey, state: State<A>) {
        if self.order.len() >= 2 * self.max {
            let entries = &self.entries;
            self.order
                .retain(|(since, key)| entries.get(key).is_some_and(|e| e.since == *since));
        }
        let entry = Entry {
            since: now,
            digest: request.digest.clone(),
            state,
        };
        self.entries.insert(request.key.clone(), entry);
        self.order.push_back((now, request.key.clone()));
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
            if is_current && now.saturating_duration_since(*since) < self.kept_for {
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

    fn request(key: &str, digest: &str) -> RequestKey {
        RequestKey {
            key: key.to_owned(),
            digest: digest.to_owned(),
            is_own: false,
        }
    }

    #[test]
    fn the_oldest_answers_give_way_and_unknown_outcomes_do_not() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::bounded(3, KEPT));
        for (key, outcome) in [
            ("a", Outcome::Unknown),
            ("b", Outcome::Answered(1)),
            ("c", Outcome::Answered(2)),
        ] {
            assert_eq!(keys.look_up(now, &request(key, "1")), Lookup::Claimed(None));
            keys.finish(key, outcome, Some("w".to_owned()));
        }
        assert_eq!(keys.look_up(now, &request("d", "1")), Lookup::Claimed(None));
        assert_eq!(keys.kept(), (3, 3));
        assert_eq!(keys.look_up(now, &request("c", "1")), Lookup::Answered(2));
        let unknown = Lookup::Claimed(Some("w".to_owned()));
        assert_eq!(keys.look_up(now, &request("a", "1")), unknown);
        assert_eq!(
            keys.look_up(now, &request("b", "1")),
            Lookup::Claimed(None),
            "forgotten"
        );
        assert_eq!(
            keys.look_up(now, &request("e", "1")),
            Lookup::Full,
            "nothing is answered"
        );
    }

    #[test]
    fn an_answer_of_an_earlier_process_is_given_again_and_hides_nothing() {
        let (now, mut keys) = (clock::now(), KeyTable::of_clients());
        keys.restore(now, &request("a", "1"), 7);
        keys.restore(now, &request("a", "2"), 8);
        assert_eq!(keys.look_up(now, &request("a", "1")), Lookup::Answered(7));
        assert_eq!(keys.look_up(now, &request("a", "2")), Lookup::Mismatch);
    }

    #[test]
    fn the_same_key_gets_the_same_answer_and_the_work_is_done_once() {
        let (now, mut keys) = (clock::now(), KeyTable::of_clients());
        assert_eq!(keys.look_up(now, &request("k", "1")), Lookup::Claimed(None));
        for _ in 0..9 {
            assert_eq!(keys.look_up(now, &request("k", "1")), Lookup::Busy);
        }
        keys.finish("k", Outcome::Answered("session-a"), None);
        assert_eq!(
            keys.look_up(now, &request("k", "1")),
            Lookup::Answered("session-a")
        );
        assert_eq!(keys.look_up(now, &request("k", "2")), Lookup::Mismatch);
        assert_eq!(
            keys.look_up(now + KEPT, &request("k", "2")),
            Lookup::Claimed(None)
        );
    }

    #[test]
    fn a_retry_after_a_timeout_asks_the_same_worker_once() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::of_clients());
        assert_eq!(keys.look_up(now, &request("k", "1")), Lookup::Claimed(None));
        keys.finish("k", Outcome::Unknown, Some("w1".to_owned()));
        assert_eq!(
            keys.look_up(now, &request("k", "1")),
            Lookup::Claimed(Some("w1".to_owned()))
        );
        assert_eq!(keys.look_up(now, &request("k", "1")), Lookup::Busy);
    }

    #[test]
    fn a_refused_request_frees_its_key() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::of_clients());
        assert_eq!(keys.look_up(now, &request("k", "1")), Lookup::Claimed(None));
        keys.finish("k", Outcome::NotDone, None);
        assert_eq!(keys.look_up(now, &request("k", "2")), Lookup::Claimed(None));
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_by_age() {
        let (now, mut keys) = (clock::now(), KeyTable::<u8>::bounded(2, KEPT));
        assert_eq!(keys.look_up(now, &request("a", "1")), Lookup::Claimed(None));
        assert_eq!(keys.look_up(now, &request("b", "1")), Lookup::Claimed(None));
        assert_eq!(keys.look_up(now, &request("c", "1")), Lookup::Full);
        keys.finish("a", Outcome::NotDone, None);
        assert_eq!(keys.look_up(now, &request("c", "1")), Lookup::Claimed(None));
        assert_eq!(
            keys.look_up(now + KEPT, &request("d", "1")),
            Lookup::Claimed(None)
        );
    }
}
