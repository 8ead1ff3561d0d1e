//! Where there is room, best first: what placement looks at instead of at every worker.
//!
//! Pure. Workers stand in pools of equals, and the pools in the order in which placement prefers
//! them: once for the whole fleet, and once for each district. There are as many pools as there are
//! different rooms, some dozens, however large the fleet is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Slots of a worker that has a free one. Greater is better: the larger free share, then the fewer
/// slots taken.
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

/// Where a worker stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) room: FreeCapacity,
    pub(super) district: String,
}

/// Workers that may be chosen.
#[derive(Debug, Default)]
pub(super) struct CapacityIndex {
    all: Order,
    near: HashMap<String, Order>,
}

impl CapacityIndex {
    pub(super) fn enter(&mut self, id: &Arc<str>, spot: &IndexEntry) {
        self.all.enter(id, spot.room);
        if !self.near.contains_key(&spot.district) {
            self.near.insert(spot.district.clone(), Order::default());
        }
        if let Some(near) = self.near.get_mut(&spot.district) {
            near.enter(id, spot.room);
        }
    }

    pub(super) fn leave(&mut self, id: &str, spot: &IndexEntry) {
        self.all.leave(id, spot.room);
        if let Some(near) = self.near.get_mut(&spot.district) {
            near.leave(id, spot.room);
            if near.0.is_empty() {
                self.near.remove(&spot.district);
            }
        }
    }

    /// One of the best but for those passed over, of `district` if it has any. `roll` gives a
    /// number below its argument, each with the same chance.
    pub(super) fn choose(
        &self,
        district: Option<&str>,
        passed_over: &[&str],
        roll: &mut dyn FnMut(u64) -> u64,
    ) -> Option<&Arc<str>> {
        let near = district.and_then(|district| self.near.get(district));
        let chosen = near.and_then(|near| near.choose(passed_over, roll));
        chosen.or_else(|| self.all.choose(passed_over, roll))
    }
}

/// Pools of equals. None is empty.
#[derive(Debug, Default)]
struct Order(BTreeMap<FreeCapacity, Pool>);

impl Order {
    fn enter(&mut self, id: &Arc<str>, room: FreeCapacity) {
        self.0.entry(room).or_default().enter(id);
    }

    fn leave(&mut self, id: &str, room: FreeCapacity) {
        if let Some(pool) = self.0.get_mut(&room) {
            pool.leave(id);
            if pool.members.is_empty() {
                self.0.remove(&room);
            }
        }
    }

    fn choose(&self, passed_over: &[&str], roll: &mut dyn FnMut(u64) -> u64) -> Option<&Arc<str>> {
        let mut best_first = self.0.values().rev();
        best_first.find_map(|pool| pool.choose(passed_over, roll))
    }
}

/// Equals, in no order, so that any of them is reached at once.
#[derive(Debug, Default)]
struct Pool {
    members: Vec<Arc<str>>,
    at: HashMap<Arc<str>, usize>,
}

impl Pool {
    fn enter(&mut self, id: &Arc<str>) {
        self.at.insert(Arc::clone(id), self.members.len());
        self.members.push(Arc::clone(id));
    }

    fn leave(&mut self, id: &str) {
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
