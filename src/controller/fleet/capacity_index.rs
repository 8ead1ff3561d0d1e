//! Index of workers by free capacity, so that placement need not scan them.
//!
//! Pure. Workers with the same capacity are in one pool, and the pools are ordered as placement
//! prefers them: for the whole fleet, and for each district. There are as many pools as different
//! capacities, some dozens, however large the fleet is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Slots of a worker that has a free one. Greater is better: a larger free share, then fewer slots
/// taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreeCapacity {
    taken: usize,
    max: usize,
}

impl FreeCapacity {
    /// None when every slot is taken.
    pub(super) fn of(taken: usize, max: usize) -> Option<Self> {
        (taken < max).then_some(Self { taken, max })
    }
}

impl Ord for FreeCapacity {
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = self.taken as u128 * other.max as u128;
        let theirs = other.taken as u128 * self.max as u128;
        let share = theirs.cmp(&mine);
        share.then(other.taken.cmp(&self.taken))
    }
}

impl PartialOrd for FreeCapacity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FreeCapacity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for FreeCapacity {}

/// Under what a worker is indexed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) capacity: FreeCapacity,
    pub(super) district: String,
}

/// Workers that may be chosen.
#[derive(Debug, Default)]
pub(super) struct CapacityIndex {
    all: CapacityOrder,
    by_district: HashMap<String, CapacityOrder>,
}

impl CapacityIndex {
    pub(super) fn insert(&mut self, id: &Arc<str>, entry: &IndexEntry) {
        self.all.insert(id, entry.capacity);
        if !self.by_district.contains_key(&entry.district) {
            self.by_district
                .insert(entry.district.clone(), CapacityOrder::default());
        }
        if let Some(by_district) = self.by_district.get_mut(&entry.district) {
            by_district.insert(id, entry.capacity);
        }
    }

    pub(super) fn remove(&mut self, id: &str, entry: &IndexEntry) {
        self.all.remove(id, entry.capacity);
        if let Some(by_district) = self.by_district.get_mut(&entry.district) {
            by_district.remove(id, entry.capacity);
            if by_district.0.is_empty() {
                self.by_district.remove(&entry.district);
            }
        }
    }

    /// One of the best workers that are not passed over, of `district` if it has any. `roll` gives a
    /// number below its argument, each with the same chance.
    pub(super) fn choose(
        &self,
        district: Option<&str>,
        passed_over: &[&str],
        roll: &mut dyn FnMut(u64) -> u64,
    ) -> Option<&Arc<str>> {
        let by_district = district.and_then(|district| self.by_district.get(district));
        let chosen = by_district.and_then(|by_district| by_district.choose(passed_over, roll));
        chosen.or_else(|| self.all.choose(passed_over, roll))
    }
}

/// Pools by capacity. None is empty.
#[derive(Debug, Default)]
struct CapacityOrder(BTreeMap<FreeCapacity, CapacityPool>);

impl CapacityOrder {
    fn insert(&mut self, id: &Arc<str>, capacity: FreeCapacity) {
        self.0.entry(capacity).or_default().insert(id);
    }

    fn remove(&mut self, id: &str, capacity: FreeCapacity) {
        if let Some(pool) = self.0.get_mut(&capacity) {
            pool.remove(id);
            if pool.members.is_empty() {
                self.0.remove(&capacity);
            }
        }
    }

    fn choose(&self, passed_over: &[&str], roll: &mut dyn FnMut(u64) -> u64) -> Option<&Arc<str>> {
        let mut best_first = self.0.values().rev();
        best_first.find_map(|pool| pool.choose(passed_over, roll))
    }
}

/// Workers of one capacity in any order, for random access.
#[derive(Debug, Default)]
struct CapacityPool {
    members: Vec<Arc<str>>,
    at: HashMap<Arc<str>, usize>,
}

impl CapacityPool {
    fn insert(&mut self, id: &Arc<str>) {
        self.at.insert(Arc::clone(id), self.members.len());
        self.members.push(Arc::clone(id));
    }

    fn remove(&mut self, id: &str) {
        let Some(at) = self.at.remove(id) else {
            return;
        };
        self.members.swap_remove(at);
        if let Some(moved) = self.members.get(at) {
            self.at.insert(Arc::clone(moved), at);
        }
    }

    fn choose(&self, passed_over: &[&str], roll: &mut dyn FnMut(u64) -> u64) -> Option<&Arc<str>> {
        let out = passed_over.iter().filter_map(|id| self.at.get(*id));
        let mut out: Vec<usize> = out.copied().collect();
        out.sort_unstable();
        out.dedup();
        let left = self.members.len() - out.len();
        if left == 0 {
            return None;
        }
        // The n-th of those that are left.
        let mut n = usize::try_from(roll(left as u64)).unwrap_or(0);
        for out in out {
            n += usize::from(out <= n);
        }
        self.members.get(n)
    }
}
