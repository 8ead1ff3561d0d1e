//! The copy of the store that every controller keeps: what stands there, and what follows for the
//! fleet when it changes.
//!
//! Pure. Fed with whole pictures and with the changes that a watch tells, in the order of their
//! revisions; gives back what this controller did not know, its own words left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::etcd::{Change, Kv, Revision};
use crate::ids::SessionId;
use crate::protocol::{Heartbeat, SessionView, Status};

use super::schema::{
    self, About, ControllerFact, DrainFact, EventFact, Names, SessionFact, WorkerFact,
};

#[cfg(test)]
mod tests;

/// How long an announced session stays in the store at least: longer than a worker takes to tell
/// of it, and than another controller's watch may lag.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// What a controller learns from the store.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::controller) enum StoreEvent {
    /// Another controller made a session.
    Announced(String, Box<SessionView>),
    /// A drain was ordered.
    Drained(String, Option<String>),
    /// Something for the event stream.
    Event { id: u64, name: String, data: String },
    /// This controller's own pulse has come back.
    Pulse(u64),
    /// Another controller heard a worker, or no longer does.
    Relayed(Arc<WorkerFact>),
    /// A drain was lifted.
    Undrained(String),
    /// Nobody vouches for a worker any longer.
    Unheard(String),
}

#[derive(Clone, Debug)]
struct Known {
    fact: Arc<WorkerFact>,
    at: Revision,
}

#[derive(Clone, Debug)]
struct Announced {
    worker_id: String,
    since: Instant,
}

/// What stands in the store, as far as it was told.
#[derive(Debug)]
pub(super) struct Copy {
    names: Names,
    /// This controller's process.
    me: String,
    revision: Revision,
    controllers: HashSet<String>,
    workers: HashMap<String, Known>,
    drains: BTreeMap<String, Option<String>>,
    announced: HashMap<SessionId, Announced>,
    last_event: u64,
}

impl Copy {
    pub(super) fn new(names: Names, me: &str) -> Self {
        Self {
            names,
            me: me.to_owned(),
            revision: 0,
            controllers: HashSet::new(),
            workers: HashMap::new(),
            drains: BTreeMap::new(),
            announced: HashMap::new(),
            last_event: 0,
        }
    }

    /// The revision that the copy shows.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes in a whole picture of the store.
    pub(super) fn replace(
        &mut self,
        now: Instant,
        kvs: Vec<Kv>,
        revision: Revision,
    ) -> Vec<StoreEvent> {
        let mut before = std::mem::replace(self, Self::new(self.names.clone(), &self.me));
        self.last_event = before.last_event;
        self.revision = revision;
        let mut tales = Vec::new();
        for kv in kvs {
            self.put(now, kv, &mut tales);
        }
        // Controllers may come after their workers.
        tales.retain(|tale| !matches!(tale, StoreEvent::Relayed(_) | StoreEvent::Unheard(_)));
        for known in self.workers.values().filter(|k| k.fact.by != self.me) {
            self.relay(&known.fact, &mut tales);
        }
        before
            .workers
            .retain(|id, _| !self.workers.contains_key(id));
        tales.extend(before.workers.into_keys().map(StoreEvent::Unheard));
        before.drains.retain(|id, _| !self.drains.contains_key(id));
        tales.extend(before.drains.into_keys().map(StoreEvent::Undrained));
        for (id, announced) in before.announced {
            if let Some(kept) = self.announced.get_mut(&id) {
                kept.since = announced.since;
            }
        }
        tales.sort_by_key(|tale| match tale {
            StoreEvent::Event { id, .. } => *id,
            _ => 0,
        });
        tales
    }

    /// Takes in what a watch tells.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        changes: Vec<Change>,
        revision: Revision,
    ) -> Vec<StoreEvent> {
        let mut tales = Vec::new();
        for change in changes {
            match change {
                Change::Put(kv) => self.put(now, kv, &mut tales),
                Change::Deleted(key, at) => self.deleted(&key, at, &mut tales),
            }
        }
        self.revision = self.revision.max(revision);
        tales.sort_by_key(|tale| match tale {
            StoreEvent::Event { id, .. } => *id,
            _ => 0,
        });
        tales
    }

    /// What a transaction that failed found in its way, or what one has written.
    pub(super) fn learn(&mut self, worker_id: &str, found: Option<Kv>) -> Vec<StoreEvent> {
        let mut tales = Vec::new();
        match found {
            Some(kv) => {
                if let Some(fact) = schema::read_worker(&kv) {
                    self.hear(worker_id, fact, kv.mod_revision, &mut tales);
                }
            }
            None => {
                self.workers.remove(worker_id);
            }
        }
        tales
    }

    fn put(&mut self, now: Instant, kv: Kv, tales: &mut Vec<StoreEvent>) {
        let names = self.names.clone();
        let at = kv.mod_revision;
        match names.about(&kv.key) {
            Some(About::Controller(id)) => {
                if id == self.me {
                    let fact: Option<ControllerFact> = schema::read(&kv);
                    tales.extend(fact.map(|fact| StoreEvent::Pulse(fact.pulse)));
                }
                if self.controllers.insert(id.to_owned()) && id != self.me {
                    self.vouch(id, tales);
                }
            }
            Some(About::Drain(worker)) => {
                if let Some(fact) = schema::read::<DrainFact>(&kv) {
                    self.drains.insert(worker.to_owned(), fact.deadline.clone());
                    tales.push(StoreEvent::Drained(worker.to_owned(), fact.deadline));
                }
            }
            Some(About::Event) => {
                let Some(fact) = schema::read::<EventFact>(&kv) else {
                    return;
                };
                let id = schema::event_id(at, &fact);
                if id > self.last_event {
                    // Several of one revision come in any order.
                    tales.push(StoreEvent::Event {
                        id,
                        name: fact.name,
                        data: fact.data,
                    });
                }
            }
            Some(About::Session(id)) => {
                let fact: Option<SessionFact> = schema::read(&kv);
                if let (Some(fact), Ok(id)) = (fact, id.parse()) {
                    let announced = Announced {
                        worker_id: fact.worker_id.clone(),
                        since: now,
                    };
                    self.announced.insert(id, announced);
                    tales.push(StoreEvent::Announced(fact.worker_id, Box::new(fact.view)));
                }
            }
            Some(About::Worker(id)) => {
                if let Some(fact) = schema::read_worker(&kv) {
                    self.hear(id, fact, at, tales);
                }
            }
            None => {}
        }
    }

    fn hear(&mut self, id: &str, fact: WorkerFact, at: Revision, tales: &mut Vec<StoreEvent>) {
        if self.workers.get(id).is_some_and(|known| known.at >= at) {
            return;
        }
        let fact = Arc::new(fact);
        if fact.by != self.me {
            self.relay(&fact, tales);
        }
        self.workers.insert(id.to_owned(), Known { fact, at });
    }

    /// A controller is there (again): what it hears is heard.
    fn vouch(&self, controller: &str, tales: &mut Vec<StoreEvent>) {
        let theirs = self.workers.values().filter(|k| k.fact.by == controller);
        tales.extend(theirs.map(|known| StoreEvent::Relayed(Arc::clone(&known.fact))));
    }

    /// What another controller heard; its silence counts from now if that one is gone.
    fn relay(&self, fact: &Arc<WorkerFact>, tales: &mut Vec<StoreEvent>) {
        tales.push(StoreEvent::Relayed(Arc::clone(fact)));
        if !self.controllers.contains(&fact.by) {
            tales.push(StoreEvent::Unheard(fact.beat.worker_id.clone()));
        }
    }

    fn deleted(&mut self, key: &str, at: Revision, tales: &mut Vec<StoreEvent>) {
        let names = self.names.clone();
        match names.about(key) {
            Some(About::Controller(id)) => {
                self.controllers.remove(id);
                let theirs = self.workers.iter().filter(|(_, k)| k.fact.by == id);
                tales.extend(theirs.map(|(worker, _)| StoreEvent::Unheard(worker.clone())));
            }
            Some(About::Drain(worker)) => {
                self.drains.remove(worker);
                tales.push(StoreEvent::Undrained(worker.to_owned()));
            }
            Some(About::Session(id)) => {
                if let Ok(id) = id.parse() {
                    self.announced.remove(&id);
                }
            }
            Some(About::Worker(id)) => {
                // A fact of ours that was written since is not what was deleted.
                if self.workers.get(id).is_some_and(|known| known.at <= at) {
                    self.workers.remove(id);
                    tales.push(StoreEvent::Unheard(id.to_owned()));
                }
            }
            Some(About::Event) | None => {}
        }
    }

    /// Events up to this one were told.
    pub(super) fn told(&mut self, event: u64) {
        self.last_event = self.last_event.max(event);
    }

    /// A worker's fact and its revision; 0 when there is none.
    pub(super) fn worker(&self, id: &str) -> (Option<&Arc<WorkerFact>>, Revision) {
        match self.workers.get(id) {
            Some(known) => (Some(&known.fact), known.at),
            None => (None, 0),
        }
    }

    /// This controller has written a worker's fact.
    pub(super) fn wrote(&mut self, id: &str, fact: Arc<WorkerFact>, at: Revision) {
        if self.workers.get(id).is_none_or(|known| known.at < at) {
            self.workers.insert(id.to_owned(), Known { fact, at });
        }
    }

    /// Whether that controller lives.
    pub(super) fn has_controller(&self, process_id: &str) -> bool {
        process_id == self.me || self.controllers.contains(process_id)
    }

    /// Controllers that live, this one among them.
    pub(super) fn controllers(&self) -> usize {
        self.controllers.len()
    }

    /// The drain ordered for a worker.
    pub(super) fn drain(&self, worker_id: &str) -> Option<&Option<String>> {
        self.drains.get(worker_id)
    }

    /// Announced sessions of a worker that it has had time to tell of itself, or tells the end of.
    pub(super) fn told_of(&self, now: Instant, beat: &Heartbeat) -> Vec<SessionId> {
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

    /// Workers whose fact says that this controller hears them.
    pub(super) fn mine(&self) -> impl Iterator<Item = &Arc<WorkerFact>> {
        let facts = self.workers.values().map(|known| &known.fact);
        facts.filter(|fact| fact.by == self.me && fact.heard)
    }
}
