//! What this controller has still to write to the store.
//!
//! Pure and bounded. Of one worker only the last update is kept, so updates are at most as many as
//! workers; events are kept in order, and beyond a bound the oldest are dropped. Only one writer at
//! a time writes one worker.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::etcd::Txn;
use crate::protocol::Heartbeat;

use super::schema::EventRecord;

/// Most events that wait: an hour of a busy fleet, and as many as the event bus keeps.
const EVENTS_MAX: usize = 4_096;
/// Events of one transaction: etcd takes 128 operations in all.
const EVENTS_A_JOB: usize = 100;
/// Most transactions that wait: several seconds of creates.
const TXNS_MAX: usize = 8_192;

/// What a worker's record is to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WorkerUpdate {
    pub(super) beat: Heartbeat,
    pub(super) heard: bool,
}

/// An event's key and record.
pub(super) type NamedEvent = (String, EventRecord);

#[derive(Debug, Default)]
struct PendingWrites {
    update: Option<Box<WorkerUpdate>>,
    events: VecDeque<NamedEvent>,
}

/// Something to write.
#[derive(Debug)]
pub(super) enum WriteJob {
    /// A transaction, as it is.
    Txn(Txn),
    /// A worker's update and events, in one transaction.
    Worker {
        id: String,
        update: Option<Box<WorkerUpdate>>,
        events: Vec<NamedEvent>,
    },
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    waiting: HashMap<String, PendingWrites>,
    order: VecDeque<String>,
    in_progress: HashSet<String>,
    events: usize,
    txns: VecDeque<Txn>,
    /// Events that were dropped.
    pub(super) lost: u64,
}

impl WriteQueue {
    /// Enqueues a worker's update, in place of an earlier one.
    pub(super) fn update(&mut self, update: WorkerUpdate) {
        let id = update.beat.worker_id.clone();
        self.entry(&id).update = Some(Box::new(update));
    }

    /// Enqueues events of one worker, in that order.
    pub(super) fn events(&mut self, id: &str, events: impl IntoIterator<Item = NamedEvent>) {
        for event in events {
            if self.events == EVENTS_MAX {
                self.drop_oldest_event();
            }
            self.entry(id).events.push_back(event);
            self.events += 1;
        }
    }

    /// Enqueues a transaction; beyond a bound the oldest is dropped.
    pub(super) fn txn(&mut self, txn: Txn) {
        if self.txns.len() == TXNS_MAX {
            self.txns.pop_front();
        }
        self.txns.push_back(txn);
    }

    fn entry(&mut self, id: &str) -> &mut PendingWrites {
        if !self.waiting.contains_key(id) {
            self.order.push_back(id.to_owned());
        }
        self.waiting.entry(id.to_owned()).or_default()
    }

    fn drop_oldest_event(&mut self) {
        for id in &self.order {
            let waiting = self.waiting.get_mut(id);
            if waiting.is_some_and(|w| w.events.pop_front().is_some()) {
                self.events -= 1;
                self.lost += 1;
                return;
            }
        }
    }

    /// The next job; end a worker's with [`WriteQueue::done`] or [`WriteQueue::failed`].
    pub(super) fn next(&mut self) -> Option<WriteJob> {
        if let Some(txn) = self.txns.pop_front() {
            return Some(WriteJob::Txn(txn));
        }
        let at = self
            .order
            .iter()
            .position(|id| !self.in_progress.contains(id))?;
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
        self.in_progress.insert(id.clone());
        Some(WriteJob::Worker {
            id,
            update: waiting.update,
            events,
        })
    }

    /// A worker's job was written.
    pub(super) fn done(&mut self, id: &str) {
        self.in_progress.remove(id);
    }

    /// A worker's job was not written: it goes back, before what came since.
    pub(super) fn failed(
        &mut self,
        id: &str,
        update: Option<Box<WorkerUpdate>>,
        events: Vec<NamedEvent>,
    ) {
        self.in_progress.remove(id);
        let count = events.len();
        let waiting = self.entry(id);
        for event in events.into_iter().rev() {
            waiting.events.push_front(event);
        }
        if waiting.update.is_none() {
            waiting.update = update;
        }
        self.events += count;
        while self.events > EVENTS_MAX {
            self.drop_oldest_event();
        }
    }

    /// Workers and transactions that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.txns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::tests::beat;
    use super::*;

    fn event(name: &str) -> NamedEvent {
        let record = EventRecord {
            order: 0,
            name: name.to_owned(),
            data: String::new(),
        };
        (name.to_owned(), record)
    }

    fn update(sequence: u64) -> WorkerUpdate {
        WorkerUpdate {
            beat: beat("w", sequence),
            heard: true,
        }
    }

    #[test]
    fn the_last_update_of_a_worker_counts_and_one_writer_writes_it() {
        let mut queue = WriteQueue::default();
        queue.update(update(1));
        queue.update(update(2));
        let Some(WriteJob::Worker { update: first, .. }) = queue.next() else {
            panic!("nothing waits");
        };
        assert_eq!(first, Some(Box::new(update(2))));
        queue.update(update(3));
        assert!(queue.next().is_none(), "it is being written");
        queue.failed("w", first, vec![event("a")]);
        let Some(WriteJob::Worker {
            update: next,
            events,
            ..
        }) = queue.next()
        else {
            panic!("nothing waits");
        };
        assert_eq!((next, events.len()), (Some(Box::new(update(3))), 1));
        queue.done("w");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn events_are_bounded_and_the_oldest_go_first() {
        let mut queue = WriteQueue::default();
        let all = (0..EVENTS_MAX + 3).map(|n| event(&n.to_string()));
        queue.events("w", all);
        assert_eq!(queue.lost, 3);
        let Some(WriteJob::Worker { events, .. }) = queue.next() else {
            panic!("nothing waits");
        };
        assert_eq!((events.len(), events[0].0.as_str()), (EVENTS_A_JOB, "3"));
        queue.failed("w", None, events);
        assert_eq!(queue.events, EVENTS_MAX);
    }
}
