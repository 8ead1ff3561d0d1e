//! Slots and keys: never more sessions than a worker has slots, never two for one key.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use crate::support::*;

#[test]
fn the_sixteenth_session_on_fifteen_slots_is_refused_with_advice() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    for _ in 0..15 {
        worker.session();
    }
    let refused = worker.create();
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "no_capacity")
    );
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(worker.sessions().len(), 15);
    let health = worker.get("/api/v1/health");
    assert_eq!(health["extra"]["active_sessions"], 15);
    assert_eq!(worker.call("GET", "/readyz", None).status, 503);
}

#[test]
fn fifty_creates_at_once_fill_fifteen_slots_exactly() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let answers = at_once(50, |_| controller.create());
    let made: HashSet<String> = answers
        .iter()
        .filter(|a| a.status == 201)
        .map(|a| a.json()["session_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(made.len(), 15);
    let refused: Vec<_> = answers.iter().filter(|a| a.status != 201).collect();
    assert_eq!(refused.len(), 35);
    for answer in refused {
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (503, "no_capacity")
        );
        assert!(answer.field("retry-after").is_some());
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("w1"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(worker.sessions().len(), 15);
}

#[test]
fn thirty_creates_at_once_on_three_workers_are_even_within_one() {
    let bench = Bench::new();
    let controller = bench.controller();
    let workers: Vec<Node> = ["w1", "w2", "w3"]
        .iter()
        .map(|id| bench.worker(id, Some(&controller), json!({})))
        .collect();
    until("three healthy workers", || {
        let all = controller.get("/api/v1/workers");
        all.as_array()
            .unwrap()
            .iter()
            .filter(|w| w["status"] == "healthy")
            .count()
            == 3
    });
    let answers = at_once(30, |_| controller.create());
    let mut by_worker: HashMap<String, usize> = HashMap::new();
    for answer in &answers {
        assert_eq!(answer.status, 201, "{}", answer.text());
        *by_worker
            .entry(answer.json()["worker_id"].to_string())
            .or_default() += 1;
    }
    let counts: Vec<usize> = workers.iter().map(|w| w.sessions().len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 30);
    assert!(
        counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
        "{counts:?}"
    );
    assert_eq!(by_worker.len(), 3, "{by_worker:?}");
    // One more on each side of full: the fleet's sum is what its workers have.
    until("the sum", || {
        controller.get("/api/v1/health")["extra"]["active_sessions"] == 30
    });
}

#[test]
fn one_key_makes_one_session_however_often_it_is_sent() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    for (round, node) in [&controller, &worker].into_iter().enumerate() {
        let key = format!("key-{round}");
        let fields = [("Idempotency-Key", key.as_str())];
        let wish = json!({"body_ip": "127.0.0.1"});
        let answers = at_once(10, |_| {
            node.call_with("POST", "/api/v1/sessions", &fields, Some(wish.clone()))
        });
        let ids: HashSet<String> = answers
            .iter()
            .map(|a| a.json()["session_id"].to_string())
            .collect();
        assert!(answers.iter().all(|a| a.status == 201), "{answers:?}");
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(worker.sessions().len(), round + 1);
        let other = json!({"body_ip": "127.0.0.1", "experience": "another"});
        let mismatch = node.call_with("POST", "/api/v1/sessions", &fields, Some(other));
        assert_eq!(
            (mismatch.status, mismatch.reason().as_str()),
            (422, "idempotency_mismatch")
        );
    }
}

#[test]
fn a_session_is_deleted_once_and_quit_as_often_as_one_likes() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    for node in [&controller, &worker] {
        let id = node.session();
        assert_eq!(node.delete(&id), 204);
        assert_eq!(node.delete(&id), 404);
        assert_eq!(controller.delete(&id), 404);
        let id = node.session();
        let quit = format!("/session/{id}/quit");
        assert_eq!(node.browse("POST", &quit, None).status, 204);
        assert_eq!(node.browse("POST", &quit, None).status, 204);
        worker.forgets(&id);
        assert_eq!(node.browse("POST", &quit, None).status, 204);
        assert_eq!(bench.one_record(&id)["end_reason"], "quit");
        controller.forgets(&id);
    }
    worker.has_nothing_left();
}
