//! Sessions by the dozen, made and ended in every way by many at once; then all is as before.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::*;

const CLIENTS: usize = 8;
const SLOTS: usize = 6;
/// Sessions in CI's budget; `HYDRANECK_SOAK` asks for more.
const SESSIONS: usize = 60;

/// A small generator (splitmix64), so that a run can be repeated by its seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn after_many_sessions_all_is_as_before() {
    let sessions = number("HYDRANECK_SOAK").map_or(SESSIONS, |n| usize::try_from(n).unwrap());
    assert!(sessions <= 1_000, "the body double keeps 1,000 records");
    let seed = number("HYDRANECK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("soak: HYDRANECK_SOAK={sessions} HYDRANECK_SEED={seed}");
    let bench = Bench::new();
    let controller = bench.controller();
    let small = json!({"sessions": {"max": SLOTS}});
    let workers = [
        bench.worker("w1", Some(&controller), small.clone()),
        bench.worker("w2", Some(&controller), small),
    ];
    until("both workers", || {
        controller.get("/api/v1/health")["extra"]["max_sessions"] == 2 * SLOTS
    });
    // What is made once and kept is made now.
    let warm: Vec<String> = (0..4).map(|_| controller.session()).collect();
    for id in warm {
        assert_eq!(controller.delete(&id), 204);
    }
    workers.iter().for_each(Node::has_nothing_left);
    let nodes = [&controller, &workers[0], &workers[1]];
    let before = nodes.map(Node::counts);
    let (made, refused) = (Mutex::new(BTreeMap::new()), AtomicUsize::new(0));
    let left = AtomicUsize::new(sessions);
    let one_less = || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
    };
    at_once(CLIENTS, |n| {
        let mut dice = Dice(seed.wrapping_add(n as u64));
        let mut mine: Vec<(String, String)> = Vec::new();
        loop {
            let is_more = one_less();
            let mut keep = if is_more { 2 } else { 0 };
            if is_more {
                let answer = controller.create();
                if answer.status == 503 {
                    assert_eq!(answer.reason(), "no_capacity", "{}", answer.text());
                    // Somebody else makes it, or this client when it has made room.
                    left.fetch_add(1, Ordering::Relaxed);
                    refused.fetch_add(1, Ordering::Relaxed);
                    keep = mine.len().saturating_sub(1);
                    pause(Duration::from_millis(20));
                } else {
                    assert_eq!(answer.status, 201, "{}", answer.text());
                    let text = |field: &str| answer.json()[field].as_str().unwrap().to_owned();
                    mine.push((text("session_id"), text("worker_id")));
                }
            }
            for worker in &workers {
                let sessions = worker.sessions();
                let count = sessions.iter().filter(|s| s["status"] != "ending").count();
                assert!(count <= SLOTS, "I1: {count} sessions on {SLOTS} slots");
            }
            while mine.len() > keep {
                let at = usize::try_from(dice.roll(mine.len() as u64)).unwrap();
                let (id, owner) = mine.swap_remove(at);
                let worker = workers
                    .iter()
                    .find(|w| w.config["worker"]["id"] == *owner)
                    .unwrap();
                let how = match dice.roll(3) {
                    0 => {
                        assert_eq!(controller.delete(&id), 204);
                        assert_eq!(controller.delete(&id), 404, "I6");
                        "deleted"
                    }
                    1 => {
                        assert_eq!(
                            controller
                                .browse("POST", &format!("/session/{id}/quit"), None)
                                .status,
                            204
                        );
                        "quit"
                    }
                    _ => {
                        signal(worker.stream_process(&id), "KILL");
                        "process_exited"
                    }
                };
                worker.forgets(&id);
                controller.forgets(&id);
                made.lock().unwrap().insert(id, how);
            }
            if !is_more && mine.is_empty() {
                return;
            }
        }
    });
    let made = made.into_inner().unwrap();
    assert_eq!(made.len(), sessions, "I3");
    eprintln!("soak: refused {} times", refused.into_inner());
    for (id, how) in &made {
        assert_eq!(bench.one_record(id)["end_reason"], *how, "I7");
    }
    let unique: HashSet<_> = made.keys().collect();
    assert_eq!(unique.len(), made.len(), "I2");
    for worker in &workers {
        worker.has_nothing_left();
    }
    until("no pairing to be left", || bench.body.clients().is_empty());
    assert_eq!(bench.body.running(), None);
    for (node, before) in nodes.into_iter().zip(before) {
        // Idle connections between the roles come and go.
        until("the descriptors to be closed", || {
            node.descriptors() <= before.descriptors + 8
        });
        let after = node.counts();
        eprintln!("soak: {}\n  {before:?}\n  {after:?}", node.at);
        assert!(after.resident < before.resident + 32 * 1024);
        let left = (after.processes, after.ports, after.files);
        assert_eq!(left, (before.processes, before.ports, before.files));
    }
}
