//! The replica of the store that every controller keeps, and what follows for the fleet when the
//! store changes.
//!
//! Pure. Takes snapshots, and the changes of a watch in the order of their revisions; returns what
//! is new to this controller, without what it wrote itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::etcd::{Kv, Revision, WatchEvent};
use crate::ids::SessionId;
use crate::protocol::{DrainOrder, Heartbeat, SessionView, Status};

use super::join::Snapshot;
use super::schema::{
    self, ControllerRecord, EventBase, EventRecord, KeyNames, SessionRecord, WatchedKey,
    WorkerRecord,
};

#[cfg(test)]
mod tests;

/// How long an announced session stays in the store at least: longer than a worker takes to list
/// it in a heartbeat, and than another controller's watch may lag.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// What a controller learns from the store.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::controller) enum StoreEvent {
    /// Another controller made a session.
    Announced(String, Box<SessionView>),
    /// A worker's drain was ordered, or lifted.
    Drain(String, Option<DrainOrder>),
    /// An event for the listeners of every controller.
    Published { id: u64, name: String, data: String },
    /// This controller's own pulse has come back through the watch.
    Pulse(u64),
    /// Another controller heard a worker, or no longer does.
    Relayed(Arc<WorkerRecord>),
    /// No live controller hears a worker any longer.
    Unheard(String),
}

#[derive(Clone, Debug)]
struct KnownWorker {
    record: Arc<WorkerRecord>,
    at: Revision,
}

#[derive(Clone, Debug)]
struct Announced {
    worker_id: String,
    since: Instant,
}

/// What the store holds, as far as this controller has seen.
#[derive(Debug)]
pub(super) struct Replica {
    names: KeyNames,
    /// This controller's process.
    process_id: String,
    revision: Revision,
    cluster: u64,
    controllers: HashSet<String>,
    workers: HashMap<String, KnownWorker>,
    drains: BTreeMap<String, DrainOrder>,
    announced: HashMap<SessionId, Announced>,
    /// What cannot be read under a worker's key, by revision. It stands for no worker; whoever hears
    /// the worker writes over it.
    unreadable: HashMap<String, Revision>,
    /// Added to the ids of events from that revision on.
    event_base: (u64, Revision),
    last_event: u64,
}

impl Replica {
    pub(super) fn new(names: KeyNames, process_id: &str) -> Self {
        Self {
            names,
            process_id: process_id.to_owned(),
            revision: 0,
            cluster: 0,
            controllers: HashSet::new(),
            workers: HashMap::new(),
            drains: BTreeMap::new(),
            announced: HashMap::new(),
            unreadable: HashMap::new(),
            event_base: (0, 0),
            last_event: 0,
        }
    }

    /// The revision of the store that this is a replica of.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether that is another store than the one that this is a replica of, or an earlier state
    /// of it.
    pub(super) fn is_another(&self, cluster: u64, revision: Revision) -> bool {
        self.revision > 0 && (self.cluster != cluster || revision < self.revision)
    }

    /// Takes in a snapshot of the store.
    pub(super) fn replace(&mut self, now: Instant, snapshot: Snapshot) -> Vec<StoreEvent> {
        let mut before = std::mem::replace(self, Self::new(self.names.clone(), &self.process_id));
        self.last_event = before.last_event;
        self.revision = snapshot.revision;
        self.cluster = snapshot.cluster;
        let mut events = Vec::new();
        for kv in snapshot.kvs {
            self.put(now, kv, &mut events);
        }
        // The workers may come before their controllers: relayed when both are there.
        events.retain(|event| !matches!(event, StoreEvent::Relayed(_) | StoreEvent::Unheard(_)));
        for known in self
            .workers
            .values()
            .filter(|k| k.record.by != self.process_id)
        {
            self.relay(&known.record, &mut events);
        }
        before
            .workers
            .retain(|id, _| !self.workers.contains_key(id));
        events.extend(before.workers.into_keys().map(StoreEvent::Unheard));
        before.drains.retain(|id, _| !self.drains.contains_key(id));
        events.extend(
            before
                .drains
                .into_keys()
                .map(|id| StoreEvent::Drain(id, None)),
        );
        for (id, announced) in before.announced {
            if let Some(kept) = self.announced.get_mut(&id) {
                kept.since = announced.since;
            }
        }
        sort_published(&mut events);
        events
    }

    /// Takes in what a watch shows.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        changes: Vec<WatchEvent>,
        progress: Option<Revision>,
    ) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        for change in changes {
            match change {
                WatchEvent::Put(kv) => self.put(now, kv, &mut events),
                WatchEvent::Deleted(key, at) => self.deleted(&key, at, &mut events),
            }
        }
        self.revision = self.revision.max(progress.unwrap_or_default());
        sort_published(&mut events);
        events
    }

    /// Takes in the worker's record that made a conditional write fail; none if it is gone.
    pub(super) fn conflict(&mut self, worker_id: &str, found: Option<Kv>) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        match found {
            Some(kv) => self.put_worker(worker_id, &kv, &mut events),
            None => {
                self.workers.remove(worker_id);
                self.unreadable.remove(worker_id);
            }
        }
        events
    }

    fn put(&mut self, now: Instant, kv: Kv, events: &mut Vec<StoreEvent>) {
        let names = self.names.clone();
        let at = kv.mod_revision;
        match names.about(&kv.key) {
            Some(WatchedKey::Controller(id)) => {
                if id == self.process_id {
                    let record: Option<ControllerRecord> = schema::read(&kv);
                    events.extend(record.map(|record| StoreEvent::Pulse(record.pulse)));
                }
                if self.controllers.insert(id.to_owned()) && id != self.process_id {
                    self.relay_all_of(id, events);
                }
            }
            Some(WatchedKey::Drain(worker)) => {
                if let Some(order) = schema::read::<DrainOrder>(&kv) {
                    self.drains.insert(worker.to_owned(), order.clone());
                    events.push(StoreEvent::Drain(worker.to_owned(), Some(order)));
                }
            }
            Some(WatchedKey::Event) => {
                let Some(record) = schema::read::<EventRecord>(&kv) else {
                    return;
                };
                let (base, from) = self.event_base;
                let id = schema::event_id(base, at, &record);
                if at >= from && id > self.last_event {
                    events.push(StoreEvent::Published {
                        id,
                        name: record.name,
                        data: record.data,
                    });
                }
            }
            Some(WatchedKey::Session(id)) => {
                let record: Option<SessionRecord> = schema::read(&kv);
                if let (Some(record), Ok(id)) = (record, id.parse()) {
                    let announced = Announced {
                        worker_id: record.worker_id.clone(),
                        since: now,
                    };
                    self.announced.insert(id, announced);
                    events.push(StoreEvent::Announced(
                        record.worker_id,
                        Box::new(record.view),
                    ));
                }
            }
            Some(WatchedKey::EventBase) => {
                if let Some(EventBase { base }) = schema::read(&kv) {
                    self.event_base = (base, at);
                }
            }
            Some(WatchedKey::Worker(id)) => self.put_worker(id, &kv, events),
            None => {}
        }
    }

    fn put_worker(&mut self, id: &str, kv: &Kv, events: &mut Vec<StoreEvent>) {
        let at = kv.mod_revision;
        if let Some(record) = schema::read_worker(kv) {
            self.unreadable.remove(id);
            self.hear(id, record, at, events);
        } else if self.workers.get(id).is_none_or(|known| known.at < at) {
            // What was known of the worker stays.
            self.unreadable.insert(id.to_owned(), at);
        }
    }

    fn hear(&mut self, id: &str, record: WorkerRecord, at: Revision, events: &mut Vec<StoreEvent>) {
        if self.workers.get(id).is_some_and(|known| known.at >= at) {
            return;
        }
        let record = Arc::new(record);
        if record.by != self.process_id {
            self.relay(&record, events);
        }
        self.workers
            .insert(id.to_owned(), KnownWorker { record, at });
    }

    /// Relays what a controller hears that has just appeared.
    fn relay_all_of(&self, controller: &str, events: &mut Vec<StoreEvent>) {
        let theirs = self.workers.values().filter(|k| k.record.by == controller);
        events.extend(theirs.map(|known| StoreEvent::Relayed(Arc::clone(&known.record))));
    }

    /// Relays what another controller heard; the worker's silence counts from now if that one is gone.
    fn relay(&self, record: &Arc<WorkerRecord>, events: &mut Vec<StoreEvent>) {
        events.push(StoreEvent::Relayed(Arc::clone(record)));
        if !self.controllers.contains(&record.by) {
            events.push(StoreEvent::Unheard(record.beat.worker_id.clone()));
        }
    }

    fn deleted(&mut self, key: &str, at: Revision, events: &mut Vec<StoreEvent>) {
        let names = self.names.clone();
        match names.about(key) {
            Some(WatchedKey::Controller(id)) => {
                self.controllers.remove(id);
                let theirs = self.workers.iter().filter(|(_, k)| k.record.by == id);
                events.extend(theirs.map(|(worker, _)| StoreEvent::Unheard(worker.clone())));
            }
            Some(WatchedKey::Drain(worker)) => {
                self.drains.remove(worker);
                events.push(StoreEvent::Drain(worker.to_owned(), None));
            }
            Some(WatchedKey::Session(id)) => {
                if let Ok(id) = id.parse() {
                    self.announced.remove(&id);
                }
            }
            Some(WatchedKey::Worker(id)) => {
                // The watch may lag behind our own writes: a later record was not deleted.
                self.unreadable
                    .retain(|worker, since| worker != id || *since > at);
                if self.workers.get(id).is_some_and(|known| known.at <= at) {
                    self.workers.remove(id);
                    events.push(StoreEvent::Unheard(id.to_owned()));
                }
            }
            Some(WatchedKey::Event | WatchedKey::EventBase) | None => {}
        }
    }

    /// The number of the last event that was published here.
    pub(super) fn last_event(&self) -> u64 {
        self.last_event
    }

    /// Workers whose record cannot be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.keys().map(String::as_str)
    }

    /// Whether the workers differ from what the store has, by the revisions of their keys `at` that
    /// revision; none while the watch has not shown as much.
    pub(super) fn differs(&self, kvs: &[Kv], at: Revision) -> Option<bool> {
        if self.revision < at {
            return None;
        }
        let mut stored = HashMap::new();
        for kv in kvs {
            if let Some(WatchedKey::Worker(id)) = self.names.about(&kv.key) {
                stored.insert(id, kv.mod_revision);
            }
        }
        let is_behind = stored.iter().any(|(id, revision)| {
            let known = self.workers.get(*id).map(|known| known.at);
            known.max(self.unreadable.get(*id).copied()) < Some(*revision)
        });
        let has_ghost = self
            .workers
            .iter()
            .any(|(id, known)| known.at <= at && !stored.contains_key(id.as_str()));
        Some(is_behind || has_ghost)
    }

    /// Events up to this one were published here.
    pub(super) fn published(&mut self, event: u64) {
        self.last_event = self.last_event.max(event);
    }

    /// A worker's record and its revision; 0 if there is none.
    pub(super) fn worker(&self, id: &str) -> (Option<&Arc<WorkerRecord>>, Revision) {
        match (self.workers.get(id), self.unreadable.get(id)) {
            (_, Some(at)) => (None, *at),
            (Some(known), None) => (Some(&known.record), known.at),
            (None, None) => (None, 0),
        }
    }

    /// This controller has written the worker's record.
    pub(super) fn wrote(&mut self, id: &str, record: Arc<WorkerRecord>, at: Revision) {
        self.unreadable
            .retain(|worker, since| worker != id || *since > at);
        if self.workers.get(id).is_none_or(|known| known.at < at) {
            self.workers
                .insert(id.to_owned(), KnownWorker { record, at });
        }
    }

    /// Whether that controller lives.
    pub(super) fn has_controller(&self, process_id: &str) -> bool {
        process_id == self.process_id || self.controllers.contains(process_id)
    }

    /// Controllers that live, this one among them.
    pub(super) fn controllers(&self) -> usize {
        self.controllers.len()
    }

    /// The drain ordered for a worker.
    pub(super) fn drain(&self, worker_id: &str) -> Option<&DrainOrder> {
        self.drains.get(worker_id)
    }

    /// Announced sessions whose announcement this heartbeat of their worker replaces: it lists their
    /// end, or is late enough to list them.
    pub(super) fn confirmed_by(&self, now: Instant, beat: &Heartbeat) -> Vec<SessionId> {
        let has_ended = |id: &SessionId| {
            let mut ended = beat.sessions.iter().filter(|s| s.status == Status::Ended);
            ended.any(|s| s.id == *id)
        };
        let its = self.announced.iter().filter(|(id, announced)| {
            let age = now.saturating_duration_since(announced.since);
            announced.worker_id == beat.worker_id && (age >= ANNOUNCED || has_ended(id))
        });
        its.map(|(id, _)| id.clone()).collect()
    }

    /// Records of the workers that this controller hears.
    pub(super) fn mine(&self) -> impl Iterator<Item = &Arc<WorkerRecord>> {
        let facts = self.workers.values().map(|known| &known.record);
        facts.filter(|record| record.by == self.process_id && record.heard)
    }
}

/// Orders published events by id, after all others: those of one revision come in any order.
fn sort_published(events: &mut [StoreEvent]) {
    events.sort_by_key(|event| match event {
        StoreEvent::Published { id, .. } => *id,
        _ => 0,
    });
}
