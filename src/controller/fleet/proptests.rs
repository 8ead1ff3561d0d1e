//! Random histories of workers, messages and creates: whatever is late, lost or doubled, the
//! fleet neither overfills a worker nor loses or revives a session, and ends up with the truth.

use std::collections::HashSet;

use proptest::prelude::*;

use super::tests::{PACE, beat, request, session};
use super::*;
use crate::clock;
use crate::controller::placement::Placement;
use crate::protocol::{CreateSession, Created, EndReason, WorkerStatus};

/// Longest a message is under way: below the heartbeat interval, as its sender gives up then.
const FLIGHT_MAX: Duration = Duration::from_secs(4);
/// Slots of each simulated worker.
const SLOTS: usize = 3;
const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Compose(usize),
    Deliver {
        pick: usize,
        again: bool,
        reply: bool,
    },
    Lose(usize),
    Place {
        body: u8,
        seed: u64,
    },
    Admit(usize),
    Answer {
        pick: usize,
        lost: bool,
    },
    Advance {
        worker: usize,
        pick: usize,
    },
    End {
        worker: usize,
        pick: usize,
    },
    Delete {
        worker: usize,
        pick: usize,
    },
    Restart(usize),
    Pass(u64),
}

fn a_step() -> impl Strategy<Value = Step> {
    let pick = || any::<usize>();
    let who = || 0..WORKERS;
    prop_oneof![
        6 => who().prop_map(Step::Compose),
        6 => (pick(), prop::bool::weighted(0.2), prop::bool::weighted(0.8))
            .prop_map(|(pick, again, reply)| Step::Deliver { pick, again, reply }),
        1 => pick().prop_map(Step::Lose),
        6 => (0..3_u8, any::<u64>()).prop_map(|(body, seed)| Step::Place { body, seed }),
        6 => pick().prop_map(Step::Admit),
        5 => (pick(), prop::bool::weighted(0.2))
            .prop_map(|(pick, lost)| Step::Answer { pick, lost }),
        3 => (who(), pick()).prop_map(|(worker, pick)| Step::Advance { worker, pick }),
        2 => (who(), pick()).prop_map(|(worker, pick)| Step::End { worker, pick }),
        1 => (who(), pick()).prop_map(|(worker, pick)| Step::Delete { worker, pick }),
        1 => who().prop_map(Step::Restart),
        6 => (0..3_000_u64).prop_map(Step::Pass),
    ]
}

/// A worker as it truly is.
struct Truth {
    id: String,
    life: u64,
    sequence: u64,
    live: Vec<SessionView>,
    ended: Vec<SessionView>,
}

/// A create under way.
struct Create {
    reservation: Reservation,
    request: CreateSession,
    sent: Instant,
    made: Option<Created>,
}

struct World {
    now: Instant,
    fleet: Fleet,
    truths: Vec<Truth>,
    beats: Vec<(Instant, Heartbeat)>,
    creates: Vec<Create>,
    created: HashSet<SessionId>,
    ended: HashSet<SessionId>,
}

impl World {
    fn new() -> Self {
        let now = clock::now();
        let truth = |n| Truth {
            id: format!("w{n}"),
            life: 1,
            sequence: 0,
            live: Vec::new(),
            ended: Vec::new(),
        };
        let mut world = Self {
            now,
            fleet: Fleet::new(now, PACE),
            truths: (0..WORKERS).map(truth).collect(),
            beats: Vec::new(),
            creates: Vec::new(),
            created: HashSet::new(),
            ended: HashSet::new(),
        };
        world.round();
        world
    }

    fn compose(&mut self, n: usize) {
        let truth = &mut self.truths[n];
        truth.sequence += 1;
        let mut beat = beat(&truth.id, &format!("p{}", truth.life), truth.sequence);
        beat.max_sessions = SLOTS;
        beat.replaces = (1..truth.life).rev().map(|n| format!("p{n}")).collect();
        beat.sessions = truth.live.iter().chain(&truth.ended).cloned().collect();
        self.beats.push((self.now, beat));
    }

    fn deliver(&mut self, at: usize, again: bool, reply: bool) {
        let (sent, beat) = if again {
            self.beats[at].clone()
        } else {
            self.beats.remove(at)
        };
        if self.now - sent > FLIGHT_MAX {
            return;
        }
        let wall = clock::wall();
        let answer = self.fleet.heartbeat(self.now, wall, beat.clone());
        let truth = self
            .truths
            .iter_mut()
            .find(|t| t.id == beat.worker_id)
            .unwrap();
        let is_current = beat.process_id == format!("p{}", truth.life);
        match answer {
            Err(refused) => assert!(!is_current, "{refused}"),
            Ok(answer) => {
                if reply && is_current {
                    truth.ended.retain(|ended| !beat.sessions.contains(ended));
                }
                self.witness(answer.events);
            }
        }
    }

    fn witness(&mut self, events: Vec<FleetEvent>) {
        for event in events {
            match event.change {
                FleetChange::SessionCreated(id) => {
                    assert!(self.created.insert(id.clone()), "{id} created twice");
                    assert!(!self.ended.contains(&id), "{id} came back");
                }
                FleetChange::SessionEnded(id, _) => {
                    assert!(self.created.contains(&id), "{id} ended before its start");
                    assert!(self.ended.insert(id.clone()), "{id} ended twice");
                }
                FleetChange::SessionLost(id) | FleetChange::SessionFound(id) => {
                    panic!("{id} was not away")
                }
                _ => {}
            }
        }
        for truth in &self.truths {
            for live in &truth.live {
                assert!(!self.ended.contains(&live.id), "{} is alive", live.id);
            }
        }
        for id in self.created.difference(&self.ended) {
            assert!(self.fleet.session_owner(id).is_some(), "{id} was lost");
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Compose(n) => self.compose(n),
            Step::Deliver { pick, again, reply } if !self.beats.is_empty() => {
                self.deliver(pick % self.beats.len(), again, reply);
            }
            Step::Lose(pick) if !self.beats.is_empty() => {
                self.beats.swap_remove(pick % self.beats.len());
            }
            Step::Place { body, seed } => self.place(body, seed),
            Step::Admit(pick) if !self.creates.is_empty() => {
                self.admit(pick % self.creates.len());
            }
            Step::Answer { pick, lost } if !self.creates.is_empty() => {
                self.answer(pick % self.creates.len(), lost);
            }
            Step::Advance { worker, pick } => {
                let live = &mut self.truths[worker].live;
                if !live.is_empty() {
                    let at = pick % live.len();
                    live[at].status = match live[at].status {
                        Status::Starting => Status::Ready,
                        Status::Connected => Status::Lingering,
                        _ => Status::Connected,
                    };
                }
            }
            Step::End { worker, pick } => drop(self.end(worker, pick)),
            Step::Delete { worker, pick } => {
                if let Some(id) = self.end(worker, pick) {
                    self.fleet.session_ending(&id, Some(EndReason::Deleted));
                }
            }
            Step::Restart(n) => {
                self.truths[n].life += 1;
                self.truths[n].sequence = 0;
            }
            Step::Pass(ms) => self.pass(ms),
            _ => {}
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for n in 0..WORKERS {
            // A worker is never away for long here: that is another test's subject.
            let worker = self.fleet.worker(self.now, &self.truths[n].id).unwrap();
            if worker.status == WorkerStatus::Unhealthy {
                self.compose(n);
                self.deliver(self.beats.len() - 1, false, true);
            }
        }
        let events = self.fleet.tick(self.now);
        self.witness(events);
    }

    fn place(&mut self, body: u8, seed: u64) {
        let request = request(body);
        let mut placement = Placement::new(&request, seed);
        if let Ok(reservation) = placement.place(&mut self.fleet, self.now) {
            self.creates.push(Create {
                reservation,
                request,
                sent: self.now,
                made: None,
            });
        }
    }

    fn admit(&mut self, at: usize) {
        let create = &mut self.creates[at];
        if create.made.is_some() || self.now - create.sent > FLIGHT_MAX {
            return;
        }
        let worker_id = create.reservation.worker_id().to_owned();
        let truth = self.truths.iter_mut().find(|t| t.id == worker_id).unwrap();
        assert!(truth.live.len() < SLOTS, "{worker_id} was overfilled");
        let mut view = session(Status::Starting);
        view.body_ip = Some(create.request.body_ip);
        create.made = Some(Created {
            session_id: view.id.clone(),
            stream_url: String::new(),
            worker_id,
            status: view.status,
        });
        truth.live.push(view);
    }

    fn answer(&mut self, at: usize, lost: bool) {
        if self.creates[at].made.is_none() && self.now - self.creates[at].sent <= FLIGHT_MAX {
            return;
        }
        let create = self.creates.swap_remove(at);
        let Some(made) = create.made.filter(|_| !lost) else {
            self.fleet.outcome_unknown(self.now, create.reservation);
            return;
        };
        let (now, wall) = (self.now, clock::wall());
        let events = self
            .fleet
            .created(now, wall, create.reservation, &create.request, &made);
        self.witness(events);
    }

    fn end(&mut self, worker: usize, pick: usize) -> Option<SessionId> {
        let truth = &mut self.truths[worker];
        if truth.live.is_empty() {
            return None;
        }
        let mut view = truth.live.swap_remove(pick % truth.live.len());
        view.status = Status::Ended;
        view.end_reason = Some(EndReason::Quit);
        let id = view.id.clone();
        truth.ended.push(view);
        Some(id)
    }

    /// Every worker speaks and is heard.
    fn round(&mut self) {
        self.beats.clear();
        for n in 0..WORKERS {
            self.compose(n);
            self.deliver(0, false, true);
        }
    }

    /// Faults stop.
    fn settle(&mut self) {
        while !self.creates.is_empty() {
            self.answer(0, false);
            self.pass(1_000);
        }
        for _ in 0..4 {
            self.pass(PACE.heartbeat_interval.as_millis() as u64);
            self.round();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_fleet_never_overfills_loses_or_revives_and_ends_with_the_truth(
        steps in prop::collection::vec(a_step(), 0..200),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        let now = world.now;
        for truth in &world.truths {
            let told = world.fleet.sessions();
            let told = told.iter().find(|w| w.worker_id == truth.id).unwrap();
            let told: HashSet<_> = told.sessions.iter().map(|s| &s.id).collect();
            let live: HashSet<_> = truth.live.iter().map(|s| &s.id).collect();
            prop_assert_eq!(told, live);
            prop_assert_eq!(
                world.fleet.worker(now, &truth.id).unwrap().active_sessions,
                truth.live.len()
            );
        }
        // No seat is left over: exactly the free slots can be promised.
        let free: usize = world.truths.iter().map(|t| SLOTS - t.live.len()).sum();
        let mut promised = Vec::new();
        while let Ok(reservation) =
            Placement::new(&request(9), 7).place(&mut world.fleet, now)
        {
            promised.push(reservation);
        }
        prop_assert_eq!(promised.len(), free);
        for reservation in promised {
            world.fleet.refused(reservation);
        }
        prop_assert!(free == 0 || Placement::new(&request(9), 7).place(&mut world.fleet, now).is_ok());
    }
}
