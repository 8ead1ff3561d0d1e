//! A look at every worker, and random histories in which the fleet's `rooms` must choose as it does.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{PACE, beat};
use super::*;
use crate::clock;
use crate::ids::SessionId;
use crate::protocol::{Created, DrainOrder, Heartbeat, SessionView, Status};
use std::time::Duration;

const WORKERS: usize = 5;
const DISTRICTS: [&str; 2] = ["north", "south"];
/// Wishes: none, each district, and one where nobody is.
const WISHES: [Option<&str>; 4] = [None, Some("north"), Some("south"), Some("nowhere")];

/// Every worker than which none is better, found by looking at each.
fn best(
    fleet: &mut Fleet,
    now: Instant,
    wish: Option<&str>,
    passed: &[String],
) -> BTreeSet<String> {
    let open = fleet.placement_views(now).filter(|candidate| {
        let is_barred = candidate.is_quiet || candidate.is_draining || candidate.ejected.is_some();
        !is_barred && candidate.taken < candidate.max
    });
    let open: Vec<(String, usize, usize)> = open
        .map(|candidate| (candidate.id.to_string(), candidate.taken, candidate.max))
        .filter(|(id, ..)| !passed.contains(id))
        .collect();
    let is_near = |id: &str| Some(fleet.worker(now, id).unwrap().district.as_str()) == wish;
    // All slots counts of these tests divide 60.
    let rank = |(id, taken, max): &(String, usize, usize)| {
        (is_near(id), (max - taken) * 60 / max, Reverse(*taken))
    };
    let top = open.iter().map(rank).max();
    let equals = open.iter().filter(|worker| Some(rank(worker)) == top);
    equals.map(|(id, ..)| id.clone()).collect()
}

/// What the fleet chooses with each number that may be rolled.
fn chosen(fleet: &mut Fleet, now: Instant, wish: Option<&str>, passed: &[String]) -> Vec<String> {
    let passed: Vec<&str> = passed.iter().map(String::as_str).collect();
    'again: loop {
        let (mut all, mut sides) = (Vec::new(), 1);
        while (all.len() as u64) < sides {
            let (n, mut rolls) = (all.len() as u64, 0);
            let mut roll = |of| {
                (sides, rolls) = (of, rolls + 1);
                n.min(of - 1)
            };
            let Some(id) = fleet.choose(now, wish, &passed, &mut roll) else {
                return all;
            };
            if rolls > 1 {
                // One that turned out to be silent has left; the others are rolled for anew.
                continue 'again;
            }
            all.push(id.to_string());
        }
        return all;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Beat(Word),
    Relay(Word, bool),
    Unheard(usize),
    Blind(bool),
    Order(usize, bool),
    Place { wish: usize, seed: u64 },
    Outcome { pick: usize, what: u8 },
    Announce { worker: usize, session: usize },
    Gone(usize),
    Pass(u64),
    Sleep(u64),
}

/// What a worker says.
#[derive(Clone, Debug)]
struct Word {
    worker: usize,
    max: usize,
    district: usize,
    draining: bool,
    restarted: bool,
    sessions: Vec<usize>,
}

fn a_word() -> impl Strategy<Value = Word> {
    let max = prop::sample::select(vec![0, 1, 2, 3, 4, 5, 6, 10]);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let sessions = prop::collection::btree_set(0..6_usize, 0..4);
    (0..WORKERS, max, 0..DISTRICTS.len(), flags, sessions).prop_map(
        |(worker, max, district, (draining, restarted), sessions)| Word {
            worker,
            max,
            district,
            draining,
            restarted,
            sessions: sessions.into_iter().collect(),
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    let who = || 0..WORKERS;
    prop_oneof![
        12 => a_word().prop_map(Step::Beat),
        4 => (a_word(), prop::bool::weighted(0.8)).prop_map(|(word, heard)| Step::Relay(word, heard)),
        2 => who().prop_map(Step::Unheard),
        1 => any::<bool>().prop_map(Step::Blind),
        2 => (who(), any::<bool>()).prop_map(|(worker, drain)| Step::Order(worker, drain)),
        8 => (0..WISHES.len(), any::<u64>()).prop_map(|(wish, seed)| Step::Place { wish, seed }),
        6 => (any::<usize>(), 0..5_u8).prop_map(|(pick, what)| Step::Outcome { pick, what }),
        2 => (who(), 0..6_usize).prop_map(|(worker, session)| Step::Announce { worker, session }),
        2 => (0..6_usize).prop_map(Step::Gone),
        8 => (0..9_000_u64).prop_map(Step::Pass),
        1 => (1..200_u64).prop_map(Step::Sleep),
    ]
}

struct World {
    now: Instant,
    fleet: Fleet,
    sequence: u64,
    lives: [u64; WORKERS],
    held: Vec<Reservation>,
    sessions: Vec<SessionView>,
}

impl World {
    fn new() -> Self {
        let now = clock::now();
        let session = |_| {
            let id = SessionId::random().unwrap();
            let text = format!(
                r#"{{"id":"{id}","status":"ready","body_ip":"10.0.1.5","created_at":"","port":0,
                   "connected":false,"viewers":0,"disconnect_count":0,"duration_ms":0}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        Self {
            now,
            fleet: Fleet::new(now, PACE),
            sequence: 0,
            lives: [0; WORKERS],
            held: Vec::new(),
            sessions: (0..6).map(session).collect(),
        }
    }

    fn heartbeat(&mut self, word: &Word) -> Heartbeat {
        self.sequence += 1;
        self.lives[word.worker] += u64::from(word.restarted);
        let life = self.lives[word.worker];
        let sessions = word.sessions.iter().map(|n| self.sessions[*n].clone());
        Heartbeat {
            process_id: format!("p{life}"),
            replaces: (0..life).map(|n| format!("p{n}")).collect(),
            district: DISTRICTS[word.district].to_owned(),
            draining: word.draining,
            sequence: self.sequence,
            sessions: sessions.collect(),
            ..beat(&format!("w{}", word.worker), word.max)
        }
    }

    fn step(&mut self, step: Step) {
        let (now, wall) = (self.now, clock::wall());
        match step {
            Step::Beat(word) => {
                let beat = self.heartbeat(&word);
                let _ = self.fleet.heartbeat(now, wall, beat);
            }
            Step::Relay(word, is_heard) => {
                let beat = self.heartbeat(&word);
                self.fleet.relayed(now, wall, beat, is_heard);
            }
            Step::Unheard(worker) => self.fleet.unheard(now, &format!("w{worker}")),
            Step::Blind(is_blind) => self.fleet.set_store_away(now, is_blind),
            Step::Order(worker, drain) => {
                let _ = self
                    .fleet
                    .order_drain(&format!("w{worker}"), drain.then(DrainOrder::default));
            }
            Step::Place { wish, seed } => {
                let wish = super::tests::request(WISHES[wish]);
                let placed = Placement::new(&wish, seed).place(&mut self.fleet, now);
                self.held.extend(placed);
            }
            Step::Outcome { pick, what } if !self.held.is_empty() => {
                let reservation = self.held.swap_remove(pick % self.held.len());
                self.outcome(reservation, pick, what);
            }
            Step::Outcome { .. } => {}
            Step::Announce { worker, session } => {
                let view = self.sessions[session].clone();
                self.fleet.announced(now, &format!("w{worker}"), view);
            }
            Step::Gone(session) => {
                let id = self.sessions[session].id.clone();
                self.fleet.session_ending(&id, None);
            }
            Step::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                self.fleet.tick(self.now);
            }
            Step::Sleep(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    fn outcome(&mut self, reservation: Reservation, pick: usize, what: u8) {
        let (now, wall) = (self.now, clock::wall());
        let wish = super::tests::request(None);
        match what {
            0 => Placement::new(&wish, 1).refused(&mut self.fleet, reservation, String::new()),
            1 => self.fleet.refused(reservation),
            2 => self.fleet.outcome_unknown(now, reservation),
            3 => drop(reservation),
            _ => {
                let created = Created {
                    session_id: self.sessions[pick % self.sessions.len()].id.clone(),
                    stream_url: String::new(),
                    worker_id: reservation.worker_id().to_owned(),
                    status: Status::Ready,
                };
                self.fleet.created(now, wall, reservation, &wish, &created);
            }
        }
    }

    /// From the best worker to the last, whoever was passed over before.
    fn compare(&mut self) {
        for wish in WISHES {
            let mut passed: Vec<String> = Vec::new();
            loop {
                let best = best(&mut self.fleet, self.now, wish, &passed);
                let chosen = chosen(&mut self.fleet, self.now, wish, &passed);
                // Each of the equals for exactly one of the numbers: the choice is as fair as random.
                let each: BTreeSet<String> = chosen.iter().cloned().collect();
                assert_eq!(each, best, "{wish:?} without {passed:?}");
                assert_eq!(chosen.len(), best.len(), "{chosen:?}");
                match best.into_iter().next() {
                    Some(id) => passed.push(id),
                    None => break,
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn placement_chooses_as_if_it_looked_at_every_worker(
        steps in prop::collection::vec(a_step(), 0..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.compare();
        }
    }
}
