//! Every worker by name, and where there is room: the two never differ.
//!
//! A worker is changed in the hand that [`Roster::get_mut`] gives, and finds its spot when that
//! hand lets go. Silence comes by itself, with time: a worker that turns out to be silent when it
//! is chosen leaves its spot, until it has been heard.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::capacity_index::{CapacityIndex, FreeCapacity, IndexEntry};
use super::worker::Worker;

/// The workers of a fleet.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: BTreeMap<Arc<str>, Entry>,
    rooms: CapacityIndex,
}

#[derive(Debug)]
struct Entry {
    worker: Worker,
    spot: Option<IndexEntry>,
    /// When it was last heard, once that turned out to be too long ago.
    silent_since: Option<Instant>,
}

impl Entry {
    /// The room that placement may use.
    fn room(&self) -> Option<FreeCapacity> {
        let worker = &self.worker;
        let is_barred = worker.is_down || worker.is_draining() || worker.shunned.is_some();
        if is_barred || self.silent_since == Some(worker.heard) {
            return None;
        }
        FreeCapacity::of(worker.taken(), worker.last.max_sessions)
    }

    fn find_spot(&mut self, rooms: &mut CapacityIndex) {
        let (room, district) = (self.room(), &self.worker.last.district);
        let was = self.spot.as_ref().map(|spot| (spot.room, &spot.district));
        if was == room.map(|room| (room, district)) {
            return;
        }
        if let Some(spot) = self.spot.take() {
            rooms.leave(&self.worker.id, &spot);
        }
        if let Some(room) = room {
            let district = district.clone();
            let spot = self.spot.insert(IndexEntry { room, district });
            rooms.enter(&self.worker.id, spot);
        }
    }
}

/// A worker that may be changed.
pub(super) struct Held<'a> {
    entry: &'a mut Entry,
    rooms: &'a mut CapacityIndex,
}

impl Deref for Held<'_> {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.entry.worker
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Worker {
        &mut self.entry.worker
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.entry.find_spot(self.rooms);
    }
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Worker> {
        self.entries.get(id).map(|entry| &entry.worker)
    }

    /// Every worker, by name.
    pub(super) fn values(&self) -> impl Iterator<Item = &Worker> {
        self.entries.values().map(|entry| &entry.worker)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<Held<'_>> {
        let (entries, rooms) = (&mut self.entries, &mut self.rooms);
        entries.get_mut(id).map(|entry| Held { entry, rooms })
    }

    /// Changes every worker.
    pub(super) fn for_each(&mut self, mut change: impl FnMut(&mut Worker)) {
        for entry in self.entries.values_mut() {
            change(&mut entry.worker);
            entry.find_spot(&mut self.rooms);
        }
    }

    pub(super) fn insert(&mut self, worker: Worker) {
        let id = Arc::clone(&worker.id);
        self.remove(&id);
        let mut entry = Entry {
            worker,
            spot: None,
            silent_since: None,
        };
        entry.find_spot(&mut self.rooms);
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: &str) {
        let spot = self.entries.remove(id).and_then(|entry| entry.spot);
        if let Some(spot) = spot {
            self.rooms.leave(id, &spot);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Worker) -> bool) {
        let gone = self.values().filter(|worker| !keep(worker));
        let gone: Vec<Arc<str>> = gone.map(|worker| Arc::clone(&worker.id)).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// The worker where a session is to be placed: see [`CapacityIndex::choose`]. One that has been silent
    /// for `quiet` is never chosen.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        quiet: Duration,
        district: Option<&str>,
        passed_over: &[&str],
        roll: &mut dyn FnMut(u64) -> u64,
    ) -> Option<Arc<str>> {
        loop {
            let id = self.rooms.choose(district, passed_over, roll)?;
            let id = Arc::clone(id);
            let entry = self.entries.get_mut(&id)?;
            if entry.worker.silence(now) < quiet {
                return Some(id);
            }
            entry.silent_since = Some(entry.worker.heard);
            entry.find_spot(&mut self.rooms);
        }
    }
}
