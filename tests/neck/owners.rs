//! A body belongs to one session at a time.

use std::time::Duration;

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::demo::body::Faults;
use serde_json::{Value, json};

use crate::support::*;

/// A refusal comes within a second, whatever else goes on.
const AT_ONCE: Duration = Duration::from_secs(1);

fn alone(bench: &Bench, more: Value) -> Node {
    let mut config = json!({"bodies": {"sessions_max": 1}});
    merge(&mut config, more);
    bench.worker("w1", None, config)
}

/// Refused because that session has the body, at once.
fn is_busy(node: &Node, owner: &str, status: &str) {
    let asked = clock::now();
    let answer = node.create();
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (409, "body_busy")
    );
    let said = &answer.json()["owner"];
    assert_eq!(
        (&said["session_id"], &said["worker_id"]),
        (&owner.into(), &"w1".into())
    );
    assert_eq!(said["status"], status, "{said}");
    assert_eq!(said["connected"], status == "connected", "{said}");
}

fn reason(bench: &Bench, id: &str) -> Value {
    bench.one_record(id)["end_reason"].clone()
}

#[test]
fn a_body_that_a_session_has_is_refused_with_the_session() {
    let bench = Bench::new();
    let worker = alone(&bench, json!({}));
    let starting = worker.session_with(json!({"wait": false}));
    is_busy(&worker, &starting, "starting");
    until("it to be ready", || {
        worker.view(&starting)["status"] == "ready"
    });
    is_busy(&worker, &starting, "ready");
    let page = worker.page(&starting);
    worker.becomes(&starting, "connected");
    is_busy(&worker, &starting, "connected");
    assert_eq!(worker.delete(&starting), 204);
    drop(page);
    // What is ending is waited for.
    let next = worker.session();
    assert_eq!(worker.delete(&next), 204);
}

#[test]
fn a_takeover_ends_the_owner_first_and_of_two_at_once_one_wins() {
    let bench = Bench::new();
    let worker = alone(&bench, json!({}));
    let owner = worker.session();
    let page = worker.page(&owner);
    worker.becomes(&owner, "connected");
    let answers = at_once(2, |_| worker.create_with(json!({"takeover": true})));
    let mut statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    until("its page to be told", || page.text().contains("taken_over"));
    assert_eq!(reason(&bench, &owner), "taken_over");
    let made = answers.iter().find(|a| a.status == 201).unwrap();
    let made = made.json()["session_id"].as_str().unwrap().to_owned();
    assert_eq!(worker.view(&made)["status"], "ready");
    assert_eq!(worker.delete(&made), 204);
    worker.has_nothing_left();
}

#[test]
fn a_session_whose_visitor_went_or_never_came_gives_way_unasked() {
    let bench = Bench::new();
    let worker = alone(&bench, json!({"sessions": {"disconnect_grace": "2s"}}));
    let first = worker.session();
    is_busy(&worker, &first, "ready");
    let page = worker.page(&first);
    worker.becomes(&first, "connected");
    drop(page);
    worker.becomes(&first, "lingering");
    let second = worker.session();
    assert_eq!(reason(&bench, &first), "taken_over");
    let mut third = None;
    until("the second to be given up", || {
        let answer = worker.create();
        third = answer.json()["session_id"].as_str().map(str::to_owned);
        third.is_some()
    });
    assert_eq!(reason(&bench, &second), "taken_over");
    assert_eq!(worker.delete(&third.unwrap()), 204);
}

#[test]
fn an_adopted_session_keeps_its_body() {
    let bench = Bench::new();
    let mut worker = alone(&bench, json!({}));
    let id = worker.session();
    worker.kill();
    worker.restart();
    is_busy(&worker, &id, "ready");
    assert_eq!(worker.delete(&id), 204);
    worker.session();
}

#[test]
fn a_deleted_session_frees_its_slot_at_once_and_its_body_when_the_app_is_closed() {
    const CLOSE: Duration = Duration::from_secs(6);
    let bench = Bench::new();
    let worker = alone(&bench, json!({"sessions": {"max": 1}}));
    let id = worker.session();
    let _signalling = Signalling::open(worker.at, &prefix(&id));
    bench
        .body
        .fail(Faults {
            close_takes_ms: u64::try_from(CLOSE.as_millis()).unwrap(),
            ..Faults::default()
        })
        .unwrap();
    let asked = clock::now();
    assert_eq!(worker.delete(&id), 204);
    assert!(asked.elapsed() < CLOSE, "{:?}", asked.elapsed());
    assert_eq!(worker.view(&id)["status"], "ending");
    assert_eq!(worker.delete(&id), 404, "whoever ended it has the answer");
    assert!(bench.records(&id).is_empty(), "it has not ended yet");
    let next = worker.session();
    assert!(asked.elapsed() >= CLOSE, "{:?}", asked.elapsed());
    assert_eq!(reason(&bench, &id), "deleted");
    assert_eq!(worker.delete(&next), 204);
}

/// A controller and workers whose body belongs to one session at a time.
fn fleet(bench: &Bench, workers: usize) -> (Node, Vec<Node>) {
    let one = json!({"bodies": {"sessions_max": 1}});
    let controller = bench.controller_with(one.clone());
    let workers =
        (1..=workers).map(|n| bench.worker(&format!("w{n}"), Some(&controller), one.clone()));
    let workers: Vec<Node> = workers.collect();
    until("the workers", || {
        controller.get("/api/v1/workers").as_array().unwrap().len() == workers.len()
    });
    controller.is_warm();
    (controller, workers)
}

#[test]
fn a_body_belongs_to_one_session_in_the_whole_fleet() {
    let bench = Bench::new();
    let (controller, workers) = fleet(&bench, 2);
    let answers = at_once(4, |_| controller.create());
    let made: Vec<&Answer> = answers.iter().filter(|a| a.status == 201).collect();
    assert_eq!(made.len(), 1);
    let (id, worker) = (&made[0].json()["session_id"], &made[0].json()["worker_id"]);
    for refused in answers.iter().filter(|a| a.status != 201) {
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (409, "body_busy")
        );
        let owner = &refused.json()["owner"];
        assert_eq!((&owner["session_id"], &owner["worker_id"]), (id, worker));
    }
    let id = id.as_str().unwrap();
    let page = controller.page(id);
    controller.becomes(id, "connected");
    let events = controller.events();
    let taken = at_once(2, |_| controller.create_with(json!({"takeover": true})));
    let mut statuses: Vec<u16> = taken.iter().map(|a| a.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    until("its page to be told", || page.text().contains("taken_over"));
    assert_eq!(reason(&bench, id), "taken_over");
    until("the event", || events.tells("session_taken_over", id) == 1);
    let sessions: usize = workers.iter().map(|w| w.sessions().len()).sum();
    assert_eq!(sessions, 1);
    let next = taken.iter().find(|a| a.status == 201).unwrap().json()["session_id"].clone();
    assert_eq!(controller.delete(next.as_str().unwrap()), 204);
    // One that is ending is waited for.
    let last = controller.session();
    assert_eq!(controller.delete(&last), 204);
}

#[test]
fn a_controller_that_has_just_started_judges_when_its_workers_have_spoken() {
    let bench = Bench::new();
    let (mut controller, _workers) = fleet(&bench, 2);
    let id = controller.session();
    controller.kill();
    controller.restart();
    let answer = controller.create();
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (409, "body_busy")
    );
    assert_eq!(answer.json()["owner"]["session_id"], id.as_str());
    assert_eq!(controller.delete(&id), 204);
    controller.session();
}

#[test]
fn a_body_whose_owner_is_on_a_silent_worker_is_refused_with_the_reason() {
    let bench = Bench::new();
    let (controller, mut workers) = fleet(&bench, 2);
    let answer = controller.create();
    let owner = answer.json()["worker_id"].as_str().unwrap().to_owned();
    let silent = workers
        .iter_mut()
        .find(|w| w.config["worker"]["id"] == owner.as_str())
        .unwrap();
    silent.kill();
    let answer = controller.create_with(json!({"takeover": true}));
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (503, "worker_unreachable"),
        "{}",
        answer.text()
    );
    silent.restart();
    let mut answer = None;
    until("the worker to be back", || {
        let next = controller.create_with(json!({"takeover": true}));
        let is_made = next.status == 201;
        answer = Some(next);
        is_made
    });
}

#[test]
fn a_session_that_is_ended_while_it_starts_is_not_made_on_another_worker() {
    let bench = Bench::new();
    let (controller, workers) = fleet(&bench, 2);
    let answer = std::thread::scope(|scope| {
        let create = scope.spawn(|| controller.create());
        let mut id = None;
        until("the session", || {
            id = controller.sessions().first().map(|s| s["id"].clone());
            id.is_some()
        });
        assert_eq!(controller.delete(id.unwrap().as_str().unwrap()), 204);
        create.join().unwrap()
    });
    assert_eq!((answer.status, answer.reason().as_str()), (503, "deleted"));
    workers.iter().for_each(Node::has_nothing_left);
    until("the controller to know", || {
        controller.sessions().is_empty()
    });
}
