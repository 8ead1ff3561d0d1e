//! What this controller has to write, and has not yet.
//!
//! Pure and bounded. Of one worker the last word counts, so what waits is as large as the fleet;
//! events wait in order, and beyond a bound the oldest are given up. One worker is written by one
//! hand at a time.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::etcd::Txn;
use crate::protocol::Heartbeat;

use super::schema::EventFact;

/// Events that wait for the store: an hour of a busy fleet, and what the stream keeps.
const EVENTS_MAX: usize = 4_096;
/// Events of one transaction: etcd takes 128 operations in all.
const EVENTS_A_JOB: usize = 100;
/// Ends of requests that wait for the store: several seconds of creates.
const CHORES_MAX: usize = 8_192;

/// A worker's last word here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) beat: Heartbeat,
    pub(super) heard: bool,
}

/// An event under the name of its key.
pub(super) type Named = (String, EventFact);

#[derive(Debug, Default)]
struct Waiting {
    draft: Option<Box<Draft>>,
    events: VecDeque<Named>,
}

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    /// As it is.
    Chore(Txn),
    /// About one worker.
    Worker {
        id: String,
        draft: Option<Box<Draft>>,
        events: Vec<Named>,
    },
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: HashMap<String, Waiting>,
    order: VecDeque<String>,
    in_hand: HashSet<String>,
    events: usize,
    chores: VecDeque<Txn>,
    /// Events given up.
    pub(super) lost: u64,
}

impl Outbox {
    /// A worker has said something new.
    pub(super) fn draft(&mut self, id: &str, draft: Draft) {
        self.entry(id).draft = Some(Box::new(draft));
    }

    /// Things happened, in that order; they concern one worker.
    pub(super) fn events(&mut self, id: &str, events: impl IntoIterator<Item = Named>) {
        for event in events {
            if self.events == EVENTS_MAX {
                self.give_one_up();
            }
            self.entry(id).events.push_back(event);
            self.events += 1;
        }
    }

    /// Something to write whose author does not wait.
    pub(super) fn chore(&mut self, txn: Txn) {
        if self.chores.len() == CHORES_MAX {
            self.chores.pop_front();
        }
        self.chores.push_back(txn);
    }

    fn entry(&mut self, id: &str) -> &mut Waiting {
        if !self.waiting.contains_key(id) {
            self.order.push_back(id.to_owned());
        }
        self.waiting.entry(id.to_owned()).or_default()
    }

    fn give_one_up(&mut self) {
        for id in &self.order {
            let waiting = self.waiting.get_mut(id);
            if waiting.is_some_and(|w| w.events.pop_front().is_some()) {
                self.events -= 1;
                self.lost += 1;
                return;
            }
        }
    }

    /// The next thing to write; hand a worker's back with [`Outbox::done`] or
    /// [`Outbox::failed`].
    pub(super) fn next(&mut self) -> Option<Job> {
        if let Some(txn) = self.chores.pop_front() {
            return Some(Job::Chore(txn));
        }
        let at = self
            .order
            .iter()
            .position(|id| !self.in_hand.contains(id))?;
        let id = self.order.remove(at)?;
        let mut waiting = self.waiting.remove(&id)?;
        let rest = waiting
            .events
            .split_off(waiting.events.len().min(EVENTS_A_JOB));
        let events: Vec<_> = waiting.events.into();
        self.events -= events.len();
        if !rest.is_empty() {
            self.entry(&id).events = rest;
        }
        self.in_hand.insert(id.clone());
        Some(Job::Worker {
            id,
            draft: waiting.draft,
            events,
        })
    }

    /// A worker's job was written.
    pub(super) fn done(&mut self, id: &str) {
        self.in_hand.remove(id);
    }

    /// A worker's job was not written: it waits again, before what came since.
    pub(super) fn failed(&mut self, id: &str, draft: Option<Box<Draft>>, events: Vec<Named>) {
        self.in_hand.remove(id);
        let count = events.len();
        let waiting = self.entry(id);
        for event in events.into_iter().rev() {
            waiting.events.push_front(event);
        }
        if waiting.draft.is_none() {
            waiting.draft = draft;
        }
        self.events += count;
        while self.events > EVENTS_MAX {
            self.give_one_up();
        }
    }

    /// Things that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.chores.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::tests::beat;
    use super::*;

    fn event(name: &str) -> Named {
        let fact = EventFact {
            order: 0,
            name: name.to_owned(),
            data: String::new(),
        };
        (name.to_owned(), fact)
    }

    fn draft(sequence: u64) -> Draft {
        Draft {
            beat: beat("w", sequence),
            heard: true,
        }
    }

    #[test]
    fn the_last_word_of_a_worker_counts_and_one_hand_writes_it() {
        let mut outbox = Outbox::default();
        outbox.draft("w", draft(1));
        outbox.draft("w", draft(2));
        let Some(Job::Worker { draft: first, .. }) = outbox.next() else {
            panic!("nothing waits");
        };
        assert_eq!(first, Some(Box::new(draft(2))));
        outbox.draft("w", draft(3));
        assert!(outbox.next().is_none(), "it is being written");
        outbox.failed("w", first, vec![event("a")]);
        let Some(Job::Worker {
            draft: next,
            events,
            ..
        }) = outbox.next()
        else {
            panic!("nothing waits");
        };
        assert_eq!((next, events.len()), (Some(Box::new(draft(3))), 1));
        outbox.done("w");
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn events_are_bounded_and_the_oldest_go_first() {
        let mut outbox = Outbox::default();
        let all = (0..EVENTS_MAX + 3).map(|n| event(&n.to_string()));
        outbox.events("w", all);
        assert_eq!(outbox.lost, 3);
        let Some(Job::Worker { events, .. }) = outbox.next() else {
            panic!("nothing waits");
        };
        assert_eq!((events.len(), events[0].0.as_str()), (EVENTS_A_JOB, "3"));
        outbox.failed("w", None, events);
        assert_eq!(outbox.events, EVENTS_MAX);
    }
}
