//! Placement's promises.

use super::*;
use crate::clock;
use crate::controller::fleet::HeartbeatTiming;
use crate::ids::SessionId;
use crate::protocol::{Created, DrainOrder, Heartbeat, Status};
use std::collections::HashMap;
use std::time::Duration;

pub(super) const PACE: HeartbeatTiming = HeartbeatTiming {
    heartbeat_interval: Duration::from_secs(5),
    heartbeat_timeout: Duration::from_secs(60),
};

pub(super) fn beat(worker: &str, max: usize) -> Heartbeat {
    let text = format!(
        r#"{{"worker_id":"{worker}","process_id":"p","url":"http://{worker}","max_sessions":{max}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

pub(super) fn request(district: Option<&str>) -> CreateSession {
    let mut request: CreateSession = serde_json::from_str(r#"{"body_ip":"10.0.1.5"}"#).unwrap();
    request.district = district.map(str::to_owned);
    request
}

fn fleet(now: Instant, beats: impl IntoIterator<Item = Heartbeat>) -> Fleet {
    let mut fleet = Fleet::new(now, PACE);
    for beat in beats {
        fleet.heartbeat(now, clock::wall(), beat).unwrap();
    }
    fleet
}

fn place(fleet: &mut Fleet, now: Instant, seed: u64) -> Result<Reservation, NoPlace> {
    Placement::new(&request(None), seed).place(fleet, now)
}

#[test]
fn parallel_creates_spread_evenly_and_never_overfill() {
    let now = clock::now();
    let mut fleet = fleet(now, ["a", "b", "c"].map(|id| beat(id, 12)));
    let mut held: Vec<Reservation> = Vec::new();
    for n in 0..36 {
        held.push(place(&mut fleet, now, n).unwrap());
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for reservation in &held {
            *counts.entry(reservation.worker_id()).or_default() += 1;
        }
        let all = ["a", "b", "c"].map(|id| counts.get(id).copied().unwrap_or(0));
        assert!(all.iter().max().unwrap() - all.iter().min().unwrap() <= 1);
    }
    let full = place(&mut fleet, now, 1).unwrap_err();
    assert_eq!(full.reason.slug(), "no_capacity");
    assert!(
        full.to_string().contains("b: 12 of 12 slots taken"),
        "{full}"
    );
}

#[test]
fn the_most_room_in_proportion_wins_then_the_fewest_sessions() {
    let now = clock::now();
    let mut fleet = fleet(now, [beat("big", 20), beat("small", 4)]);
    let picks: Vec<Reservation> = (0..12)
        .map(|n| place(&mut fleet, now, n).unwrap())
        .collect();
    let big = picks.iter().filter(|r| r.worker_id() == "big").count();
    assert_eq!(big, 10);
}

#[test]
fn equals_are_chosen_by_chance() {
    let now = clock::now();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for seed in 0..3_000 {
        let mut fleet = fleet(now, ["a", "b", "c"].map(|id| beat(id, 5)));
        let chosen = place(&mut fleet, now, seed).unwrap();
        *counts.entry(chosen.worker_id().to_owned()).or_default() += 1;
    }
    for id in ["a", "b", "c"] {
        assert!((900..1_100).contains(&counts[id]), "{counts:?}");
    }
}

#[test]
fn a_refusal_leads_to_the_next_and_every_reason_reaches_the_caller() {
    let now = clock::now();
    let mut fleet = fleet(now, ["a", "b"].map(|id| beat(id, 5)));
    let mut placement = Placement::new(&request(None), 1);
    let first = placement.place(&mut fleet, now).unwrap();
    let name = first.worker_id().to_owned();
    placement.refused(&mut fleet, first, "full".to_owned());
    let second = placement.place(&mut fleet, now).unwrap();
    assert_ne!(second.worker_id(), name);
    let other = second.worker_id().to_owned();
    let why = "port range used up".to_owned();
    placement.refused(&mut fleet, second, why);
    let none = placement.place(&mut fleet, now).unwrap_err();
    assert_eq!(none.reason, NoPlaceReason::NoCapacity);
    let reasons: Vec<&str> = none.workers.iter().map(|(_, why)| why.as_str()).collect();
    assert!(reasons.contains(&"full") && reasons.contains(&"port range used up"));

    // Neither is asked by others until it is heard again.
    assert!(place(&mut fleet, now, 1).is_err());
    fleet
        .heartbeat(now, clock::wall(), beat(&other, 5))
        .unwrap();
    for seed in 0..20 {
        let chosen = place(&mut fleet, now, seed).unwrap();
        assert_eq!(chosen.worker_id(), other);
        fleet.refused(chosen);
    }
    fleet.heartbeat(now, clock::wall(), beat(&name, 5)).unwrap();
    assert!((0..20).any(|seed| {
        let chosen = place(&mut fleet, now, seed).unwrap();
        let is_back = chosen.worker_id() == name;
        fleet.refused(chosen);
        is_back
    }));
}

#[test]
fn the_requests_district_comes_first_while_it_has_room() {
    let now = clock::now();
    let near = Heartbeat {
        district: "bxl1".to_owned(),
        ..beat("near", 2)
    };
    let mut fleet = fleet(now, [beat("far", 100), near]);
    let request = request(Some("bxl1"));
    let mut pick = || Placement::new(&request, 3).place(&mut fleet, now).unwrap();
    let picks = [pick(), pick(), pick()];
    let names = picks.each_ref().map(Reservation::worker_id);
    assert_eq!(names, ["near", "near", "far"]);
}

#[test]
fn silent_and_draining_workers_get_nothing() {
    let now = clock::now();
    let mut empty = Fleet::new(now, PACE);
    let none = place(&mut empty, now, 1).unwrap_err();
    assert_eq!(none.reason, NoPlaceReason::NoWorkers);

    let mut fleet = fleet(now, [beat("w", 5)]);
    fleet.order_drain("w", Some(DrainOrder::default())).unwrap();
    let draining = place(&mut fleet, now, 1).unwrap_err();
    assert_eq!(draining.reason, NoPlaceReason::AllDraining);
    fleet.order_drain("w", None).unwrap();
    let mut at = now;
    while at < now + PACE.heartbeat_interval * 3 {
        assert!(place(&mut fleet, at, 1).is_ok());
        at += Duration::from_secs(4);
        let _ = fleet.tick(at);
    }
    let silent = place(&mut fleet, at, 1).unwrap_err();
    assert_eq!(silent.reason, NoPlaceReason::NoWorkers);
    assert!(silent.to_string().contains("silent for 16s"), "{silent}");
}

#[test]
fn an_outcome_nobody_knows_keeps_the_slot_until_heartbeats_tell() {
    let mut now = clock::now();
    let mut fleet = fleet(now, [beat("w", 1)]);
    drop(place(&mut fleet, now, 1).unwrap());
    for _ in 0..2 {
        assert!(place(&mut fleet, now, 1).is_err());
        now += Duration::from_secs(5);
        let _ = fleet.tick(now);
        fleet.heartbeat(now, clock::wall(), beat("w", 1)).unwrap();
    }
    now += Duration::from_secs(5);
    fleet.heartbeat(now, clock::wall(), beat("w", 1)).unwrap();
    assert!(place(&mut fleet, now, 1).is_ok());
}

/// A worker's heartbeat with these sessions, all for the body that every request here names.
fn showing(max: usize, sequence: u64, ids: &[&SessionId]) -> Heartbeat {
    let view = |id: &&SessionId| {
        let text = format!(
            r#"{{"id":"{id}","status":"starting","body_ip":"10.0.1.5","created_at":"","port":0,
               "connected":false,"viewers":0,"disconnect_count":0,"duration_ms":0}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    Heartbeat {
        sequence,
        sessions: ids.iter().map(view).collect(),
        ..beat("w", max)
    }
}

#[test]
fn a_create_that_heartbeats_show_already_is_counted_once() {
    let now = clock::now();
    let mut fleet = fleet(now, [beat("w", 2)]);
    let first = place(&mut fleet, now, 1).unwrap();
    let id = SessionId::random().unwrap();
    let shown = showing(2, 1, &[&id]);
    fleet.heartbeat(now, clock::wall(), shown).unwrap();
    let second = place(&mut fleet, now, 1).unwrap();
    assert!(place(&mut fleet, now, 1).is_err());
    // Once shown, an outcome nobody knows needs no more doubt.
    fleet.outcome_unknown(now, first);
    let shown = showing(2, 2, &[&id]);
    fleet.heartbeat(now, clock::wall(), shown).unwrap();
    assert!(place(&mut fleet, now, 1).is_err());
    fleet.refused(second);
    let shown = showing(2, 3, &[]);
    fleet.heartbeat(now, clock::wall(), shown).unwrap();
    let both = [place(&mut fleet, now, 1), place(&mut fleet, now, 1)];
    assert!(both.iter().all(Result::is_ok));
}

#[test]
fn creates_for_one_body_do_not_use_each_others_slots() {
    let now = clock::now();
    let mut fleet = fleet(now, [beat("w", 2)]);
    let slow = place(&mut fleet, now, 1).unwrap();
    let quick = place(&mut fleet, now, 1).unwrap();
    let id = SessionId::random().unwrap();
    let shown = showing(2, 1, &[&id]);
    fleet.heartbeat(now, clock::wall(), shown).unwrap();
    let answer = Created {
        session_id: id,
        stream_url: String::new(),
        worker_id: "w".to_owned(),
        status: Status::Ready,
    };
    let wall = clock::wall();
    let _ = fleet.created(now, wall, quick, &request(None), &answer);
    assert!(
        place(&mut fleet, now, 1).is_err(),
        "the slow one has its slot"
    );
    drop(slow);
}

#[test]
fn a_listed_session_is_that_of_a_create_in_progress_before_one_with_an_unknown_outcome() {
    let now = clock::now();
    let mut fleet = fleet(now, [beat("w", 2)]);
    let (lost, quick) = (
        place(&mut fleet, now, 1).unwrap(),
        place(&mut fleet, now, 1).unwrap(),
    );
    fleet.outcome_unknown(now, lost);
    // The worker composed this before it made the session of the lost create.
    let id = SessionId::random().unwrap();
    let shown = showing(2, 1, &[&id]);
    fleet.heartbeat(now, clock::wall(), shown).unwrap();
    let answer = Created {
        session_id: id,
        stream_url: String::new(),
        worker_id: "w".to_owned(),
        status: Status::Ready,
    };
    let _ = fleet.created(now, clock::wall(), quick, &request(None), &answer);
    assert!(
        place(&mut fleet, now, 1).is_err(),
        "the lost one has its slot"
    );
}

/// Prints, for `--nocapture`; never fails for being slow.
#[test]
fn pace_of_placements_and_heartbeats() {
    let now = clock::now();
    let beats = |n: usize| (0..n).map(|n| beat(&format!("w{n:05}"), 15));
    let mut crowd = fleet(now, beats(1_000));
    let (rounds, begun) = (5_000_u64, clock::now());
    for seed in 0..rounds {
        let reservation = place(&mut crowd, now, seed).unwrap();
        crowd.refused(reservation);
    }
    let each = begun.elapsed() / rounds as u32;
    println!("a placement over 1,000 workers: {each:?}");

    let mut crowd = Fleet::new(now, PACE);
    let all: Vec<Heartbeat> = beats(10_000).collect();
    let begun = clock::now();
    for _ in 0..2 {
        for beat in &all {
            crowd.heartbeat(now, clock::wall(), beat.clone()).unwrap();
        }
    }
    let each = begun.elapsed() / 20_000;
    println!("a heartbeat among 10,000 workers: {each:?}");
    assert_eq!(crowd.totals(now).max_sessions, 150_000);
}
