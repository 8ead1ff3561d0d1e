//! The fleet's promises, one by one, in virtual time.

use super::*;
use crate::clock;
use crate::protocol::{CreateSession, Created, EndReason, WorkerStatus};

pub(super) const PACE: HeartbeatTiming = HeartbeatTiming {
    heartbeat_interval: Duration::from_secs(5),
    heartbeat_timeout: Duration::from_secs(60),
};

pub(super) fn beat(worker: &str, process: &str, sequence: u64) -> Heartbeat {
    Heartbeat {
        worker_id: worker.to_owned(),
        process_id: process.to_owned(),
        url: format!("http://{worker}:8090"),
        public_url: None,
        district: "bxl1".to_owned(),
        version: "0.1.0".to_owned(),
        max_sessions: 15,
        wireguard: true,
        draining: false,
        refuses: None,
        sequence,
        replaces: Vec::new(),
        drain_ordered: false,
        drain_deadline: None,
        sessions: Vec::new().into(),
    }
}

pub(super) fn request(body: u8) -> CreateSession {
    let text = format!(r#"{{"body_ip":"10.0.1.{body}"}}"#);
    serde_json::from_str(&text).unwrap()
}

pub(super) fn session(status: Status) -> SessionView {
    let id = SessionId::random().unwrap();
    let text = format!(
        r#"{{"id":"{id}","status":"{status}","body_ip":"10.0.1.1","created_at":"","connected":false,
           "viewers":0,"disconnect_count":0,"duration_ms":0,"port":0}}"#
    );
    serde_json::from_str(&text).unwrap()
}

/// A fleet with its own virtual time.
struct Rig {
    now: Instant,
    fleet: Fleet,
    names: Vec<&'static str>,
}

impl Rig {
    fn new() -> Self {
        let now = clock::now();
        Self {
            now,
            fleet: Fleet::new(now, PACE),
            names: Vec::new(),
        }
    }

    fn hear(&mut self, beat: Heartbeat) -> HeartbeatOutcome {
        let beat = self.fleet.heartbeat(self.now, clock::wall(), beat).unwrap();
        self.names = beat.events.iter().map(|e| e.change.name()).collect();
        beat
    }

    fn refuses(&mut self, beat: Heartbeat) -> bool {
        let answer = self.fleet.heartbeat(self.now, clock::wall(), beat);
        matches!(answer, Err(FleetError::DuplicateWorker { .. }))
    }

    /// Lets time pass, ticking every second.
    fn pass(&mut self, seconds: u64) -> Vec<&'static str> {
        let mut names = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            let events = self.fleet.tick(self.now);
            names.extend(events.iter().map(|e| e.change.name()));
        }
        names
    }

    fn status(&self) -> WorkerStatus {
        self.fleet.worker(self.now, "w").unwrap().status
    }
}

fn with(sequence: u64, sessions: &[&SessionView]) -> Heartbeat {
    Heartbeat {
        sessions: sessions.iter().map(|s| (*s).clone()).collect(),
        ..beat("w", "p", sequence)
    }
}

#[test]
fn a_worker_is_up_once_then_down_once_then_up_again() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "p", 1));
    assert_eq!(rig.names, ["worker_up"]);
    rig.hear(beat("w", "p", 2));
    assert!(rig.names.is_empty());
    assert_eq!(rig.pass(60), [""; 0]);
    assert_eq!(rig.status(), WorkerStatus::Healthy);
    assert_eq!(rig.pass(30), ["worker_down"]);
    assert_eq!(rig.status(), WorkerStatus::Unhealthy);
    rig.hear(beat("w", "p", 3));
    assert_eq!(rig.names, ["worker_up"]);
}

#[test]
fn a_session_is_told_step_by_step_and_each_step_once() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "p", 1));
    let mut s = session(Status::Starting);
    let steps: [(Status, &[&str]); 6] = [
        (Status::Starting, &["session_created"]),
        (Status::Ready, &["session_ready"]),
        (Status::Connected, &["session_connected"]),
        (Status::Lingering, &["session_lingering"]),
        (Status::Ending, &[]),
        (Status::Ended, &["session_ended"]),
    ];
    for (n, (status, names)) in steps.into_iter().enumerate() {
        s.status = status;
        let sequence = 2 + 2 * n as u64;
        rig.hear(with(sequence, &[&s]));
        assert_eq!(rig.names, names);
        rig.hear(with(sequence + 1, &[&s]));
        assert!(rig.names.is_empty(), "{status} told twice");
    }
    assert_eq!(rig.fleet.session_owner(&s.id), None);
}

#[test]
fn a_late_or_doubled_heartbeat_changes_nothing() {
    let mut rig = Rig::new();
    let s = session(Status::Ready);
    rig.hear(beat("w", "p", 1));
    rig.hear(with(3, &[&s]));
    for late in [1, 2, 3] {
        let answer = rig.hear(beat("w", "p", late));
        assert!(!answer.is_fresh && rig.names.is_empty());
    }
    assert!(rig.fleet.session_owner(&s.id).is_some());
}

#[test]
fn a_second_process_is_refused_until_the_first_is_silent() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "first", 1));
    assert!(rig.refuses(beat("w", "second", 1)));
    rig.pass(14);
    assert!(rig.refuses(beat("w", "second", 2)));
    rig.pass(1);
    let answer = rig.hear(beat("w", "second", 3));
    assert_eq!(answer.replaced.as_deref(), Some("first"));
    assert!(
        rig.refuses(beat("w", "first", 2)),
        "now it is the other way round"
    );
}

#[test]
fn a_restarted_worker_takes_its_predecessors_place_at_once() {
    let mut rig = Rig::new();
    let s = session(Status::Connected);
    rig.hear(beat("w", "p", 8));
    rig.hear(with(9, &[&s]));
    let successor = Heartbeat {
        process_id: "q".to_owned(),
        replaces: vec!["never-heard".to_owned(), "p".to_owned()],
        sequence: 1,
        ..with(1, &[&s])
    };
    let answer = rig.hear(successor);
    assert_eq!(answer.replaced.as_deref(), Some("p"));
    assert!(rig.names.is_empty(), "the session goes on: {:?}", rig.names);
    rig.pass(30);
    assert!(
        rig.refuses(beat("w", "p", 10)),
        "a dead process's last word came late"
    );
}

#[test]
fn sessions_outlive_a_silent_worker_until_it_is_surely_dead() {
    let mut rig = Rig::new();
    let s = session(Status::Connected);
    rig.hear(beat("w", "p", 1));
    rig.hear(with(2, &[&s]));
    assert_eq!(rig.pass(120), ["worker_down"]);
    assert!(rig.fleet.session_owner(&s.id).is_some());
    assert_eq!(rig.pass(2), ["session_lost"]);
    assert_eq!(rig.fleet.session_owner(&s.id), None);
    rig.hear(with(3, &[&s]));
    assert_eq!(rig.names[..2], ["worker_up", "session_found"]);
    assert!(rig.fleet.session_owner(&s.id).is_some());
}

#[test]
fn a_session_absent_from_the_full_list_is_gone() {
    let mut rig = Rig::new();
    let s = session(Status::Ready);
    rig.hear(beat("w", "p", 1));
    rig.hear(with(2, &[&s]));
    rig.hear(beat("w", "p", 3));
    assert_eq!(rig.names, ["session_ended"]);
}

#[test]
fn a_deleted_session_does_not_come_back_with_an_older_word() {
    let mut rig = Rig::new();
    let s = session(Status::Connected);
    rig.hear(beat("w", "p", 1));
    rig.hear(with(2, &[&s]));
    rig.fleet.session_ending(&s.id, Some(EndReason::Deleted));
    rig.hear(with(3, &[&s]));
    assert!(rig.names.is_empty());
    let (_, view) = rig.fleet.session(&s.id).unwrap();
    let said = (view.status, view.end_reason);
    assert_eq!(said, (Status::Ending, Some(EndReason::Deleted)));
    rig.hear(beat("w", "p", 4));
    assert_eq!(rig.names, ["session_ended"]);
    rig.hear(with(5, &[&s]));
    assert!(rig.names.is_empty(), "nor when it was told gone");
}

#[test]
fn a_created_session_survives_a_heartbeat_that_was_under_way() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "p", 1));
    let (s, request) = (session(Status::Ready), request(1));
    let answer = Created {
        session_id: s.id.clone(),
        stream_url: String::new(),
        worker_id: "w".to_owned(),
        status: Status::Ready,
    };
    let seat = rig.fleet.reserve("w", request.body_ip).unwrap();
    let wall = clock::wall();
    let events = rig.fleet.created(rig.now, wall, seat, &request, &answer);
    assert_eq!(events.len(), 2, "created and ready");
    rig.hear(beat("w", "p", 2));
    rig.pass(3);
    rig.hear(beat("w", "p", 3));
    assert!(rig.fleet.session_owner(&s.id).is_some());
    rig.hear(with(4, &[&s]));
    assert!(rig.names.is_empty());
    rig.hear(beat("w", "p", 5));
    assert_eq!(rig.names, ["session_ended"]);
}

#[test]
fn a_worker_that_claims_all_slots_there_can_be_breaks_no_sum() {
    let mut rig = Rig::new();
    for name in ["v", "w"] {
        rig.hear(Heartbeat {
            max_sessions: usize::MAX,
            ..beat(name, "p", 1)
        });
    }
    assert_eq!(rig.fleet.totals(rig.now).max_sessions, usize::MAX);
    assert_eq!(rig.fleet.worker(rig.now, "w").unwrap().active_sessions, 0);
}

#[test]
fn a_create_that_is_answered_as_ready_is_ready_although_a_heartbeat_showed_it_starting() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "p", 1));
    let request = request(1);
    let seat = rig.fleet.reserve("w", request.body_ip).unwrap();
    let starting = session(Status::Starting);
    rig.hear(with(2, &[&starting]));
    assert_eq!(rig.names, ["session_created"]);
    let answer = Created {
        session_id: starting.id.clone(),
        stream_url: String::new(),
        worker_id: "w".to_owned(),
        status: Status::Ready,
    };
    let wall = clock::wall();
    let events = rig.fleet.created(rig.now, wall, seat, &request, &answer);
    assert_eq!(events.len(), 1, "ready, once");
    let (_, shown) = rig.fleet.session(&starting.id).unwrap();
    assert_eq!((shown.status, shown.phase), (Status::Ready, None));
    let ready = SessionView {
        status: Status::Ready,
        ..starting
    };
    rig.hear(with(3, &[&ready]));
    assert!(rig.names.is_empty());
    assert_eq!(rig.fleet.worker(rig.now, "w").unwrap().active_sessions, 1);
}

#[test]
fn a_session_that_was_announced_but_never_shown_is_given_up() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "p", 1));
    let request = request(1);
    let answer = Created {
        session_id: SessionId::random().unwrap(),
        stream_url: String::new(),
        worker_id: "w".to_owned(),
        status: Status::Starting,
    };
    let seat = rig.fleet.reserve("w", request.body_ip).unwrap();
    let wall = clock::wall();
    let _ = rig.fleet.created(rig.now, wall, seat, &request, &answer);
    for sequence in 2..4 {
        rig.pass(5);
        assert!(rig.fleet.session_owner(&answer.session_id).is_some());
        rig.hear(beat("w", "p", sequence));
    }
    assert_eq!(rig.names, ["session_ended"]);
    assert_eq!(rig.fleet.worker(rig.now, "w").unwrap().active_sessions, 0);
}

#[test]
fn a_drain_order_outlives_the_workers_and_the_controllers_restart() {
    let mut rig = Rig::new();
    rig.hear(beat("w", "p", 1));
    let deadline = SystemTime::UNIX_EPOCH + Duration::from_secs(3_600);
    let order = DrainOrder {
        deadline: Some(clock::rfc3339(deadline)),
    };
    let events = rig.fleet.order_drain("w", Some(order)).unwrap();
    assert_eq!(events[0].change, FleetChange::WorkerDraining);
    assert_eq!(rig.status(), WorkerStatus::Draining);
    let restarted = Heartbeat {
        replaces: vec!["p".to_owned()],
        ..beat("w", "q", 1)
    };
    let reply = rig.hear(restarted).reply;
    assert!(reply.drain == Some(true) && rig.names.is_empty());
    assert_eq!(
        reply.drain_deadline.as_deref(),
        Some("1970-01-01T01:00:00Z")
    );

    let obeying = Heartbeat {
        drain_ordered: true,
        drain_deadline: reply.drain_deadline,
        ..beat("w", "q", 2)
    };
    let mut successor = Rig::new();
    let reply = successor.hear(obeying.clone()).reply;
    assert!(reply.drain == Some(true) && reply.drain_deadline.is_some());
    let events = successor.fleet.order_drain("w", None).unwrap();
    assert_eq!(events[0].change, FleetChange::WorkerUndrained);
    let late = Heartbeat {
        sequence: 3,
        ..obeying
    };
    assert!(
        successor.hear(late).reply.drain == Some(false),
        "the controller's word counts"
    );
    let unknown = successor.fleet.order_drain("x", None).unwrap_err();
    assert!(unknown.to_string().contains("worker x"));
}

#[test]
fn a_new_controller_is_warm_when_every_worker_had_time_to_speak_and_finds_running_sessions() {
    let mut rig = Rig::new();
    assert!(!rig.fleet.is_warm(rig.now));
    let s = session(Status::Connected);
    rig.hear(with(7, &[&s]));
    assert_eq!(
        rig.names,
        ["worker_up", "session_found", "session_connected"]
    );
    rig.pass(16);
    assert!(
        !rig.fleet.is_warm(rig.now),
        "a worker's pause may be longer than a round"
    );
    rig.pass(4);
    assert!(rig.fleet.is_warm(rig.now));
}

#[test]
fn a_controller_that_slept_blames_no_worker() {
    let mut rig = Rig::new();
    let s = session(Status::Connected);
    rig.hear(beat("w", "p", 1));
    rig.hear(with(2, &[&s]));
    rig.pass(20);
    rig.now += Duration::from_secs(900);
    assert!(rig.pass(1).is_empty());
    assert_eq!(rig.status(), WorkerStatus::Healthy);
    assert!(!rig.fleet.is_warm(rig.now));
    assert!(rig.fleet.session_owner(&s.id).is_some());
}

#[test]
fn a_session_moves_to_a_renamed_worker_only_when_the_old_name_is_silent() {
    let mut rig = Rig::new();
    let s = session(Status::Connected);
    rig.hear(with(1, &[&s]));
    let renamed = |sequence| Heartbeat {
        sessions: vec![s.clone()].into(),
        ..beat("v", "q", sequence)
    };
    rig.hear(renamed(1));
    assert_eq!(rig.fleet.session_owner(&s.id).unwrap().worker_id, "w");
    rig.pass(15);
    rig.hear(renamed(2));
    assert_eq!(rig.fleet.session_owner(&s.id).unwrap().worker_id, "v");
}

#[test]
fn health_sums_count_only_workers_that_are_heard() {
    let mut rig = Rig::new();
    assert!(!rig.fleet.totals(rig.now).has_wireguard);
    rig.hear(with(
        1,
        &[&session(Status::Ready), &session(Status::Ending)],
    ));
    rig.pass(70);
    rig.hear(Heartbeat {
        wireguard: false,
        ..beat("v", "q", 1)
    });
    let totals = rig.fleet.totals(rig.now);
    assert_eq!((rig.fleet.known(), totals.healthy), (2, 1));
    assert_eq!((totals.active_sessions, totals.max_sessions), (0, 15));
    assert!(!totals.has_wireguard);
    rig.hear(with(
        2,
        &[&session(Status::Ready), &session(Status::Ending)],
    ));
    let totals = rig.fleet.totals(rig.now);
    // One that ends has given its slot back.
    assert_eq!((totals.active_sessions, totals.max_sessions), (1, 30));
}
