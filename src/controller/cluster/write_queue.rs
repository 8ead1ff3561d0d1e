//! What this controller has still to write to the store.
//!
//! Pure and bounded. Of one worker only the last update is kept, so updates are at most as many as
//! workers; events are kept in order, and beyond a bound the oldest are dropped. Only one writer at
//! a time writes one worker.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::etcd::Txn;
use crate::ids::SessionId;
use crate::protocol::{Heartbeat, SessionView};

use super::schema::EventRecord;

/// Most events that wait: an hour of a busy fleet, and as many as the event bus keeps.
const EVENTS_MAX: usize = 4_096;
/// Events of one transaction: etcd takes 128 operations in all.
const EVENTS_A_JOB: usize = 100;
/// Most sessions of a worker that wait to be announced: as many as fit into one transaction beside
/// its events.
const ANNOUNCEMENTS_MAX: usize = 16;
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

/// What waits to be written of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerWrites {
    pub(super) update: Option<Box<WorkerUpdate>>,
    /// Sessions that were made and could not be announced.
    pub(super) announcements: Vec<SessionView>,
    pub(super) events: VecDeque<NamedEvent>,
}

impl WorkerWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.update.is_none() && self.announcements.is_empty() && self.events.is_empty()
    }
}

/// Something to write.
#[derive(Debug)]
pub(super) enum WriteJob {
    /// A transaction, as it is, and since when it waits; back with [`WriteQueue::again`] when it was
    /// not written.
    Txn(Instant, Txn),
    /// What waits of a worker, in one transaction.
    Worker(String, WorkerWrites),
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    waiting: HashMap<String, WorkerWrites>,
    order: VecDeque<String>,
    in_progress: HashSet<String>,
    events: usize,
    txns: VecDeque<(Instant, Txn)>,
    /// Events and transactions that were dropped.
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

    /// Enqueues the announcement of a session. Beyond a bound it is left to the worker's heartbeat.
    pub(super) fn announce(&mut self, id: &str, session: SessionView) {
        let announcements = &mut self.entry(id).announcements;
        if announcements.len() < ANNOUNCEMENTS_MAX {
            announcements.push(session);
        }
    }

    /// Drops the announcement of a session that has ended.
    pub(super) fn forget_announcement(&mut self, session: &SessionId) {
        for waiting in self.waiting.values_mut() {
            waiting.announcements.retain(|view| view.id != *session);
        }
    }

    /// Enqueues a transaction; beyond a bound the oldest is dropped.
    pub(super) fn txn(&mut self, now: Instant, txn: Txn) {
        if self.txns.len() == TXNS_MAX {
            self.txns.pop_front();
            self.lost += 1;
        }
        self.txns.push_back((now, txn));
    }

    /// Enqueues again what waits since then and was not written.
    pub(super) fn again(&mut self, since: Instant, txn: Txn) {
        self.txn(since, txn);
    }

    /// How long the oldest transaction waits.
    pub(super) fn oldest_txn(&self, now: Instant) -> Option<Duration> {
        let oldest = self.txns.iter().map(|(since, _)| *since).min()?;
        Some(now.saturating_duration_since(oldest))
    }

    fn entry(&mut self, id: &str) -> &mut WorkerWrites {
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
        if let Some((since, txn)) = self.txns.pop_front() {
            return Some(WriteJob::Txn(since, txn));
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
        self.events -= waiting.events.len();
        if !rest.is_empty() {
            self.entry(&id).events = rest;
        }
        self.in_progress.insert(id.clone());
        Some(WriteJob::Worker(id, waiting))
    }

    /// A worker's job was written.
    pub(super) fn done(&mut self, id: &str) {
        self.in_progress.remove(id);
    }

    /// A worker's job was not written: it goes back, before what came since.
    pub(super) fn failed(&mut self, id: &str, mut failed: WorkerWrites) {
        self.in_progress.remove(id);
        let count = failed.events.len();
        let waiting = self.entry(id);
        failed.events.append(&mut waiting.events);
        waiting.events = failed.events;
        waiting.announcements.append(&mut failed.announcements);
        if waiting.update.is_none() {
            waiting.update = failed.update;
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
    use super::super::schema::tests::{beat, session};
    use super::*;

    fn event(name: &str) -> NamedEvent {
        let record = EventRecord {
            order: 0,
            name: name.to_owned(),
            data: String::new(),
        };
        (name.to_owned(), record)
    }

    fn next(queue: &mut WriteQueue) -> WorkerWrites {
        match queue.next() {
            Some(WriteJob::Worker(_, writes)) => writes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_that_ended_is_announced_no_more() {
        let mut queue = WriteQueue::default();
        let (ended, lives) = (session(), session());
        queue.announce("w", ended.clone());
        queue.announce("w", lives.clone());
        queue.forget_announcement(&ended.id);
        assert_eq!(next(&mut queue).announcements, [lives]);
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
        queue.announce("w", session());
        let mut first = next(&mut queue);
        assert_eq!(first.update, Some(Box::new(update(2))));
        queue.update(update(3));
        assert!(queue.next().is_none(), "it is being written");
        first.events.push_back(event("a"));
        queue.failed("w", first);
        let again = next(&mut queue);
        assert_eq!(again.update, Some(Box::new(update(3))));
        assert_eq!((again.events.len(), again.announcements.len()), (1, 1));
        queue.done("w");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn events_are_bounded_and_the_oldest_go_first() {
        let mut queue = WriteQueue::default();
        let all = (0..EVENTS_MAX + 3).map(|n| event(&n.to_string()));
        queue.events("w", all);
        assert_eq!(queue.lost, 3);
        let writes = next(&mut queue);
        let events = &writes.events;
        assert_eq!((events.len(), events[0].0.as_str()), (EVENTS_A_JOB, "3"));
        queue.failed("w", writes);
        assert_eq!(queue.events, EVENTS_MAX);
    }
}
