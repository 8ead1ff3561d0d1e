//! Every worker by name, and an index of them by free capacity.
//!
//! [`Roster::get_mut`] returns a guard; dropping it re-indexes the worker. Silence comes with time
//! and changes no worker: one that turns out to be silent when it is chosen is taken out of the
//! index until it is heard again.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::capacity_index::{CapacityIndex, FreeCapacity, IndexEntry};
use super::worker::WorkerEntry;

/// The workers of a fleet.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: BTreeMap<Arc<str>, Entry>,
    index: CapacityIndex,
}

#[derive(Debug)]
struct Entry {
    worker: WorkerEntry,
    indexed: Option<IndexEntry>,
    /// The last time it was heard, once that was found to be too long ago.
    silent_since: Option<Instant>,
}

impl Entry {
    /// The capacity that placement may use.
    fn free_capacity(&self) -> Option<FreeCapacity> {
        let worker = &self.worker;
        let is_excluded = worker.is_down || worker.is_draining() || worker.ejected.is_some();
        if is_excluded || self.silent_since == Some(worker.heard) {
            return None;
        }
        FreeCapacity::of(worker.taken(), worker.last.max_sessions)
    }

    fn reindex(&mut self, index: &mut CapacityIndex) {
        let (capacity, district) = (self.free_capacity(), &self.worker.last.district);
        let was = self
            .indexed
            .as_ref()
            .map(|indexed| (indexed.capacity, &indexed.district));
        if was == capacity.map(|capacity| (capacity, district)) {
            return;
        }
        if let Some(indexed) = self.indexed.take() {
            index.remove(&self.worker.id, &indexed);
        }
        if let Some(capacity) = capacity {
            let district = district.clone();
            let indexed = self.indexed.insert(IndexEntry { capacity, district });
            index.insert(&self.worker.id, indexed);
        }
    }
}

/// Mutable access to a worker; re-indexes it on drop.
pub(super) struct WorkerGuard<'a> {
    entry: &'a mut Entry,
    index: &'a mut CapacityIndex,
}

impl Deref for WorkerGuard<'_> {
    type Target = WorkerEntry;

    fn deref(&self) -> &WorkerEntry {
        &self.entry.worker
    }
}

impl DerefMut for WorkerGuard<'_> {
    fn deref_mut(&mut self) -> &mut WorkerEntry {
        &mut self.entry.worker
    }
}

impl Drop for WorkerGuard<'_> {
    fn drop(&mut self) {
        self.entry.reindex(self.index);
    }
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<&WorkerEntry> {
        self.entries.get(id).map(|entry| &entry.worker)
    }

    /// Every worker, by name.
    pub(super) fn values(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.entries.values().map(|entry| &entry.worker)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<WorkerGuard<'_>> {
        let (entries, index) = (&mut self.entries, &mut self.index);
        entries
            .get_mut(id)
            .map(|entry| WorkerGuard { entry, index })
    }

    /// Changes every worker.
    pub(super) fn for_each(&mut self, mut change: impl FnMut(&mut WorkerEntry)) {
        for entry in self.entries.values_mut() {
            change(&mut entry.worker);
            entry.reindex(&mut self.index);
        }
    }

    pub(super) fn insert(&mut self, worker: WorkerEntry) {
        let id = Arc::clone(&worker.id);
        self.remove(&id);
        let mut entry = Entry {
            worker,
            indexed: None,
            silent_since: None,
        };
        entry.reindex(&mut self.index);
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: &str) {
        let indexed = self.entries.remove(id).and_then(|entry| entry.indexed);
        if let Some(indexed) = indexed {
            self.index.remove(id, &indexed);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&WorkerEntry) -> bool) {
        let gone = self.values().filter(|worker| !keep(worker));
        let gone: Vec<Arc<str>> = gone.map(|worker| Arc::clone(&worker.id)).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// The worker to place a session on: see [`CapacityIndex::choose`]. One that has been silent
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
            let id = self.index.choose(district, passed_over, roll)?;
            let id = Arc::clone(id);
            let entry = self.entries.get_mut(&id)?;
            if entry.worker.silence(now) < quiet {
                return Some(id);
            }
            entry.silent_since = Some(entry.worker.heard);
            entry.reindex(&mut self.index);
        }
    }
}
